"""Reload: the configuration is replaced by a newly read one. If that has a mistake, the old one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from exporter.attempt import Failure, attempt_awaiting, attempt_in_thread
from exporter.config.settings import Config
from exporter.errors import ConfigError
from exporter.own import OwnMetrics
from exporter.web.access import AccessSettings

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The whole configuration, without mistakes."""

    config: Config
    access: AccessSettings


class Reloader:
    """Replaces the configuration by a newly read one. Keeps the old one if that has a mistake.

    :param load: reads the configuration and the web configuration; raises ConfigError
    :param apply: puts both into use All methods run in the event loop.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        apply: Callable[[Loaded], None],
        own: OwnMetrics,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._apply = apply
        self._own = own
        self._wall_clock = wall_clock
        self._next: asyncio.Future[list[str]] | None = None
        self._worker: asyncio.Task[None] | None = None

    def reload(self) -> asyncio.Future[list[str]]:
        """Start a reload of the configuration; return a future of its mistakes.

        At most one reload is under way. Requests that come meanwhile share the next one, which reads the
        files again. Two reloads start at least PAUSE_SECONDS apart, so that frequent requests do not fill the
        log.
        """
        loop = asyncio.get_running_loop()
        if self._next is None:
            self._next = loop.create_future()
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return self._next

    async def _work(self) -> None:
        """Reload as long as there are requests."""
        loop = asyncio.get_running_loop()
        while self._next is not None:
            asked, self._next = self._next, None
            began_at = loop.time()
            outcome = await attempt_awaiting(self._read_and_apply())
            if isinstance(outcome, Failure):
                asked.set_exception(outcome.error)
            else:
                asked.set_result(outcome.value)
            await asyncio.sleep(max(0.0, began_at + PAUSE_SECONDS - loop.time()))

    async def _read_and_apply(self) -> list[str]:
        outcome = await attempt_in_thread(self._load, name="reload")
        if isinstance(outcome, Failure):
            error = outcome.error
            mistakes = error.mistakes if isinstance(error, ConfigError) else [f"unexpected: {error!r}"]
            self._own.record_refused_load()
            for mistake in mistakes:
                log.error("configuration refused, the old one stays in use", extra={"mistake": mistake})
            return mistakes
        self._apply(outcome.value)
        self._own.record_load(now=self._wall_clock())
        log.info("configuration reloaded")
        return []

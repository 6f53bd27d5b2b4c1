"""Reload: the configuration is swapped for a newly read one, or stays as it is where that has a mistake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from exporter.attempt import Failure, attempt_in_thread
from exporter.config.settings import Config
from exporter.errors import ConfigError
from exporter.own import OwnMetrics
from exporter.web.access import AccessSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """All that is configured, without a mistake in it."""

    config: Config
    access: AccessSettings


class Reloader:
    """Swaps the configuration for a newly read one, or keeps the old one if that has a mistake.

    :param load: reads the configuration and the web configuration; raises ConfigError
    :param apply: puts both in force
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
        self._reloads: set[asyncio.Task[list[str]]] = set()
        self._one_at_a_time = asyncio.Lock()

    def start(self) -> None:
        """Reload without anybody waiting for it: what SIGHUP does."""
        reload = asyncio.get_running_loop().create_task(self.reload())
        self._reloads.add(reload)  # the event loop itself keeps no task from being collected
        reload.add_done_callback(self._reloads.discard)

    async def reload(self) -> list[str]:
        """Read the configuration anew and put it in force; return its mistakes, if it has any.

        One after the other: of two reloads, what the later one read is in force in the end.
        """
        async with self._one_at_a_time:
            return await self._read_and_apply()

    async def _read_and_apply(self) -> list[str]:
        outcome = await attempt_in_thread(self._load, name="reload")
        if isinstance(outcome, Failure):
            error = outcome.error
            mistakes = error.mistakes if isinstance(error, ConfigError) else [f"unexpected: {error!r}"]
            self._own.note_refused()
            for mistake in mistakes:
                log.error("configuration refused, the old one stays in force", extra={"mistake": mistake})
            return mistakes
        self._apply(outcome.value)
        self._own.note_loaded(now=self._wall_clock())
        log.info("configuration reloaded")
        return []

"""Reload: the configuration is replaced by a newly read one. If that has a mistake, the old one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from exporter.attempt import Failure, Success, attempt_awaiting, attempt_in_thread
from exporter.config.settings import Config
from exporter.errors import ConfigError, UnreadConfigError
from exporter.own import OwnMetrics
from exporter.web.access import AccessSettings

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0

# If a file system hangs, the thread that reads the configuration hangs too. After this time, the next reload
# may begin. It reads in a thread of its own.
READ_TIMEOUT_SECONDS = 30.0
MAX_HUNG_READS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The whole configuration, without mistakes."""

    config: Config
    access: AccessSettings


# The read's result comes as its outcome: a future of this never raises.
_Read = asyncio.Future[Success[Loaded] | Failure]


class Reloader:
    """Replaces the configuration by a newly read one. Keeps the old one if that has a mistake.

    :param load: reads the configuration and the web configuration; raises ConfigError
    :param apply: puts both into use
    :param read_timeout: how long the next reload waits for this one

    All methods run in the event loop.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        apply: Callable[[Loaded], None],
        own: OwnMetrics,
        *,
        wall_clock: Callable[[], float],
        read_timeout: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        self._load = load
        self._apply = apply
        self._own = own
        self._wall_clock = wall_clock
        self._read_timeout = read_timeout
        self._newest: _Read | None = None
        self._hung: dict[_Read, str] = {}  # when each began, the oldest first
        self._next: asyncio.Future[list[str]] | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def hung_reads(self) -> int:
        """How many reads of the configuration took too long and have not ended."""
        return len(self._hung)

    def reload(self) -> asyncio.Future[list[str]]:
        """Start a reload of the configuration; return a future of its mistakes.

        The future raises UnreadConfigError if the configuration is not read in time.

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
                if isinstance(outcome.error, UnreadConfigError):
                    asked.exception()  # logged already; now asyncio does not log it if nobody waits
            else:
                asked.set_result(outcome.value)
            await asyncio.sleep(max(0.0, began_at + PAUSE_SECONDS - loop.time()))

    async def _read_and_apply(self) -> list[str]:
        if len(self._hung) >= MAX_HUNG_READS:
            since = next(iter(self._hung.values()))
            raise self._note_unread(f"it is being read {len(self._hung)} times, the first since {since}")
        since = _format(self._wall_clock())
        self._newest = read = attempt_in_thread(self._load, name="reload")
        done, _pending = await asyncio.wait({read}, timeout=self._read_timeout)
        if done:
            return self._finish(read.result())
        self._hung[read] = since
        read.add_done_callback(self._end_hung)
        raise self._note_unread(f"it is still being read since {since}")

    def _end_hung(self, read: _Read) -> None:
        """Use what was read at last, unless a newer read has begun."""
        since = self._hung.pop(read)
        if read is self._newest:
            self._finish(read.result())
        else:
            log.info("configuration read too late, a newer read has begun", extra={"since": since})

    def _finish(self, outcome: Success[Loaded] | Failure) -> list[str]:
        """Put into use what was read. Return its mistakes."""
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

    def _note_unread(self, reason: str) -> UnreadConfigError:
        """Log that the configuration cannot be read now. Return the error for those who asked."""
        self._own.record_refused_load()
        message = f"configuration not reloaded, the old one stays in use: {reason}"
        log.error("%s", message)
        return UnreadConfigError(message)


def _format(seconds: float) -> str:
    """Return a time as the log has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

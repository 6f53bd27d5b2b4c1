"""What one scrape of one hypervisor did: `/probe?target=NAME&debug=true`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from exporter.compute.host_state import HostState
from exporter.config.libvirt_uri import hide_user
from exporter.config.settings import Config, HypervisorConfig
from exporter.metric import Collector
from exporter.model import HostView, Severity
from exporter.page.quantity import printable
from exporter.recorder import EARLIER, REFRESH, Entry, Recording
from exporter.scrape import collect_families
from exporter.web.exposition import render_text
from exporter.web.messages import BadRequestError, Response
from exporter.web.viewers import Viewers

# A debug request reads the hypervisor even if the cache is fresh, but not more often than this.
DEBUG_INTERVAL_SECONDS = 1.0

# Only hostile names and messages are longer than this.
MAX_CHARACTERS = 400

# Names of users, which are not shown.
_USERS = ("rbd_user",)

# The settings that affect a refresh, besides the hypervisor's own.
_TIMES = ("cache_ttl", "scrape_timeout", "stale_grace", "resync_interval")


@dataclass(frozen=True, slots=True)
class Scrape:
    """How to scrape one hypervisor.

    :ivar run: refreshes it, with the parameters of HostState.get_host_stats, and returns its view
    """

    hypervisor: HypervisorConfig
    host: HostState
    run: Callable[..., Awaitable[list[HostView]]]


class _Recorded(NamedTuple):
    """A scrape of one hypervisor, and its recording."""

    views: Sequence[HostView]
    recording: Recording
    ended_at: float


class Debugger:
    """Answers `debug=true`: scrapes one hypervisor, and shows what was done for it.

    :param clock: the hosts' monotonic clock
    """

    def __init__(self, viewers: Viewers, *, clock: Callable[[], float]) -> None:
        self._viewers = viewers
        self._clock = clock
        self._debugs: WeakKeyDictionary[HostState, asyncio.Task[_Recorded]] = WeakKeyDictionary()
        self._debugged_at: WeakKeyDictionary[HostState, float] = WeakKeyDictionary()

    async def answer(self, scrape: Scrape, collectors: Sequence[Collector], config: Config) -> Response:
        """Read one hypervisor again, and answer with a record of that, within `scrape_timeout`.

        Who comes while that goes on shares it. So no client's own deadline counts.
        """
        return await self._viewers.serve(self._debug(scrape, collectors, config))

    async def _debug(self, scrape: Scrape, collectors: Sequence[Collector], config: Config) -> Response:
        debugging = self._debugs.get(scrape.host)
        if debugging is None or debugging.done():
            debugging = asyncio.get_running_loop().create_task(self._record(scrape, config.scrape_timeout))
            self._debugs[scrape.host] = debugging
        recorded = await asyncio.shield(debugging)
        if not recorded.views:
            raise BadRequestError("a reload has just taken this hypervisor out of the configuration")
        render = partial(_make_response, recorded, scrape.hypervisor, config, collectors)
        key = (recorded.recording, tuple(each.name for each in collectors))
        return await self._viewers.renderings.get(key, render, in_thread=True)

    async def _record(self, scrape: Scrape, timeout: float) -> _Recorded:
        """Read and scrape one hypervisor, at most once a second."""
        now = self._clock()
        earliest = self._debugged_at.get(scrape.host, -math.inf) + DEBUG_INTERVAL_SECONDS
        if earliest > now:
            await asyncio.sleep(earliest - now)
        self._debugged_at[scrape.host] = self._clock()
        with scrape.host.recording() as recording:
            views = await scrape.run(refresh=True, deadline=self._clock() + timeout)
            return _Recorded(views, recording, self._clock())


@dataclass(frozen=True, kw_only=True, slots=True)
class Debugged:
    """All that is known about a scrape of one hypervisor.

    :ivar ended_at: when the answer was due, on the recorder's clock
    :ivar metrics: what the scrape would have returned
    """

    hypervisor: HypervisorConfig
    config: Config
    view: HostView
    recording: Recording
    ended_at: float
    metrics: str


def render_debug(debugged: Debugged) -> bytes:
    """Return the text. Foreign names and messages are shown without control characters and line ends."""
    entries = debugged.recording.get_entries()
    sections = (
        ("", _describe_refresh(debugged, entries)),
        ("Steps and calls, in seconds since the refresh began", _list_entries(debugged, entries)),
        ("Earlier answers that count", _list_earlier(entries)),
        ("Problems", _list_problems(debugged.view)),
        ("Configuration in force (without users and passwords)", _list_settings(debugged)),
        ("Metrics that the scrape would have returned", iter(debugged.metrics.splitlines())),
    )
    lines = [
        line
        for title, content in sections
        for line in (*((f"{title}:", "") if title else ()), *(list(content) or ["none"]), "", "")
    ]
    return "\n".join(lines[:-1]).encode(errors="replace")


def _make_response(
    recorded: _Recorded, hypervisor: HypervisorConfig, config: Config, collectors: Sequence[Collector]
) -> Response:
    (view,) = recorded.views
    debugged = Debugged(
        hypervisor=hypervisor,
        config=config,
        view=view,
        recording=recorded.recording,
        ended_at=recorded.ended_at,
        metrics=render_text(collect_families([view], collectors)).decode(),
    )
    return Response(
        body=render_debug(debugged),
        content_type="text/plain; charset=utf-8",
        headers={"x-content-type-options": "nosniff", "cache-control": "no-store"},
    )


def _describe_refresh(debugged: Debugged, entries: Sequence[Entry]) -> Iterator[str]:
    view, recording = debugged.view, debugged.recording
    yield f"Refresh of {_clean(view.target)}: {_describe_end(debugged, entries)}."
    refresh = _find_refresh(entries)
    if refresh is not None and refresh.started_at < recording.began_at:
        since = recording.began_at - refresh.started_at
        yield (
            f"It was under way already, since {since:.3f} s before this request, which shares it:"
            " what had ended by then is not shown."
        )
    if view.refresh is not None:
        cost = view.refresh
        yield (
            f"The last refresh that ended took {cost.duration_seconds:.4f} s, {cost.libvirt_calls} calls to"
            f" libvirt, and read {cost.guests_read} guests."
        )
    age = "there are no numbers" if view.age_seconds is None else f"{view.age_seconds:.3f} s old"
    yield f"Up: {'yes' if view.is_up else 'no'}. Numbers: {age}. Calls that hang: {view.hung_calls}."


def _describe_end(debugged: Debugged, entries: Sequence[Entry]) -> str:
    refresh = _find_refresh(entries)
    if refresh is None:
        return "none was made"
    if refresh.ended_at is None:
        return (
            f"still under way after {debugged.ended_at - refresh.started_at:.3f} s, when this answer was due"
        )
    return f"ended after {refresh.ended_at - refresh.started_at:.4f} s"


def _find_refresh(entries: Sequence[Entry]) -> Entry | None:
    return next((each for each in entries if each.name == REFRESH), None)


def _list_entries(debugged: Debugged, entries: Sequence[Entry]) -> Iterator[str]:
    refresh = _find_refresh(entries)
    zero = debugged.recording.began_at if refresh is None else refresh.started_at
    shown = [each for each in entries if each.kind != EARLIER]
    if shown:
        yield f"{'begun':>9} {'took':>10}  {'kind':<8} what: outcome [thread]"
    for entry in shown:
        begun = f"{entry.started_at - zero:.4f}"
        if entry.ended_at is None:
            took, outcome = f">{debugged.ended_at - entry.started_at:.4f}", "UNDER WAY"
        else:
            took, outcome = f"{entry.ended_at - entry.started_at:.4f}", entry.outcome
        what = f"{entry.name} {entry.subject}".rstrip()
        words = f"{_clean(what)}: {_clean(outcome)} [{_clean(entry.thread)}]"
        yield f"{begun:>9} {took:>10}  {entry.kind:<8} {words}"
    if debugged.recording.left_out:
        yield f"and {debugged.recording.left_out} more"


def _list_earlier(entries: Sequence[Entry]) -> Iterator[str]:
    return (f"{_clean(each.name)}: {_clean(each.outcome)}" for each in entries if each.kind == EARLIER)


def _list_problems(view: HostView) -> Iterator[str]:
    for problem in view.problems:
        kind = "note" if problem.severity is Severity.NOTE else "error"
        advice = f". {problem.advice}" if problem.advice else ""
        yield _clean(f"{kind}, reason {problem.reason}: {problem.message}{advice}")


def _list_settings(debugged: Debugged) -> Iterator[str]:
    hypervisor, config = debugged.hypervisor, debugged.config
    for name in _TIMES:
        yield f"{name}: {getattr(config, name):g}s"
    disabled = ", ".join(sorted(config.disabled_collectors)) or "none"
    yield f"disabled collectors: {disabled}"
    shown = {
        field.name: getattr(hypervisor, field.name)
        for field in fields(hypervisor)
        if field.name not in _USERS
    }
    shown |= {"uri": hide_user(hypervisor.uri), "flavors": [flavor.name for flavor in hypervisor.flavors]}
    for name, value in shown.items():
        yield _clean(f"{name}: {value!r}")


def _clean(text: str) -> str:
    return printable(text, MAX_CHARACTERS)

"""The routes: the answer of each path, and the negotiation of a scrape's deadline and format."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from exporter.compute.host_state import HostState
from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config, HypervisorConfig
from exporter.metric import Collector
from exporter.model import HostView
from exporter.own import OwnMetrics
from exporter.recorder import Recording
from exporter.scrape import collect_families
from exporter.web.accept import parse_weights
from exporter.web.access import Access
from exporter.web.debug import Debugged, render_debug
from exporter.web.exposition import Format, choose_format, render_text
from exporter.web.messages import Request, Response
from exporter.web.passwords import BusyError
from exporter.web.probe import ProbeError, ProbeTargets
from exporter.web.rendering import Renderings, Together

# Prometheus measures its timeout itself. This much of it is left for rendering and the network.
SCRAPE_TIMEOUT_MARGIN_SECONDS = 0.5
SCRAPE_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"

# The page waits no longer than this. The audit continues until the deadline of a scrape: the page must not
# mark a hypervisor as late earlier than a scrape would.
PAGE_TIMEOUT_SECONDS = 2.0
MAX_VIEWERS = 32

# If a file system hangs, at most this many clients wait, and at most this long.
RELOAD_TIMEOUT_SECONDS = 30.0
BUSY_PAUSE_SECONDS = 0.5
MAX_WAITING_FOR_RELOAD = 16

# A scrape that last had so many samples, or more, is rendered in a thread: in the event loop it would keep
# everybody else waiting for longer than a thread takes to begin. 100 samples take 0.3 ms.
MANY_SAMPLES = 500

# A debug request reads the hypervisor even if the cache is fresh, but not more often than this.
DEBUG_INTERVAL_SECONDS = 1.0

_GZIP_LEVEL = 1  # a higher level gains little on such text
_GZIP_MIN_BYTES = 1024
_READ_METHODS = ("GET", "HEAD")
HEALTH_PATHS = ("/-/healthy", "/-/ready")

Route = Callable[[Request], Awaitable[Response]]


class BadRequestError(Exception):
    """The request is wrong. The message says so in one line."""


@dataclass(frozen=True, slots=True)
class _Scrape:
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


class Web:
    """Answers requests from the tracker and the probe targets.

    :param collectors: all there are
    :param reload: starts a reload, and returns a future of its mistakes
    :param reload_timeout: how long a client waits for it
    :param busy_pause: how long one waits for being told that too many passwords wait already
    :param clock: the hosts' monotonic clock
    """

    def __init__(
        self,
        config: Config,
        *,
        tracker: ResourceTracker,
        probe_targets: ProbeTargets,
        collectors: Sequence[Collector],
        own: OwnMetrics,
        reload: Callable[[], asyncio.Future[list[str]]],
        access: Access,
        clock: Callable[[], float],
        reload_timeout: float = RELOAD_TIMEOUT_SECONDS,
        busy_pause: float = BUSY_PAUSE_SECONDS,
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._probe_targets = probe_targets
        self._all_collectors = collectors
        self._own = own
        self._start_reload = reload
        self._waiting_for_reload = 0
        self._reload_timeout = reload_timeout
        self._busy_pause = busy_pause
        self._updates: Together[list[HostView]] = Together()
        self._scrapes: Renderings[tuple[Response, int]] = Renderings("scrapes")
        # How many samples the last scrape had, by what was scraped: all hypervisors, or one.
        self._last_samples: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._debugs: WeakKeyDictionary[HostState, asyncio.Task[_Recorded]] = WeakKeyDictionary()
        self._debugged_at: WeakKeyDictionary[HostState, float] = WeakKeyDictionary()
        self._pages: Renderings[Response] = Renderings("page", rests=True)
        self._viewers = 0
        self._access = access
        self._clock = clock
        self._audit: asyncio.Task[list[HostView]] | None = None  # the page's

    def configure(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._config = config

    async def handle(self, request: Request) -> Response:
        """Answer one request, if the client has access."""
        response = await self._refuse(request) or await self._answer(request)
        configured = {name.lower(): value for name, value in self._access.settings.file.headers.items()}
        return replace(response, headers={**response.headers, **configured})

    async def _refuse(self, request: Request) -> Response | None:
        """Return why the sender may not ask; None if it may. Nothing below here looks at that again."""
        # Health checks have no limit where they tell nobody whether a password is right.
        is_limited = request.path not in HEALTH_PATHS or self._access.settings.file.users
        if is_limited and not self._access.take_token():
            return _plain(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
        try:
            is_known = await self._access.authenticate(request.headers, request.client)
        except BusyError:
            await asyncio.sleep(self._busy_pause)  # whoever tries again at once would keep the processor busy
            return _plain(HTTPStatus.TOO_MANY_REQUESTS, "Too many passwords at once")
        if not is_known:
            challenge = {"www-authenticate": 'Basic realm="hypervisor-exporter", charset="UTF-8"'}
            return _plain(HTTPStatus.UNAUTHORIZED, "Unauthorized", **challenge)
        return None

    async def _answer(self, request: Request) -> Response:
        methods, route = self._find_route(request.path)
        if route is None:
            telemetry_path = self._config.web.telemetry_path
            return _plain(HTTPStatus.NOT_FOUND, f"Not found. Metrics are at {telemetry_path}")
        if request.method not in methods:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed", allow=", ".join(methods))
        try:
            return await route(request)
        except (BadRequestError, ProbeError) as error:
            return _plain(HTTPStatus.BAD_REQUEST, str(error))

    def _find_route(self, path: str) -> tuple[Sequence[str], Route | None]:
        routes: dict[str, tuple[Sequence[str], Route]] = {
            self._config.web.telemetry_path: (_READ_METHODS, self._metrics),
            "/": (_READ_METHODS, self._page),
            "/probe": (_READ_METHODS, self._probe),
            "/sd": (_READ_METHODS, self._service_discovery),
            "/-/healthy": (_READ_METHODS, self._healthy),
            "/-/ready": (_READ_METHODS, self._ready),
            "/-/reload": (("POST", "PUT"), self._reload),
        }
        return routes.get(path, ((), None))

    async def _metrics(self, request: Request) -> Response:
        parameters = _parameters(request)
        collectors = self._choose_collectors(parameters)
        own = None if "collect[]" in parameters else self._own
        if _is_debugged(parameters):
            if len(self._tracker.hosts) != 1:
                raise BadRequestError("debug=true is about one hypervisor: /probe?target=NAME&debug=true")
            scrape = self._find_scrape("", self._tracker.hosts[0].target)
            return await self._serve_viewer(self._debug(scrape, collectors, request))
        timeout = scrape_timeout(request.headers, self._config.scrape_timeout)
        views = await self._updates.get(
            timeout, lambda: self._tracker.update_available_resource(deadline=self._clock() + timeout)
        )
        return await self._answer_with(self._tracker, views, collectors, own, request)

    async def _probe(self, request: Request) -> Response:
        """Answer for one hypervisor: a configured one by its name, or one that a module allows."""
        parameters = _parameters(request)
        collectors = self._choose_collectors(parameters)
        target, module = _one(parameters, "target"), _one(parameters, "module")
        scrape = self._find_scrape(module, target)
        if _is_debugged(parameters):
            return await self._serve_viewer(self._debug(scrape, collectors, request))
        views = await scrape.run(refresh=False, deadline=self._deadline(request))
        return await self._answer_with(scrape.host, views, collectors, None, request, target=(module, target))

    def _find_scrape(self, module: str, target: str) -> _Scrape:
        found = None if module else self._tracker.find(target)
        if found is not None:
            return _Scrape(*found, partial(self._tracker.update_available_resource, target=target))
        module = module or "default"
        host = self._probe_targets.get(module, target)
        return _Scrape(self._probe_targets.find_settings(module, target), host, partial(_update, host))

    async def _debug(self, scrape: _Scrape, collectors: Sequence[Collector], request: Request) -> Response:
        """Read one hypervisor again, and answer with a record of that.

        Who comes while that goes on shares it.
        """
        debugging = self._debugs.get(scrape.host)
        if debugging is None or debugging.done():
            debugging = asyncio.get_running_loop().create_task(self._record(scrape, request))
            self._debugs[scrape.host] = debugging
        recorded = await asyncio.shield(debugging)
        if not recorded.views:
            raise BadRequestError("a reload has just taken this hypervisor out of the configuration")
        render = partial(_render_debug, recorded, scrape.hypervisor, self._config, collectors)
        key = (recorded.recording, tuple(each.name for each in collectors))
        return await self._pages.get(key, render, in_thread=True)

    async def _record(self, scrape: _Scrape, request: Request) -> _Recorded:
        """Read and scrape one hypervisor, at most once a second."""
        now = self._clock()
        earliest = self._debugged_at.get(scrape.host, -math.inf) + DEBUG_INTERVAL_SECONDS
        if earliest > now:
            await asyncio.sleep(earliest - now)
        self._debugged_at[scrape.host] = self._clock()
        with scrape.host.recording() as recording:
            views = await scrape.run(refresh=True, deadline=self._deadline(request))
            return _Recorded(views, recording, self._clock())

    async def _answer_with(
        self,
        scraped: object,
        views: Sequence[HostView],
        collectors: Sequence[Collector],
        own: OwnMetrics | None,
        request: Request,
        *,
        target: tuple[str, str] = ("", ""),
    ) -> Response:
        """Answer with metrics: in a thread where the last scrape had many samples, or there was none yet.

        :param scraped: what the views are of; one or all
        """
        exposition = choose_format(request.headers.get("accept", ""))
        gzipped = _accepts_gzip(request)
        names = tuple(each.name for each in collectors)
        response, samples = await self._scrapes.get(
            (target, names, own is None, exposition.content_type, gzipped),
            partial(_render, views, collectors, own, exposition, gzipped=gzipped),
            in_thread=self._last_samples.get(scraped, MANY_SAMPLES) >= MANY_SAMPLES,
            is_special=len(names) < len(self._choose_collectors({})),
        )
        self._last_samples[scraped] = samples
        return response

    async def _service_discovery(self, request: Request) -> Response:
        """Answer with one target group for each configured hypervisor, to be scraped by `/probe`.

        The labels that the configuration gives it are target labels: every series of it has them.
        """
        groups = [
            {
                "targets": [request.headers.get("host", "localhost:9177")],
                "labels": {
                    **dict(host.labels),
                    "__metrics_path__": "/probe",
                    "__param_target": host.target,
                    "instance": host.target,
                },
            }
            for host in self._tracker.hosts
        ]
        return Response(body=json.dumps(groups).encode(), content_type="application/json")

    async def _page(self, request: Request) -> Response:
        """Answer with the page, soon. What takes longer is shown by the next request.

        People get what scrapes leave: MAX_VIEWERS requests at once, and one rendering at a time.
        """
        return await self._serve_viewer(self._render_newest_page(request))

    async def _serve_viewer(self, answer: Coroutine[Any, Any, Response]) -> Response:
        if self._viewers >= MAX_VIEWERS:
            answer.close()
            return _plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "Too many people look at this", **{"retry-after": "2"}
            )
        self._viewers += 1
        try:
            return await answer
        finally:
            self._viewers -= 1

    async def _render_newest_page(self, request: Request) -> Response:
        audit = self._audit
        if audit is None or audit.done():
            update = self._tracker.update_available_resource(deadline=self._deadline(request))
            audit = self._audit = asyncio.get_running_loop().create_task(update)
        # Another request may have started the next audit while this one waited.
        done, _pending = await asyncio.wait({audit}, timeout=PAGE_TIMEOUT_SECONDS)
        views = audit.result() if done else self._tracker.get_views()
        path, address = self._config.web.telemetry_path, request.headers.get("host", "")
        gzipped = _accepts_gzip(request)
        return await self._pages.get(
            (path, address, gzipped),
            partial(_render_page, views, path, address, gzipped=gzipped),
            in_thread=True,
        )

    async def _healthy(self, _request: Request) -> Response:
        return _plain(HTTPStatus.OK, "Healthy")

    async def _ready(self, _request: Request) -> Response:
        # The port opens only after the first audit, so every request can be served.
        return _plain(HTTPStatus.OK, "Ready")

    async def _reload(self, request: Request) -> Response:
        if is_foreign(request.headers):
            return _plain(HTTPStatus.FORBIDDEN, "A page of another site asks for this")
        if self._waiting_for_reload >= MAX_WAITING_FOR_RELOAD:
            return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "A reload is under way, and many wait for it")
        reload = self._start_reload()
        self._waiting_for_reload += 1
        try:
            done, _pending = await asyncio.wait({reload}, timeout=self._reload_timeout)
        finally:
            self._waiting_for_reload -= 1
        if not done:
            text = f"Not reloaded within {self._reload_timeout:g} s. It goes on; the log says how it ends"
            return _plain(HTTPStatus.GATEWAY_TIMEOUT, text)
        mistakes = reload.result()
        if mistakes:
            text = "\n".join(["The old configuration stays in use:", *mistakes])
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        return _plain(HTTPStatus.OK, "Reloaded")

    def _deadline(self, request: Request) -> float:
        return self._clock() + scrape_timeout(request.headers, self._config.scrape_timeout)

    def _choose_collectors(self, parameters: Mapping[str, list[str]]) -> list[Collector]:
        """Return the enabled collectors, or those of them that `collect[]` names."""
        disabled = self._config.disabled_collectors
        enabled = {each.name: each for each in self._all_collectors if each.name not in disabled}
        wanted = parameters.get("collect[]", list(enabled))
        unknown = [name for name in wanted if name not in enabled]
        if unknown:
            raise BadRequestError(f"no collector {unknown[0]!r} (enabled: {', '.join(enabled)})")
        return [enabled[name] for name in dict.fromkeys(wanted)]


async def _update(host: HostState, *, refresh: bool, deadline: float) -> list[HostView]:
    await host.get_host_stats(refresh=refresh, deadline=deadline)
    return [host.get_view()]


def scrape_timeout(headers: Mapping[str, str], upper_bound: float) -> float:
    """Return how many seconds a scrape may take: Prometheus' header minus a margin, at most the upper bound.

    A header that is not a positive number is ignored.
    """
    try:
        promised = float(headers.get(SCRAPE_TIMEOUT_HEADER, ""))
    except ValueError:
        return upper_bound
    if not math.isfinite(promised) or promised <= 0:
        return upper_bound
    margin = min(SCRAPE_TIMEOUT_MARGIN_SECONDS, promised / 2)
    return min(upper_bound, promised - margin)


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser sent this request from another site's page (a form, a script).

    Such a request has the browser's passwords and certificates. Browsers name the page's site in
    Sec-Fetch-Site or Origin; Prometheus' tools and curl send neither.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _parameters(request: Request) -> dict[str, list[str]]:
    try:
        return parse_qs(request.query, keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise BadRequestError("too many parameters") from error


def _is_debugged(parameters: Mapping[str, list[str]]) -> bool:
    """Whether the request asks for debug output instead of metrics."""
    value = _one(parameters, "debug")
    if value not in ("", "true", "false"):
        raise BadRequestError("the parameter debug is true or false")
    return value == "true"


def _one(parameters: Mapping[str, list[str]], name: str) -> str:
    """Return the parameter's value, or an empty text if it is not given."""
    values = parameters.get(name, [""])
    if len(values) > 1:
        raise BadRequestError(f"the parameter {name} is given more than once")
    return values[0]


def _render(
    views: Sequence[HostView],
    collectors: Sequence[Collector],
    own: OwnMetrics | None,
    exposition: Format,
    *,
    gzipped: bool,
) -> tuple[Response, int]:
    """Return the metrics, and how many samples they are."""
    families = collect_families(views, collectors, own)
    body = exposition.render(families)
    response = Response(
        body=body, content_type=exposition.content_type, headers={"vary": "accept, accept-encoding"}
    )
    samples = sum(len(family.samples) for family in families)
    return (_compress(response) if gzipped else response), samples


def _render_debug(
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


def _render_page(views: Sequence[HostView], metrics_path: str, address: str, *, gzipped: bool) -> Response:
    # Loaded when somebody looks, as Jinja2 is: it takes 1 MiB.
    from exporter.page.fleet import make_fleet
    from exporter.web.page import render_page

    page = render_page(make_fleet(views), metrics_path=metrics_path, address=address)
    response = Response(
        body=page.body,
        content_type="text/html; charset=utf-8",
        headers={**page.headers, "vary": "accept-encoding"},
    )
    return _compress(response) if gzipped else response


def _compress(response: Response) -> Response:
    """Return the response compressed, if that is useful."""
    if len(response.body) < _GZIP_MIN_BYTES:
        return response
    return replace(
        response,
        body=gzip.compress(response.body, compresslevel=_GZIP_LEVEL, mtime=0),
        headers={**response.headers, "content-encoding": "gzip"},
    )


def _accepts_gzip(request: Request) -> bool:
    weights = parse_weights(request.headers.get("accept-encoding", ""))
    return weights.get("gzip", weights.get("*", 0)) > 0


def _plain(status: HTTPStatus, text: str, **headers: str) -> Response:
    return Response(status=status, body=f"{text}\n".encode(errors="replace"), headers=headers)

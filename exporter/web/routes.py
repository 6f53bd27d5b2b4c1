"""The routes: the answer of each path, and who has access."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from http import HTTPStatus

from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config
from exporter.metric import Collector
from exporter.own import OwnMetrics
from exporter.web.access import Access
from exporter.web.messages import BadRequestError, Request, Response, make_plain
from exporter.web.passwords import BusyError
from exporter.web.probe import ProbeError, ProbeTargets
from exporter.web.reload import RELOAD_TIMEOUT_SECONDS, ReloadRoute
from exporter.web.scrapes import ScrapeRoutes
from exporter.web.viewers import PageRoute, Viewers

BUSY_PAUSE_SECONDS = 0.5

_READ_METHODS = ("GET", "HEAD")
HEALTH_PATHS = ("/-/healthy", "/-/ready")

Route = Callable[[Request], Awaitable[Response]]


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
        self._access = access
        self._busy_pause = busy_pause
        viewers = Viewers()
        self._scrapes = ScrapeRoutes(
            config,
            tracker=tracker,
            probe_targets=probe_targets,
            collectors=collectors,
            own=own,
            viewers=viewers,
            clock=clock,
        )
        self._page = PageRoute(config, tracker, viewers, clock=clock)
        self._reload = ReloadRoute(reload, timeout=reload_timeout)

    def configure(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._config = config
        self._scrapes.configure(config)
        self._page.configure(config)

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
            return make_plain(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
        try:
            is_known = await self._access.authenticate(request.headers, request.client)
        except BusyError:
            await asyncio.sleep(self._busy_pause)  # whoever tries again at once would keep the processor busy
            return make_plain(HTTPStatus.TOO_MANY_REQUESTS, "Too many passwords at once")
        if not is_known:
            challenge = {"www-authenticate": 'Basic realm="hypervisor-exporter", charset="UTF-8"'}
            return make_plain(HTTPStatus.UNAUTHORIZED, "Unauthorized", **challenge)
        return None

    async def _answer(self, request: Request) -> Response:
        methods, route = self._find_route(request.path)
        if route is None:
            telemetry_path = self._config.web.telemetry_path
            return make_plain(HTTPStatus.NOT_FOUND, f"Not found. Metrics are at {telemetry_path}")
        if request.method not in methods:
            return make_plain(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed", allow=", ".join(methods))
        try:
            return await route(request)
        except (BadRequestError, ProbeError) as error:
            return make_plain(HTTPStatus.BAD_REQUEST, str(error))

    def _find_route(self, path: str) -> tuple[Sequence[str], Route | None]:
        routes: dict[str, tuple[Sequence[str], Route]] = {
            # A telemetry_path of this name was allowed before there was this page, and comes first.
            "/guests": (_READ_METHODS, self._page.answer_guests),
            self._config.web.telemetry_path: (_READ_METHODS, self._scrapes.answer_metrics),
            "/": (_READ_METHODS, self._page.answer),
            "/probe": (_READ_METHODS, self._scrapes.answer_probe),
            "/sd": (_READ_METHODS, self._service_discovery),
            "/-/healthy": (_READ_METHODS, self._healthy),
            "/-/ready": (_READ_METHODS, self._ready),
            "/-/reload": (("POST", "PUT"), self._reload.answer),
        }
        return routes.get(path, ((), None))

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

    async def _healthy(self, _request: Request) -> Response:
        return make_plain(HTTPStatus.OK, "Healthy")

    async def _ready(self, _request: Request) -> Response:
        # The port opens only after the first audit, so every request can be served.
        return make_plain(HTTPStatus.OK, "Ready")

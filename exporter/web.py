"""The routes: which path answers what, and how a scrape's deadline and formats are negotiated."""

from __future__ import annotations

import asyncio
import gzip
import html
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from exporter.metric import Collector
from exporter.model import HostView
from exporter.scrape import make_registry
from exporter.server import Request, Response
from exporter.tracker import ResourceTracker

# Prometheus' time-out runs from its own clock: this much is left for the way back and the rendering.
SCRAPE_TIMEOUT_MARGIN_SECONDS = 0.5
SCRAPE_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"

_GZIP_LEVEL = 1  # text this repetitive gains little from more
_GZIP_MIN_BYTES = 1024

_LANDING_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hypervisor-exporter</title></head>
<body><h1>hypervisor-exporter</h1>
<p>Version {version}. Watching {count} hypervisor(s).</p>
<ul><li><a href="{metrics}">Metrics</a></li><li><a href="/-/healthy">Healthy</a></li>
<li><a href="/-/ready">Ready</a></li></ul></body></html>
"""


class Web:
    """Answers requests out of what the tracker knows.

    :param own: what the exporter says of itself
    :param scrape_timeout: upper bound of a scrape in seconds; Prometheus' header only lowers it
    :param clock: the hosts' monotonic clock
    """

    def __init__(
        self,
        tracker: ResourceTracker,
        *,
        collectors: Sequence[Collector],
        own: CollectorRegistry,
        telemetry_path: str,
        scrape_timeout: float,
        version: str,
        clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._collectors = {collector.name: collector for collector in collectors}
        self._own = own
        self._telemetry_path = telemetry_path
        self._scrape_timeout = scrape_timeout
        self._version = version
        self._clock = clock
        self._routes: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
            telemetry_path: self._metrics,
            "/": self._landing_page,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        route = self._routes.get(urlsplit(request.target).path)
        if route is None:
            return _plain(HTTPStatus.NOT_FOUND, f"Not found. Metrics are at {self._telemetry_path}")
        if request.method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed", allow="GET, HEAD")
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        deadline = self._clock() + scrape_timeout(request.headers, self._scrape_timeout)
        wanted = parse_qs(urlsplit(request.target).query).get("collect[]", [])
        unknown = [name for name in wanted if name not in self._collectors]
        if unknown:
            known = ", ".join(self._collectors)
            return _plain(HTTPStatus.BAD_REQUEST, f"No collector {', '.join(unknown)!r} (enabled: {known})")
        collectors = [self._collectors[name] for name in wanted or self._collectors]
        views = await self._tracker.update_available_resource(deadline=deadline)
        own = None if wanted else self._own
        return await asyncio.to_thread(_render, views, collectors, own, request.headers)

    async def _landing_page(self, _request: Request) -> Response:
        page = _LANDING_PAGE.format(
            version=html.escape(self._version),
            count=len(self._tracker.targets),
            metrics=html.escape(self._telemetry_path),
        )
        return Response(body=page.encode(), content_type="text/html; charset=utf-8")

    async def _healthy(self, _request: Request) -> Response:
        return _plain(HTTPStatus.OK, "Healthy")

    async def _ready(self, _request: Request) -> Response:
        # The port opens only after the first audit: whoever can ask is served.
        return _plain(HTTPStatus.OK, "Ready")


def scrape_timeout(headers: Mapping[str, str], upper_bound: float) -> float:
    """Return how many seconds a scrape may take, by Prometheus' header less a margin, and at most the bound.

    A header that is no positive number says nothing.
    """
    try:
        promised = float(headers.get(SCRAPE_TIMEOUT_HEADER, ""))
    except ValueError:
        return upper_bound
    if not math.isfinite(promised) or promised <= 0:
        return upper_bound
    margin = min(SCRAPE_TIMEOUT_MARGIN_SECONDS, promised / 2)
    return min(upper_bound, promised - margin)


def _render(
    views: Sequence[HostView],
    collectors: Sequence[Collector],
    own: CollectorRegistry | None,
    headers: Mapping[str, str],
) -> Response:
    encode, content_type = choose_encoder(headers.get("accept", ""))
    body = encode(make_registry(views, collectors, own))
    more = {"vary": "accept, accept-encoding"}
    if len(body) >= _GZIP_MIN_BYTES and _accepts_gzip(headers.get("accept-encoding", "")):
        body = gzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0)
        more["content-encoding"] = "gzip"
    return Response(body=body, content_type=content_type, headers=more)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header names gzip without the weight 0 (RFC 9110, 12.5.3)."""
    for item in accept_encoding.lower().split(","):
        coding, _, parameters = item.strip().partition(";")
        if coding.strip() in ("gzip", "*"):
            weight = parameters.replace(" ", "").removeprefix("q=")
            return weight not in ("0", "0.0", "0.00", "0.000")
    return False


def _plain(status: HTTPStatus, text: str, **headers: str) -> Response:
    return Response(status=status, body=f"{text}\n".encode(), headers=headers)

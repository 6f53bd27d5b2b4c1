"""People who look at the exporter: the pages at `/` and `/guests`, and how many may look.

They get what scrapes leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from exporter.compute.tracker import ResourceTracker
from exporter.config.libvirt_uri import quote
from exporter.config.settings import Config
from exporter.model import HostView
from exporter.web.compression import accepts_gzip, compress
from exporter.web.messages import BadRequestError, Request, Response, make_plain
from exporter.web.parameters import get_one, parse_parameters
from exporter.web.rendering import Renderings

if TYPE_CHECKING:
    from exporter.page.guest_rates import GuestRates

MAX_VIEWERS = 32

# The page waits no longer than this. The audit continues until the deadline of a scrape: the page must not
# mark a hypervisor as late earlier than a scrape would.
PAGE_TIMEOUT_SECONDS = 2.0


class Viewers:
    """Limits what people may ask for: MAX_VIEWERS requests at once, and one rendering at a time.

    :ivar renderings: makes what they look at, the page and what a debugged scrape did
    """

    def __init__(self) -> None:
        self.renderings: Renderings[Response] = Renderings("page", rests=True)
        self._viewers = 0

    async def serve(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """Return the answer, or a refusal if there are too many viewers."""
        if self._viewers >= MAX_VIEWERS:
            answer.close()
            return make_plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "Too many people look at this", **{"retry-after": "2"}
            )
        self._viewers += 1
        try:
            return await answer
        finally:
            self._viewers -= 1


class PageRoute:
    """Answers `/` with the page, and `/guests` with that of one hypervisor's guests, soon.

    What takes longer is shown by the next request.

    :param clock: the hosts' monotonic clock
    """

    def __init__(
        self, config: Config, tracker: ResourceTracker, viewers: Viewers, *, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._viewers = viewers
        self._clock = clock
        self._rates: GuestRates | None = None  # made when somebody looks at guests
        self._audit: asyncio.Task[list[HostView]] | None = None

    def configure(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._config = config

    async def answer(self, request: Request) -> Response:
        """Answer with the page."""
        return await self._viewers.serve(self._render_newest(request))

    async def answer_guests(self, request: Request) -> Response:
        """Answer with the guests of the hypervisor that the parameter `target` names.

        :raises BadRequestError: if there are several and it names none
        """
        return await self._viewers.serve(self._render_guests(request))

    async def _render_guests(self, request: Request) -> Response:
        target = get_one(parse_parameters(request), "target")
        targets = [host.target for host in self._tracker.hosts]
        if not target and len(targets) == 1:
            target = targets[0]
        if not target:
            raise BadRequestError("say which hypervisor: /guests?target=NAME, as the page at / has it")
        views = [view for view in await self._get_views() if view.target == target]
        found = self._tracker.find(target)
        if found is None or not views:
            text = f"No hypervisor is configured with the name {quote(target)}"
            return make_plain(HTTPStatus.NOT_FOUND, text)
        gzipped, show_owner_names = accepts_gzip(request), found[0].guests.show_owner_names
        return await self._viewers.renderings.get(
            ("guests", target, gzipped),
            partial(self._make_guests_response, views[0], show_owner_names=show_owner_names, gzipped=gzipped),
            in_thread=True,
        )

    def _make_guests_response(self, view: HostView, *, show_owner_names: bool, gzipped: bool) -> Response:
        # In the one thread of all renderings.
        from exporter.page.guest_rates import GuestRates
        from exporter.page.guests import make_guest_list
        from exporter.web.page import render_guests_page

        self._rates = self._rates or GuestRates()
        rates = None if view.snapshot is None else self._rates.get(view.snapshot)
        page = render_guests_page(make_guest_list(view, rates=rates, show_owner_names=show_owner_names))
        return _respond(page.body, page.headers, gzipped=gzipped)

    async def _render_newest(self, request: Request) -> Response:
        views = await self._get_views()
        path, address = self._config.web.telemetry_path, request.headers.get("host", "")
        gzipped = accepts_gzip(request)
        return await self._viewers.renderings.get(
            (path, address, gzipped),
            partial(_make_response, views, path, address, gzipped=gzipped),
            in_thread=True,
        )

    async def _get_views(self) -> Sequence[HostView]:
        """Return what is known of all hypervisors. They are read, unless they were just now."""
        audit = self._audit
        if audit is None or audit.done():
            # Viewers share it. So it does not go by the header of the one who comes first.
            deadline = self._clock() + self._config.scrape_timeout
            update = self._tracker.update_available_resource(deadline=deadline)
            audit = self._audit = asyncio.get_running_loop().create_task(update)
        # Another request may have started the next audit while this one waited.
        done, _pending = await asyncio.wait({audit}, timeout=PAGE_TIMEOUT_SECONDS)
        return audit.result() if done else self._tracker.get_views()


def _make_response(views: Sequence[HostView], metrics_path: str, address: str, *, gzipped: bool) -> Response:
    # Loaded when somebody looks, as Jinja2 is: it takes 1 MiB.
    from exporter.page.fleet import make_fleet
    from exporter.web.page import render_page

    page = render_page(make_fleet(views), metrics_path=metrics_path, address=address)
    return _respond(page.body, page.headers, gzipped=gzipped)


def _respond(body: bytes, headers: Mapping[str, str], *, gzipped: bool) -> Response:
    response = Response(
        body=body,
        content_type="text/html; charset=utf-8",
        headers={**headers, "vary": "accept-encoding"},
    )
    return compress(response) if gzipped else response

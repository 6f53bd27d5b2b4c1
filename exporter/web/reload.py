"""`/-/reload`: starts a reload of the configuration, and answers with its mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from exporter.errors import UnreadConfigError
from exporter.web.messages import Request, Response, make_plain

# If a file system hangs, at most this many clients wait, and at most this long.
RELOAD_TIMEOUT_SECONDS = 30.0
MAX_WAITING_FOR_RELOAD = 16


class ReloadRoute:
    """Answers `/-/reload`.

    :param reload: starts a reload, and returns a future of its mistakes
    :param timeout: how many seconds a client waits for that
    """

    def __init__(self, reload: Callable[[], asyncio.Future[list[str]]], *, timeout: float) -> None:
        self._start_reload = reload
        self._waiting = 0
        self._timeout = timeout

    async def answer(self, request: Request) -> Response:
        """Answer with what the reload found, or that it takes long."""
        if is_foreign(request.headers):
            return make_plain(HTTPStatus.FORBIDDEN, "A page of another site asks for this")
        if self._waiting >= MAX_WAITING_FOR_RELOAD:
            return make_plain(HTTPStatus.SERVICE_UNAVAILABLE, "A reload is under way, and many wait for it")
        reload = self._start_reload()
        self._waiting += 1
        try:
            done, _pending = await asyncio.wait({reload}, timeout=self._timeout)
        finally:
            self._waiting -= 1
        if not done:
            text = f"Not reloaded within {self._timeout:g} s. It goes on; the log says how it ends"
            return make_plain(HTTPStatus.GATEWAY_TIMEOUT, text)
        try:
            mistakes = reload.result()
        except UnreadConfigError as error:
            return make_plain(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        if mistakes:
            text = "\n".join(["The old configuration stays in use:", *mistakes])
            return make_plain(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        return make_plain(HTTPStatus.OK, "Reloaded")


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

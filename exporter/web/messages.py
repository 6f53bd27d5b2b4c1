"""Requests and responses for the routes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

_SCHEME_AND_AUTHORITY = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request without its body, which is never needed. Header names are in lower case.

    :ivar client: the client's address without its port; empty over a Unix socket
    """

    method: str
    target: str
    headers: Mapping[str, str]
    client: str = ""

    @property
    def path(self) -> str:
        """The target's path, still percent-encoded."""
        return _split(self.target)[0]

    @property
    def query(self) -> str:
        """The text after the target's first question mark."""
        return _split(self.target)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """A whole response."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class BadRequestError(Exception):
    """The request is wrong. The message says so in one line."""


Handler = Callable[[Request], Awaitable[Response]]


def make_plain(status: HTTPStatus, text: str, **headers: str) -> Response:
    """Return a response of one or more lines of text."""
    return Response(status=status, body=f"{text}\n".encode(errors="replace"), headers=headers)


def _split(target: str) -> tuple[str, str]:
    """Return path and query of a target in origin or absolute form (RFC 9112, 3.2). Any text is accepted."""
    path, _, query = _SCHEME_AND_AUTHORITY.sub("", target, count=1).partition("?")
    return path or "/", query

"""Compression of responses, for clients that accept it."""

from __future__ import annotations

import gzip
from dataclasses import replace

from exporter.web.accept_header import parse_weights
from exporter.web.messages import Request, Response

_GZIP_LEVEL = 1  # a higher level gains little on such text
_GZIP_MIN_BYTES = 1024


def compress(response: Response) -> Response:
    """Return the response compressed, if that is useful."""
    if len(response.body) < _GZIP_MIN_BYTES:
        return response
    return replace(
        response,
        body=gzip.compress(response.body, compresslevel=_GZIP_LEVEL, mtime=0),
        headers={**response.headers, "content-encoding": "gzip"},
    )


def accepts_gzip(request: Request) -> bool:
    """Whether the client takes a compressed response."""
    weights = parse_weights(request.headers.get("accept-encoding", ""))
    return weights.get("gzip", weights.get("*", 0)) > 0

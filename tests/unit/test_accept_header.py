"""Accept and Accept-Encoding."""

from __future__ import annotations

import pytest

from exporter.web.accept_header import parse_weights


@pytest.mark.parametrize(
    ("header", "weights"),
    [
        ("gzip", {"gzip": 1.0}),
        ("GZip;q=0.5, br", {"gzip": 0.5, "br": 1.0}),
        ("gzip ; q = 0, *;q=0.1", {"gzip": 0.0, "*": 0.1}),
        ("gzip;q=0.000", {"gzip": 0.0}),
        ("a/b;version=1;q=0,a/b;version=2;q=0.3,a/b;version=3;q=0", {"a/b": 0.3}),
        ("a/b;q=rather", {"a/b": 1.0}),
        ("A/B;Q=0.0,c/d;q=.0,e/f;q=00", {"a/b": 0.0, "c/d": 0.0, "e/f": 0.0}),
        ('a/b;q="0",c/d;q=\t0;q=1', {"a/b": 0.0, "c/d": 0.0}),
        ("a/b;q=nan,c/d;q=-1", {"a/b": 0.0, "c/d": 0.0}),
        ("a/b;x=q;y", {"a/b": 1.0}),
        ("", {"": 1.0}),
    ],
)
def test_names_have_weights(header: str, weights: dict[str, float]) -> None:
    assert parse_weights(header) == weights

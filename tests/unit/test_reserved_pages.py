"""reserved_huge_pages means what it means to Nova, and a mistake in it says what is wrong."""

from __future__ import annotations

import pytest

from exporter.model import ReservedPages
from exporter.reserved_pages import ReservedPagesError, parse_reserved_pages


@pytest.mark.parametrize(
    ("text", "node", "size_kib", "count"),
    [
        ("node:0,size:2048,count:64", 0, 2048, 64),
        (" count : 1 , node: 1,size:1GB ", 1, 2**20, 1),
        ("node:0,size:2MB,count:0", 0, 2048, 0),
        ("node:0,size:2MiB,count:1", 0, 2048, 1),
        ("node:0,size:16Mb,count:1", 0, 2048, 1),
        ("node:0,size:16Mibit,count:1", 0, 2048, 1),
        ("node:0,size:2048KB,count:1", 0, 2048, 1),
        ("node:0,size:0.5GB,count:1", 0, 2**19, 1),
        ("node:0,size:.5GB,count:1", 0, 2**19, 1),
        ("node:0,size:4096B,count:1", 0, 4, 1),
        ("node:0,size:1B,count:1", 0, 1 / 1024, 1),
        ("node:0,size:+1TB,count:1", 0, 2**30, 1),
        ("node:0,size:4,count:1,note:x:y", 0, 4, 1),
    ],
)
def test_pages_are_those_of_a_node_and_a_size(text: str, node: int, size_kib: float, count: int) -> None:
    assert parse_reserved_pages(text) == ReservedPages(node=node, size_kib=size_kib, count=count)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "'' is no KEY:VALUE"),
        ("64", "'64' is no KEY:VALUE"),
        ("node:0,size:4,count:1,", "'' is no KEY:VALUE"),
        ("node:0,:4,count:1", "':4' is no KEY:VALUE"),
        ("node:0,size:4", "count is missing"),
        ("node:0,node:0,size:4,count:1", "node is there twice"),
        ("node:a,size:4,count:1", "node 'a' is no whole number, 0 or more"),
        ("node:0,size:4,count:-1", "count '-1' is no whole number, 0 or more"),
        ("node:0,size:4,count:1.5", "count '1.5' is no whole number, 0 or more"),
        ("node:0,size:4,count:1234567890123456", "count '1234567890123456' is no whole number, 0 or more"),
        ("node:0,size:2M,count:1", "size '2M' is no size such as 2048 (KiB), 2MB or 1GB"),
        ("node:0,size:2mb,count:1", "size '2mb' is no size such as 2048 (KiB), 2MB or 1GB"),
        ("node:0,size:2 MB,count:1", "size '2 MB' is no size such as 2048 (KiB), 2MB or 1GB"),
        ("node:0,size:-2MB,count:1", "size '-2MB' is no size such as 2048 (KiB), 2MB or 1GB"),
        ("node:0,size:,count:1", "size '' is no size such as 2048 (KiB), 2MB or 1GB"),
    ],
)
def test_what_is_wrong_is_said(text: str, mistake: str) -> None:
    with pytest.raises(ReservedPagesError) as caught:
        parse_reserved_pages(text)
    assert str(caught.value) == mistake

"""Nova's reserved_huge_pages: "node:0,size:2048,count:64" (nova.virt.hardware)."""

from __future__ import annotations

import re

from exporter.errors import ExporterError
from exporter.model import ReservedPages

_KEYS = ("node", "size", "count")
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
# As oslo_utils.strutils.string_to_bytes reads it: 2MB and 2MiB are the same, and 2Mb is 2 Mibit.
_SIZE = re.compile(r"\+?(\d{0,15}\.?\d{1,15})(?:([KMGT])i?)?(b|bit|B)", re.ASCII)
_UNITS = {None: 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BITS_PER_BYTE = 8
_KIB = 1024


class ReservedPagesError(ExporterError, ValueError):
    """It is not such a text. The message says why."""


def parse_reserved_pages(text: str) -> ReservedPages:
    """Parse the pages of one size that are reserved in one cell (`numa_get_reserved_huge_pages`).

    A size without a unit is in KiB. A key that Nova does not know changes nothing. Nova converts with int()
    and so accepts "+4", "1_0" and a negative count. These are refused here, because they are always mistakes.

    :raises ReservedPagesError: if node, size or count is missing, there twice or wrong
    """
    values: dict[str, str] = {}
    for pair in text.split(","):
        key, colon, value = (part.strip() for part in pair.partition(":"))
        if not colon or not key:
            raise ReservedPagesError(f"{pair.strip()!r} is no KEY:VALUE")
        if key in values:
            raise ReservedPagesError(f"{key} is there twice")
        values[key] = value
    missing = [key for key in _KEYS if key not in values]
    if missing:
        raise ReservedPagesError(f"{missing[0]} is missing")
    return ReservedPages(
        node=_parse_number("node", values["node"]),
        size_kib=_parse_size(values["size"]),
        count=_parse_number("count", values["count"]),
    )


def _parse_number(key: str, value: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise ReservedPagesError(f"{key} {value!r} is no whole number, 0 or more")
    return int(value)


def _parse_size(value: str) -> float:
    """Return KiB. A size that is not a whole number of them is the size of no page, as in Nova."""
    if _NUMBER.fullmatch(value):
        return int(value)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ReservedPagesError(f"size {value!r} is no size such as 2048 (KiB), 2MB or 1GB")
    magnitude = float(match[1]) / (1 if match[3] == "B" else _BITS_PER_BYTE)
    return -(-magnitude * _UNITS[match[2]] // 1) / _KIB

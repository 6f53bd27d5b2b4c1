"""The page at `/`: one HTML document with everything in it, for browsers with or without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from exporter import __version__
from exporter.model import DomainState
from exporter.page import quantity, words
from exporter.page.advice import get_advice
from exporter.page.fleet import TROUBLES_SHOWN, Amount, Fleet, HostRow, HostStatus, Level

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_SECONDS = 10

_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_STATUSES = tuple(HostStatus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar in whole per cent of its length.

    :ivar growth_percent: where what is used may grow to
    :ivar mark_percent: where all that there is ends, if the bar goes beyond it
    """

    used_percent: int
    growth_percent: int | None
    mark_percent: int | None
    level: Level


@dataclass(frozen=True, slots=True)
class Page:
    """The document, and the headers that it has to be sent with."""

    body: bytes
    headers: MappingProxyType[str, str]


def render_page(fleet: Fleet, *, metrics_path: str, address: str) -> Page:
    """Return the page.

    :param metrics_path: where the metrics are
    :param address: what the browser called this exporter, its Host header
    """
    template = _environment().get_template("page.html.jinja")
    text = template.render(
        fleet=fleet,
        headline=words.describe_fleet(fleet),
        metrics_path=metrics_path,
        address=address if _ADDRESS.fullmatch(address) else "HOST:9177",
        version=__version__,
        refresh_seconds=REFRESH_SECONDS,
        trouble_limit=TROUBLES_SHOWN,
    )
    return Page(body=text.encode(), headers=_headers())


def used_bar(amount: Amount) -> Bar:
    """Return the bar of what is used of what is physically there."""
    return _bar(amount.used or 0, amount.growth or 0, amount.total or 0, amount.used_level)


def claimed_bar(amount: Amount) -> Bar:
    """Return the bar of what is claimed of the capacity."""
    return _bar(amount.claimed or 0, 0, amount.capacity or 0, amount.claimed_level)


def _bar(used: int, growth: int, total: int, level: Level) -> Bar:
    length = max(used + growth, total, 1)
    return Bar(
        used_percent=_percent(used, length),
        growth_percent=_percent(used + growth, length) if growth else None,
        mark_percent=_percent(total, length) if length > total else None,
        level=level,
    )


def _percent(part: int, whole: int) -> int:
    return round(100 * min(max(part, 0), whole) / whole)


def _inactive(row: HostRow) -> int:
    """Return how many domains are defined and not active."""
    return row.domains.get(DomainState.SHUTOFF, 0)


@cache
def _environment() -> Environment:
    """Return the templates' environment. Imported when somebody first looks: scrapes have no use for it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        # These are files of this package, and cannot be escaped: nothing that was read is in them.
        "style": Markup(_style()),
        "script": Markup(_script()),
        "of": quantity.format_of,
        "left": quantity.format_left,
        "count": quantity.format_count,
        "bytes": quantity.format_bytes,
    }
    environment.filters |= {
        "share": quantity.format_share,
        "share_of": quantity.format_share_of,
        "name": lambda text: quantity.printable(text, quantity.NAME_CHARACTERS),
        "message": lambda text: quantity.printable(text, quantity.MESSAGE_CHARACTERS),
        "url": lambda text: quote(text, safe="", errors="surrogateescape"),
        "since": words.describe_age,
        "rank": lambda row: _STATUSES.index(row.status),
        "inactive": _inactive,
        "meaning": lambda reason: get_advice(reason).meaning,
        "used_bar": used_bar,
        "claimed_bar": claimed_bar,
    }
    return environment


@cache
def _style() -> str:
    # The policy allows no style attributes: lengths are classes.
    return _read("page.css") + "".join(f".p{n}{{--p:{n}%}}" for n in range(101))


@cache
def _script() -> str:
    return _read("page.js").replace("REFRESH_MS", str(REFRESH_SECONDS * 1000))


def _read(name: str) -> str:
    return resources.files("exporter.web").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@cache
def _headers() -> MappingProxyType[str, str]:
    """Return headers by which the browser runs and loads nothing but what is in the page."""
    policy = (
        "default-src 'none'",
        f"style-src {_hash(_style())}",
        f"script-src {_hash(_script())}",
        "img-src data:",  # the icon
        "connect-src 'self'",  # the page refreshes itself
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return MappingProxyType(
        {
            "content-security-policy": "; ".join(policy),
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

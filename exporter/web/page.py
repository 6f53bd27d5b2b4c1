"""The pages at `/` and `/guests`: documents that contain everything. They work with and without scripts."""

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
from exporter.page.amount import Amount, Level
from exporter.page.fleet import TROUBLES_SHOWN, Fleet, HostRow, HostStatus, list_faults
from exporter.page.guests import GuestList, GuestRow

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_SECONDS = 10

_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_STATUSES = tuple(HostStatus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar. Its parts are in whole per cent of its length.

    :ivar growth_percent: the use after all possible growth
    :ivar mark_percent: the end of the total, if the bar is longer than the total
    """

    used_percent: int
    growth_percent: int | None
    mark_percent: int | None
    level: Level


@dataclass(frozen=True, slots=True)
class Page:
    """The document and the headers that belong to it."""

    body: bytes
    headers: MappingProxyType[str, str]


def render_page(fleet: Fleet, *, metrics_path: str, address: str) -> Page:
    """Return the page.

    :param metrics_path: the path of the metrics
    :param address: this exporter's address in the Host header of the request
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


def render_guests_page(guests: GuestList) -> Page:
    """Return the page of one hypervisor's guests."""
    template = _environment().get_template("guests.html.jinja")
    text = template.render(
        guests=guests,
        headline=words.describe_guests(guests),
        faults=list_faults(guests.host),
        version=__version__,
        refresh_seconds=REFRESH_SECONDS,
        trouble_limit=TROUBLES_SHOWN,
    )
    return Page(body=text.encode(), headers=_headers())


def used_bar(amount: Amount) -> Bar:
    """Return the bar of the use, compared with the physical amount."""
    return _bar(amount.used or 0, amount.growth or 0, amount.total or 0, amount.used_level)


def claimed_bar(amount: Amount) -> Bar:
    """Return the bar of the claims, compared with the capacity."""
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
    """Return how many domains are shut off."""
    return row.domains.get(DomainState.SHUTOFF, 0)


def _rank_guest(row: GuestRow) -> int:
    """Return what the column of states is sorted by: guests with a fault first, then those that run."""
    return -1 if row.fault else row.state.value


def _classify_guest(row: GuestRow) -> str:
    """Return the class that colours the state."""
    if row.fault:
        return "broken"
    return row.state_name if row.state in (DomainState.RUNNING, DomainState.SHUTOFF) else "other"


@cache
def _environment() -> Environment:
    """Return the templates' environment. Jinja is imported at the first request: scrapes do not need it."""
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
        # These are files of this package. They contain nothing that was read, so they are not escaped.
        "style": Markup(_style()),
        "script": Markup(_script()),
        "of": quantity.format_of,
        "left": quantity.format_left,
        "count": quantity.format_count,
        "bytes": quantity.format_bytes,
        "cpus": quantity.format_cpus,
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
        "storage": words.describe_storage,
        "sharers": words.describe_sharers,
        "counted_once": words.describe_counted_once,
        "meaning": lambda reason: get_advice(reason).meaning,
        "guest_rank": _rank_guest,
        "guest_class": _classify_guest,
        "used_bar": used_bar,
        "claimed_bar": claimed_bar,
    }
    return environment


@cache
def _style() -> str:
    # The policy allows no style attributes, so the lengths of bars are classes.
    return _read("page.css") + "".join(f".p{n}{{--p:{n}%}}" for n in range(101))


@cache
def _script() -> str:
    return _read("page.js").replace("REFRESH_MS", str(REFRESH_SECONDS * 1000))


def _read(name: str) -> str:
    return resources.files("exporter.web").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@cache
def _headers() -> MappingProxyType[str, str]:
    """Return headers that let the browser run and load only what is in the page."""
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

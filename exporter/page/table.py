"""The fleet as a text table: with bars and colours on a terminal, plain in a pipe."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from exporter.page.advice import get_advice
from exporter.page.amount import Amount, Level
from exporter.page.fleet import TROUBLES_SHOWN, Fleet, HostStatus, TroubleGroup
from exporter.page.quantity import (
    MESSAGE_CHARACTERS,
    NAME_CHARACTERS,
    UNKNOWN,
    format_age,
    format_bytes,
    format_count,
    format_of,
    format_share,
    printable,
)
from exporter.page.words import describe_counted_once, describe_fleet, describe_sharers, describe_sharing

BAR_CELLS = 8
MIN_NAME_CELLS = 12
WANTED_NAME_CELLS = 16

_GAP = "  "
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLOURS = {"good": "32", "high": "33", "full": "31", "dim": "2", "bold": "1"}
_LEVEL_COLOURS = {Level.OK: "", Level.HIGH: "high", Level.FULL: "full"}
_STATUS_COLOURS = {
    HostStatus.UP: "good",
    HostStatus.INCOMPLETE: "high",
    HostStatus.STALE: "high",
    HostStatus.WAITING: "dim",
    HostStatus.DUPLICATE: "full",
    HostStatus.DOWN: "full",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Medium:
    """The terminal, pipe or file that the table is written to.

    :ivar width: in character cells; None if lines may have any length
    """

    width: int | None = None
    has_bars: bool = False
    has_colours: bool = False
    has_blocks: bool = False  # whether it can show block characters, or only ASCII


def find_medium(stream: TextIO, environment: Mapping[str, str], *, columns: int) -> Medium:
    """Return the kind of stream: a terminal with this number of columns, or a pipe or file.

    There are no colours if NO_COLOR is set (no-color.org), or if TERM is "dumb".
    """
    if not stream.isatty():
        return Medium()
    is_dumb = environment.get("TERM", "dumb") == "dumb"
    return Medium(
        width=max(1, columns),
        has_bars=True,
        has_colours=not is_dumb and not environment.get("NO_COLOR"),
        has_blocks=(stream.encoding or "").lower().replace("-", "") == "utf8",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    text: str
    colour: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """A column. If the line is too long, columns with the highest rank are left out first; rank 0 never."""

    title: str
    cells: tuple[_Cell, ...]
    rank: int = 0
    is_right: bool = False

    @property
    def width(self) -> int:
        return max(_width(text) for text in (self.title, *(cell.text for cell in self.cells)))


def render_table(fleet: Fleet, medium: Medium) -> str:
    """Return the table with the texts above and below it. It ends with a line end."""
    headline = describe_fleet(fleet)
    lines = [
        *_wrap(f"{headline.text}. {headline.detail}", medium, indent=""),
        "",
        *_lay_out(_fit(_columns(fleet, medium), medium), medium),
        *_describe_storages(fleet, medium),
        *_describe_flavors(fleet, medium),
        *_describe_troubles(fleet.faults, "What is wrong", medium),
        *_describe_troubles(fleet.notes, "Worth knowing", medium),
    ]
    return "".join(f"{line}\n" for line in lines)


def _columns(fleet: Fleet, medium: Medium) -> list[_Column]:
    rows = fleet.rows
    names = [_Cell(text=printable(row.name, NAME_CHARACTERS)) for row in rows]
    states = [_Cell(text=row.status.value, colour=_STATUS_COLOURS[row.status]) for row in rows]
    ages = [_Cell(text=format_age(row.age_seconds)) for row in rows]
    guests = [_Cell(text=format_count(row.running_vms)) for row in rows]
    resources = (
        ("CPU", [*(row.cpu.amount for row in rows), fleet.cpu], format_count),
        ("MEMORY", [*(row.memory.amount for row in rows), fleet.memory], format_bytes),
        ("DISK", [*(row.disk.amount for row in rows), fleet.disk], format_bytes),
    )
    columns = [
        _Column(title="HYPERVISOR", cells=(*names, _Cell(text="all together"))),
        _Column(title="STATE", cells=(*states, _Cell(text=f"{fleet.up} of {len(rows)} up"))),
        _Column(title="AGE", cells=(*ages, _Cell(text="")), rank=3, is_right=True),
    ]
    for title, amounts, format_amount in resources:
        columns += _resource_columns(title, amounts, format_amount, medium)
    if fleet.storages:
        storages = [_Cell(text=printable(describe_sharing(row), NAME_CHARACTERS)) for row in rows]
        columns.append(_Column(title="SHARED", cells=(*storages, _Cell(text="once")), rank=6))
    total = _Cell(text=format_count(fleet.running_vms))
    return [*columns, _Column(title="GUESTS", cells=(*guests, total), rank=2, is_right=True)]


def _resource_columns(
    title: str, amounts: Sequence[Amount], format_amount: Callable[[float | None], str], medium: Medium
) -> Iterator[_Column]:
    shares = tuple(
        _Cell(text=format_share(each.used_share), colour=_LEVEL_COLOURS[each.used_level]) for each in amounts
    )
    yield _Column(title=title, cells=shares, is_right=True)
    if medium.has_bars:
        bars = tuple(
            replace(cell, text=_bar(each.used_share, medium))
            for cell, each in zip(shares, amounts, strict=True)
        )
        yield _Column(title="", cells=bars, rank=1)
    texts = tuple(
        _Cell(text=format_of(format_amount(each.used), format_amount(each.total)))
        if each.used is not None and each.total is not None
        else _Cell(text=UNKNOWN)
        for each in amounts
    )
    yield _Column(title="USED", cells=texts, rank=5)
    if any(each.claimed_share is not None for each in amounts):
        claims = tuple(
            _Cell(text=format_share(each.claimed_share), colour=_LEVEL_COLOURS[each.claimed_level])
            for each in amounts
        )
        yield _Column(title="CLAIMED", cells=claims, rank=4, is_right=True)


def _fit(columns: list[_Column], medium: Medium) -> list[_Column]:
    """Leave out columns, and shorten names, until a line fits."""
    if medium.width is None:
        return columns
    rank = max(column.rank for column in columns)
    # Shorten a long name before leaving out a column.
    spare = max(0, columns[0].width - WANTED_NAME_CELLS)
    while rank > 0 and _line_width(columns) - spare > medium.width:
        columns = [column for column in columns if column.rank < rank]
        rank -= 1
    names, *others = columns
    room = max(MIN_NAME_CELLS, names.width - max(0, _line_width(columns) - medium.width))
    shortened = tuple(replace(cell, text=_shorten(cell.text, room)) for cell in names.cells)
    return [replace(names, cells=shortened), *others]


def _line_width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _lay_out(columns: Sequence[_Column], medium: Medium) -> Iterator[str]:
    widths = [column.width for column in columns]
    yield _line(
        [_pad(column, column.title, width) for column, width in zip(columns, widths, strict=True)],
        ["dim"] * len(columns),
        medium,
    )
    for number in range(len(columns[0].cells)):
        cells = [column.cells[number] for column in columns]
        texts = [
            _pad(column, cell.text, width) for column, cell, width in zip(columns, cells, widths, strict=True)
        ]
        is_total = number == len(columns[0].cells) - 1
        colours = [cell.colour or ("bold" if is_total else "") for cell in cells]
        yield _line(texts, colours, medium)


def _line(texts: Sequence[str], colours: Sequence[str], medium: Medium) -> str:
    if not medium.has_colours:
        return _GAP.join(texts).rstrip()
    painted = (_paint(text, colour) for text, colour in zip(texts, colours, strict=True))
    return _GAP.join(painted).rstrip()


def _paint(text: str, colour: str) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and text.strip() else text


def _pad(column: _Column, text: str, width: int) -> str:
    padding = " " * (width - _width(text))
    return padding + text if column.is_right else text + padding


def _describe_storages(fleet: Fleet, medium: Medium) -> Iterator[str]:
    if not fleet.storages:
        return
    yield ""
    yield from _wrap(f"{describe_counted_once(fleet)}", medium, indent="")
    for storage in fleet.storages:
        amount = storage.amount
        used = "not known"
        if amount.used is not None and amount.total is not None:
            used = f"{format_of(format_bytes(amount.used), format_bytes(amount.total))} used"
        claims = "" if amount.claimed_share is None else f", {format_share(amount.claimed_share)} claimed"
        over = "" if not amount.over else f", over-committed by {format_bytes(amount.over)}"
        name = printable(storage.id, NAME_CHARACTERS)
        text = f"{name}: {used}{claims}{over}; {describe_sharers(storage)}"
        yield from _wrap(text, medium, indent="  ")


def _describe_flavors(fleet: Fleet, medium: Medium) -> Iterator[str]:
    if not fleet.flavors:
        return
    rooms = (
        f"{format_count(each.slots)} of {printable(each.flavor, NAME_CHARACTERS)}" for each in fleet.flavors
    )
    yield ""
    yield from _wrap(f"Room for more guests: {', '.join(rooms)}.", medium, indent="")


def _describe_troubles(groups: Sequence[TroubleGroup], title: str, medium: Medium) -> Iterator[str]:
    if groups:
        yield ""
        yield _paint(title, "bold") if medium.has_colours else title
    for group in groups:
        meaning = get_advice(group.reason).meaning
        yield from _wrap(f"{meaning}. {group.action}", medium, indent="  ")
        for trouble in group.troubles[:TROUBLES_SHOWN]:
            name = printable(trouble.name, NAME_CHARACTERS)
            message = printable(trouble.message, MESSAGE_CHARACTERS)
            yield from _wrap(f"{name}: {message}", medium, indent="    ")
        left = len(group.troubles) - TROUBLES_SHOWN
        if left > 0:
            yield f"    and {left} more"


def _wrap(text: str, medium: Medium, *, indent: str) -> list[str]:
    if medium.width is None:
        return [indent + text]
    width = max(len(indent) + MIN_NAME_CELLS, medium.width)
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _bar(share: float | None, medium: Medium) -> str:
    if share is None:
        return " " * BAR_CELLS
    eighths = round(8 * BAR_CELLS * min(max(share, 0.0), 1.0))
    whole, part = divmod(eighths, 8)
    if not medium.has_blocks:
        return ("#" * whole).ljust(BAR_CELLS, ".")
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(BAR_CELLS, "░")


def _shorten(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    while _width(text) > room - 1:
        text = text[:-1]
    return f"{text}…"


def _width(text: str) -> int:
    """Return how many cells of a terminal the text takes: two for each wide character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(_character_width(each) for each in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

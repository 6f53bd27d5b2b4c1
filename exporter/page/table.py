"""The fleet as a text table: with bars and colours on a terminal, plain in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

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
from exporter.page.text_table import Cell, Column, Medium, fit, lay_out, paint, wrap
from exporter.page.words import describe_counted_once, describe_fleet, describe_sharers, describe_sharing

BAR_CELLS = 8

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVEL_COLOURS = {Level.OK: "", Level.HIGH: "high", Level.FULL: "full"}
_STATUS_COLOURS = {
    HostStatus.UP: "good",
    HostStatus.INCOMPLETE: "high",
    HostStatus.STALE: "high",
    HostStatus.WAITING: "dim",
    HostStatus.DUPLICATE: "full",
    HostStatus.DOWN: "full",
}


def render_table(fleet: Fleet, medium: Medium) -> str:
    """Return the table with the texts above and below it. It ends with a line end."""
    headline = describe_fleet(fleet)
    lines = [
        *wrap(f"{headline.text}. {headline.detail}", medium, indent=""),
        "",
        *lay_out(fit(_embolden_totals(_columns(fleet, medium)), medium), medium),
        *_describe_storages(fleet, medium),
        *_describe_flavors(fleet, medium),
        *_describe_troubles(fleet.faults, "What is wrong", medium),
        *_describe_troubles(fleet.notes, "Worth knowing", medium),
    ]
    return "".join(f"{line}\n" for line in lines)


def _columns(fleet: Fleet, medium: Medium) -> list[Column]:
    rows = fleet.rows
    names = [Cell(text=printable(row.name, NAME_CHARACTERS)) for row in rows]
    states = [Cell(text=row.status.value, colour=_STATUS_COLOURS[row.status]) for row in rows]
    ages = [Cell(text=format_age(row.age_seconds)) for row in rows]
    guests = [Cell(text=format_count(row.running_vms)) for row in rows]
    resources = (
        ("CPU", [*(row.cpu.amount for row in rows), fleet.cpu], format_count),
        ("MEMORY", [*(row.memory.amount for row in rows), fleet.memory], format_bytes),
        ("DISK", [*(row.disk.amount for row in rows), fleet.disk], format_bytes),
    )
    columns = [
        Column(title="HYPERVISOR", cells=(*names, Cell(text="all together"))),
        Column(title="STATE", cells=(*states, Cell(text=f"{fleet.up} of {len(rows)} up"))),
        Column(title="AGE", cells=(*ages, Cell(text="")), rank=3, is_right=True),
    ]
    for title, amounts, format_amount in resources:
        columns += _resource_columns(title, amounts, format_amount, medium)
    if fleet.storages:
        storages = [Cell(text=printable(describe_sharing(row), NAME_CHARACTERS)) for row in rows]
        columns.append(Column(title="SHARED", cells=(*storages, Cell(text="once")), rank=6))
    total = Cell(text=format_count(fleet.running_vms))
    return [*columns, Column(title="GUESTS", cells=(*guests, total), rank=2, is_right=True)]


def _embolden_totals(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with their last line in bold, where it has no colour of its own."""
    return [replace(column, cells=(*column.cells[:-1], _embolden(column.cells[-1]))) for column in columns]


def _embolden(cell: Cell) -> Cell:
    return cell if cell.colour else replace(cell, colour="bold")


def _resource_columns(
    title: str, amounts: Sequence[Amount], format_amount: Callable[[float | None], str], medium: Medium
) -> Iterator[Column]:
    shares = tuple(
        Cell(text=format_share(each.used_share), colour=_LEVEL_COLOURS[each.used_level]) for each in amounts
    )
    yield Column(title=title, cells=shares, is_right=True)
    if medium.has_bars:
        bars = tuple(
            replace(cell, text=_bar(each.used_share, medium))
            for cell, each in zip(shares, amounts, strict=True)
        )
        yield Column(title="", cells=bars, rank=1)
    texts = tuple(
        Cell(text=format_of(format_amount(each.used), format_amount(each.total)))
        if each.used is not None and each.total is not None
        else Cell(text=UNKNOWN)
        for each in amounts
    )
    yield Column(title="USED", cells=texts, rank=5)
    if any(each.claimed_share is not None for each in amounts):
        claims = tuple(
            Cell(text=format_share(each.claimed_share), colour=_LEVEL_COLOURS[each.claimed_level])
            for each in amounts
        )
        yield Column(title="CLAIMED", cells=claims, rank=4, is_right=True)


def _describe_storages(fleet: Fleet, medium: Medium) -> Iterator[str]:
    if not fleet.storages:
        return
    yield ""
    yield from wrap(f"{describe_counted_once(fleet)}", medium, indent="")
    for storage in fleet.storages:
        amount = storage.amount
        used = "not known"
        if amount.used is not None and amount.total is not None:
            used = f"{format_of(format_bytes(amount.used), format_bytes(amount.total))} used"
        claims = "" if amount.claimed_share is None else f", {format_share(amount.claimed_share)} claimed"
        over = "" if not amount.over else f", over-committed by {format_bytes(amount.over)}"
        name = printable(storage.id, NAME_CHARACTERS)
        text = f"{name}: {used}{claims}{over}; {describe_sharers(storage)}"
        yield from wrap(text, medium, indent="  ")


def _describe_flavors(fleet: Fleet, medium: Medium) -> Iterator[str]:
    if not fleet.flavors:
        return
    rooms = (
        f"{format_count(each.slots)} of {printable(each.flavor, NAME_CHARACTERS)}" for each in fleet.flavors
    )
    yield ""
    yield from wrap(f"Room for more guests: {', '.join(rooms)}.", medium, indent="")


def _describe_troubles(groups: Sequence[TroubleGroup], title: str, medium: Medium) -> Iterator[str]:
    if groups:
        yield ""
        yield paint(title, "bold") if medium.has_colours else title
    for group in groups:
        meaning = get_advice(group.reason).meaning
        yield from wrap(f"{meaning}. {group.action}", medium, indent="  ")
        for trouble in group.troubles[:TROUBLES_SHOWN]:
            name = printable(trouble.name, NAME_CHARACTERS)
            message = printable(trouble.message, MESSAGE_CHARACTERS)
            yield from wrap(f"{name}: {message}", medium, indent="    ")
        left = len(group.troubles) - TROUBLES_SHOWN
        if left > 0:
            yield f"    and {left} more"


def _bar(share: float | None, medium: Medium) -> str:
    if share is None:
        return " " * BAR_CELLS
    eighths = round(8 * BAR_CELLS * min(max(share, 0.0), 1.0))
    whole, part = divmod(eighths, 8)
    if not medium.has_blocks:
        return ("#" * whole).ljust(BAR_CELLS, ".")
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(BAR_CELLS, "░")

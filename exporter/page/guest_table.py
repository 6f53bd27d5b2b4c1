"""The guests of a hypervisor as a text table, for `--once --format table --guests TARGET`."""

from __future__ import annotations

from exporter.model import DomainState
from exporter.page.guests import GuestList, GuestRow
from exporter.page.quantity import (
    NAME_CHARACTERS,
    UNKNOWN,
    format_bytes,
    format_count,
    format_cpus,
    format_share,
    printable,
)
from exporter.page.text_table import Cell, Column, Medium, fit, lay_out, wrap
from exporter.page.words import describe_guests

_STATE_COLOURS = {DomainState.RUNNING: "good", DomainState.SHUTOFF: "dim"}


def render_guest_table(guests: GuestList, medium: Medium) -> str:
    """Return the table with the texts above and below it. It ends with a line end."""
    headline = describe_guests(guests)
    name = printable(guests.host.name, NAME_CHARACTERS)
    lines = wrap(f"{name}: {headline.text}. {headline.detail}", medium, indent="")
    if guests.rows:
        lines += ["", *lay_out(fit(_columns(guests), medium), medium)]
    if guests.omitted:
        lines += ["", *wrap(f"{format_count(guests.omitted)} more are not listed.", medium, indent="")]
    return "".join(f"{line}\n" for line in lines)


def _columns(guests: GuestList) -> list[Column]:
    columns = _claim_columns(guests.rows)
    if not guests.has_use:
        return columns
    cpus = tuple(Cell(text=format_cpus(row.use.cpus)) for row in guests.rows)
    waits = tuple(Cell(text=format_share(row.use.waiting)) for row in guests.rows)
    return [
        *columns,
        Column(title="CPU USE", cells=cpus, is_right=True),
        Column(title="WAITS", cells=waits, is_right=True),
    ]


def _claim_columns(rows: tuple[GuestRow, ...]) -> list[Column]:
    states = tuple(
        Cell(text=_describe_state(row), colour="full" if row.fault else _STATE_COLOURS.get(row.state, "high"))
        for row in rows
    )
    return [
        Column(title="GUEST", cells=tuple(_name(row.domain) for row in rows)),
        Column(title="STATE", cells=states),
        Column(title="INSTANCE", cells=tuple(_name(row.instance_name) for row in rows), rank=1),
        Column(title="FLAVOR", cells=tuple(_name(row.flavor) for row in rows), rank=3),
        Column(title="PROJECT", cells=tuple(_name(row.project) for row in rows), rank=4),
        Column(title="VCPUS", cells=tuple(Cell(text=format_count(row.vcpus)) for row in rows), is_right=True),
        Column(
            title="MEMORY",
            cells=tuple(Cell(text=format_bytes(row.memory_bytes)) for row in rows),
            is_right=True,
        ),
        Column(
            title="DISK",
            cells=tuple(Cell(text=format_bytes(row.disk_bytes)) for row in rows),
            rank=2,
            is_right=True,
        ),
    ]


def _describe_state(row: GuestRow) -> str:
    """Return the state and why: "paused: ioerror"."""
    return f"{row.state_name}: {row.reason}" if row.reason else row.state_name


def _name(text: str) -> Cell:
    return Cell(text=printable(text, NAME_CHARACTERS) or UNKNOWN)

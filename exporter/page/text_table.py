"""Tables of text: columns that fit into a terminal's width, with colours, or plain in a pipe."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

MIN_NAME_CELLS = 12
WANTED_NAME_CELLS = 16

_GAP = "  "
_COLOURS = {"good": "32", "high": "33", "full": "31", "dim": "2", "bold": "1"}


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
class Cell:
    """A text and its colour, one of _COLOURS."""

    text: str
    colour: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column. If the line is too long, columns with the highest rank are left out first; rank 0 never."""

    title: str
    cells: tuple[Cell, ...]
    rank: int = 0
    is_right: bool = False

    @property
    def width(self) -> int:
        """How many cells of a terminal its widest text takes."""
        return max(_width(text) for text in (self.title, *(cell.text for cell in self.cells)))


def fit(columns: list[Column], medium: Medium) -> list[Column]:
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


def _line_width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def lay_out(columns: Sequence[Column], medium: Medium) -> Iterator[str]:
    """Yield the lines of a table, the titles first."""
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
        yield _line(texts, [cell.colour for cell in cells], medium)


def _line(texts: Sequence[str], colours: Sequence[str], medium: Medium) -> str:
    if not medium.has_colours:
        return _GAP.join(texts).rstrip()
    painted = (paint(text, colour) for text, colour in zip(texts, colours, strict=True))
    return _GAP.join(painted).rstrip()


def paint(text: str, colour: str) -> str:
    """Return the text in a colour of a terminal."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and text.strip() else text


def _pad(column: Column, text: str, width: int) -> str:
    padding = " " * (width - _width(text))
    return padding + text if column.is_right else text + padding


def wrap(text: str, medium: Medium, *, indent: str) -> list[str]:
    """Return a text in lines that are not longer than the medium's, each with this indent."""
    if medium.width is None:
        return [indent + text]
    width = max(len(indent) + MIN_NAME_CELLS, medium.width)
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


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

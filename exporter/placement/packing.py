"""Packing: how many guests fit into cells if the parts of a guest differ.

A guest has parts of one or several kinds, each part in another cell. n guests fit if the cells together can
take n times the parts of a guest, with at most n parts in each cell. Such parts can always be dealt out to n
guests so that none has two in one cell (König's theorem: a bipartite graph of degree n has n colours).

So the cells are added up one by one, for all parts that they can take together. This is exact for two kinds
of parts and up to `_MAX_PARTS` of the first kind, and for more kinds while few guests fit: with one part of
each kind up to 9 guests of three kinds, 4 of four, 2 of five or six, 1 of up to nine. Above that, the work
would be too much: the owners of guests choose their shape. Then the result may be too small, but it is never
too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

UNLIMITED = 2**31
_MAX_PARTS = 512
_MAX_COMBINATIONS = 1000


class Limit(NamedTuple):
    """A resource of a cell."""

    capacity: int
    amounts: tuple[int, ...]  # what a part of each kind takes of it


# The limits of a cell. If its memory can be used in several ways, the limits of each.
Cell = tuple[tuple[Limit, ...], ...]


def count_guests(parts: Sequence[int], cells: Sequence[Cell]) -> int:
    """Return how many guests fit.

    :param parts: how many parts of each kind a guest has; every cell limits at least one kind, and all cells
        have the same limits with other capacities
    """
    return _count_guests(tuple(parts), tuple(cells))


# What is left of the cells rarely changes from one scrape to the next.
@lru_cache(maxsize=1024)
def _count_guests(parts: tuple[int, ...], cells: tuple[Cell, ...]) -> int:
    most = min(_list_bounds(parts, cells))
    if len(parts) == 1 or most == 0:
        return most
    if len(parts) == 2:
        return _count_two_kinds(most, parts, cells)
    few = _count_exactly_countable(most, parts)
    found = _search(_is_room_for, few, parts, cells)
    if found < few or few == most:
        return found
    return max(found, *(_count_guests(*_merge(parts, cells, first=first)) for first in range(1, len(parts))))


def count_equal_parts(counts: Sequence[int], parts: int) -> int:
    """Return how many guests fit if all their parts are alike.

    :param counts: how many parts each cell can take
    :param parts: of a guest
    """
    low, high = 0, sum(counts) // parts
    while low < high:
        guests = (low + high + 1) // 2
        if sum(min(count, guests) for count in counts) >= parts * guests:
            low = guests
        else:
            high = guests - 1
    return low


def _list_bounds(parts: Sequence[int], cells: Sequence[Cell]) -> Iterator[int]:
    """Yield upper bounds: if guests had the parts of one kind only, or needed one resource only of all cells.

    With one kind of parts, the least is exact.
    """
    for kind, number in enumerate(parts):
        counts = [max(_count_more(way, (0,) * len(parts), kind) for way in cell) for cell in cells]
        yield count_equal_parts(counts, number)
    if all(len(cell) == 1 for cell in cells):
        for same in zip(*(way for (way,) in cells), strict=True):
            amount = sum(map(int.__mul__, parts, same[0].amounts))
            if amount:
                yield sum(max(0, limit.capacity) for limit in same) // amount


def _count_two_kinds(most: int, parts: tuple[int, ...], cells: Sequence[Cell]) -> int:
    """Return how many guests fit. Very small ones are counted by the dozen, or so."""
    dozen = -(-most * parts[0] // _MAX_PARTS)
    by_dozen = [
        tuple(
            tuple(Limit(have, tuple(dozen * each for each in amounts)) for have, amounts in way)
            for way in cell
        )
        for cell in cells
    ]
    return dozen * _search(_is_room_for_two_kinds, most // dozen, parts, by_dozen)


_IsRoomFor = Callable[[int, Sequence[int], Sequence[Cell]], bool]


def _count_exactly_countable(most: int, parts: Sequence[int]) -> int:
    """Return how many guests of three kinds of parts, or more, are few enough to be counted exactly."""
    few = 0
    while few < most and math.prod(number * (few + 1) + 1 for number in parts) <= _MAX_COMBINATIONS:
        few += 1
    return few


def _search(is_room_for: _IsRoomFor, most: int, parts: Sequence[int], cells: Sequence[Cell]) -> int:
    if is_room_for(most, parts, cells):
        return most
    low, high = 0, most - 1
    while low < high:
        guests = (low + high + 1) // 2
        if is_room_for(guests, parts, cells):
            low = guests
        else:
            high = guests - 1
    return low


def _is_room_for_two_kinds(guests: int, parts: Sequence[int], cells: Sequence[Cell]) -> bool:
    first, second = (number * guests for number in parts)
    # By number of parts of the first kind that the cells take: how many of the second they take beside them.
    beside = [0] + [-UNLIMITED] * first
    for cell in cells:
        most = max(_count_at_most(way, (), guests, first) for way in cell)
        sums: list[list[int]] = []
        for count in range(most + 1):
            more = max(_count_at_most(way, (count,), guests, second) for way in cell)
            sums.append([beside[0] + more] * count + [each + more for each in beside[: first + 1 - count]])
        beside = [max(column) for column in zip(*sums, strict=True)]
    return beside[first] >= second


def _is_room_for(guests: int, parts: Sequence[int], cells: Sequence[Cell]) -> bool:
    *wanted, last = (number * guests for number in parts)
    # By number of parts of all kinds but the last that the cells take: how many of the last beside them.
    beside = {(0,) * len(wanted): 0}
    for cell in cells:
        fitting = {each for way in cell for each in _list_combinations(way, guests, (*wanted, last))}
        sums: dict[tuple[int, ...], int] = {}
        for (total, taken), (*each, more) in product(beside.items(), fitting):
            together = tuple(map(min, map(int.__add__, total, each), wanted))
            sums[together] = max(sums.get(together, 0), taken + more)
        beside = sums
    return beside.get(tuple(wanted), 0) >= last


def _list_combinations(way: Sequence[Limit], guests: int, wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """Return what a cell can take, with as many as possible of the last kind."""
    beginnings: list[tuple[int, ...]] = [()]
    for number in wanted[:-1]:
        beginnings = [
            (*beginning, count)
            for beginning in beginnings
            for count in range(1 + _count_at_most(way, beginning, guests, number))
        ]
    return [(*beginning, _count_at_most(way, beginning, guests, wanted[-1])) for beginning in beginnings]


def _count_at_most(way: Sequence[Limit], beside: tuple[int, ...], guests: int, wanted: int) -> int:
    """Return how many parts of the next kind fit beside those of the kinds before."""
    return min(wanted, guests - sum(beside), _count_more(way, beside, len(beside)))


def _count_more(way: Sequence[Limit], beside: tuple[int, ...], kind: int) -> int:
    return min(
        (
            max(0, limit.capacity - sum(map(int.__mul__, beside, limit.amounts))) // limit.amounts[kind]
            for limit in way
            if limit.amounts[kind]
        ),
        default=UNLIMITED,
    )


def _merge(
    parts: Sequence[int], cells: Sequence[Cell], *, first: int
) -> tuple[tuple[int, ...], tuple[Cell, ...]]:
    """Return guests of two kinds of parts. Each takes as much as the largest of those that it stands for.

    :param first: how many kinds the first one stands for
    """
    merged = tuple(
        tuple(
            tuple(Limit(have, (max(amounts[:first]), max(amounts[first:]))) for have, amounts in way)
            for way in cell
        )
        for cell in cells
    )
    return (sum(parts[:first]), sum(parts[first:])), merged

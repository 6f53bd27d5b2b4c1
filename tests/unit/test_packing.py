"""As many guests of parts that differ fit into cells as can be put there one by one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.placement.packing import (
    UNLIMITED,
    Limit,
    count_equal_parts,
    count_guests,
)

Amounts = tuple[int, ...]


def make_cell(free: Sequence[int], kinds: Sequence[Amounts]) -> tuple[tuple[Limit, ...], ...]:
    """Return a cell with so much of each resource, of which a part of each kind takes so much."""
    return (tuple(Limit(have, tuple(kind[n] for kind in kinds)) for n, have in enumerate(free)),)


def count_one_by_one(parts: Sequence[int], kinds: Sequence[Amounts], cells: Sequence[Amounts]) -> int:
    """Put guests into the cells in every way, and return the most that fit."""
    guest = [kind for kind, number in zip(kinds, parts, strict=True) for _ in range(number)]

    @cache
    def place(free: tuple[Amounts, ...]) -> int:
        most = 0
        for chosen in itertools.permutations(range(len(free)), len(guest)):
            left = list(free)
            for cell, part in zip(chosen, guest, strict=True):
                left[cell] = tuple(have - need for have, need in zip(left[cell], part, strict=True))
            if all(have >= 0 for cell in left for have in cell):
                most = max(most, 1 + place(tuple(sorted(left))))
        return most

    return place(tuple(sorted(cells)))


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Amounts, tuple[Amounts, ...], list[Amounts]]:
    """Draw how many parts of each kind a guest has, what each takes, and what the cells have."""
    amounts = st.tuples(st.integers(0, 3), st.integers(1, 4))
    kinds = tuple(draw(st.lists(amounts, min_size=1, max_size=3, unique=True)))
    parts = tuple(draw(st.integers(1, 2 if len(kinds) == 1 else 1 + (len(kinds) == 2))) for _ in kinds)
    cells = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=4))
    return parts, kinds, cells


@settings(max_examples=300, deadline=None)
@given(hosts())
@example(((1, 1, 1), ((0, 1), (0, 2), (1, 1)), [(0, 1), (0, 9), (0, 9), (7, 9)]))  # no resource alone says: 6
def test_as_many_fit_as_can_be_put_there_in_the_best_way(
    host: tuple[Amounts, tuple[Amounts, ...], list[Amounts]],
) -> None:
    parts, kinds, cells = host
    found = count_guests(parts, [make_cell(cell, kinds) for cell in cells])
    assert found == count_one_by_one(parts, kinds, cells)


def test_two_parts_of_a_guest_are_never_in_one_cell() -> None:
    kinds = ((1, 1), (2, 1))
    assert count_guests((1, 1), [make_cell((90, 90), kinds)]) == 0
    assert count_guests((1, 1), [make_cell((90, 90), kinds), make_cell((2, 1), kinds)]) == 1


def test_a_cell_that_can_be_filled_in_several_ways_is_filled_in_one_of_them() -> None:
    """Shows it for memory in pages of two sizes: three small parts, or one large, not both."""
    either = ((Limit(3, (1, 4)),), (Limit(4, (9, 4)),))
    assert count_guests((1, 1), [either, either]) == 1
    assert count_guests((1, 1), [either] * 4) == 3
    assert count_guests((1, 1), [either] * 8) == 6


def test_a_kind_that_a_resource_does_not_limit_is_limited_by_the_guests() -> None:
    cells = [(Limit(4, (1, 0)), Limit(UNLIMITED, (0, 1)))]
    assert count_guests((1, 1), [tuple(cells)] * 2) == 8


def test_guests_that_are_too_many_to_be_counted_exactly_are_never_too_many() -> None:
    """Shows that what is missing is little for two kinds of parts, and not all for more."""
    two = ((1, 2), (2, 1))
    found = count_guests((1, 1), [make_cell((3 * 997, 3 * 997), two)] * 4)
    assert 0.98 * 4 * 997 <= found <= 4 * 997
    three = ((1, 3), (2, 2), (3, 1))
    assert 0.6 * 8 * 40 <= count_guests((1, 1, 1), [make_cell((6 * 40, 6 * 40), three)] * 8) <= 8 * 40


def test_equal_parts_need_no_search() -> None:
    assert count_equal_parts([9, 1], 2) == 1
    assert count_equal_parts([3, 3, 3], 2) == 4
    assert count_equal_parts([], 1) == 0


def test_a_hundred_flavors_in_sixteen_cells_cost_little() -> None:
    """Shows it for shapes that guests chose. Nothing is computed while the cells stay as they are."""
    shapes = [((1, 1 + n), (2, 3 + n % 7)) for n in range(100)]
    hosts = [[make_cell((16 - cell % 5, 64 - 3 * cell), kinds) for cell in range(16)] for kinds in shapes]

    def measure() -> float:
        started = time.process_time()
        for cells in hosts:
            count_guests((1, 3), cells)
        return time.process_time() - started

    assert measure() < 2
    assert measure() < 0.1

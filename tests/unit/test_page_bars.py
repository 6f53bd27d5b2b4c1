"""The bars of the page: how long each part is, and where the mark stands that says what there is."""

from __future__ import annotations

import pytest

from exporter.page.amount import Amount
from exporter.web.page import claimed_bar, used_bar


@pytest.mark.parametrize(
    ("used", "growth", "total", "parts"),
    [
        (50, 0, 100, (50, None, None)),
        (1, 0, 3, (33, None, None)),
        (50, 25, 100, (50, 75, None)),
        (100, 100, 100, (50, 100, 50)),  # the images outgrow their storage
        (-5, 0, 100, (0, None, None)),
        (200, 0, 100, (100, None, 50)),
        (None, None, None, (0, None, 0)),
        (0, 0, 100, (0, None, None)),
    ],
)
def test_the_use_of_what_there_is(
    used: int | None, growth: int | None, total: int | None, parts: tuple[int | None, ...]
) -> None:
    bar = used_bar(Amount(total=total, used=used, free=None, growth=growth))
    assert (bar.used_percent, bar.growth_percent, bar.mark_percent) == parts


@pytest.mark.parametrize(
    ("claimed", "capacity", "parts"),
    [
        (3, 4, (75, None, None)),
        (8, 4, (100, None, 50)),
        (None, 4, (0, None, None)),
        (None, None, (0, None, 0)),
    ],
)
def test_the_claims_on_what_may_be_promised(
    claimed: int | None, capacity: int | None, parts: tuple[int | None, ...]
) -> None:
    """How much images may grow is no claim."""
    bar = claimed_bar(Amount(total=9, used=9, free=0, growth=9, capacity=capacity, claimed=claimed))
    assert (bar.used_percent, bar.growth_percent, bar.mark_percent) == parts

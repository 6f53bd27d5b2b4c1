"""When to try again what failed."""

from __future__ import annotations

import pytest

from exporter.compute.backoff import Backoff


def test_it_may_be_tried_before_anything_failed() -> None:
    assert make_backoff().may_try(0.0)


def test_the_wait_doubles_up_to_the_maximum() -> None:
    backoff = make_backoff(draw=1.0)
    waits = []
    for _ in range(7):
        backoff.fail(100.0)
        waits.append(next(wait for wait in (0.5, 1, 2, 4, 8, 15) if backoff.may_try(100.0 + wait)))
    assert waits == [0.5, 1, 2, 4, 8, 15, 15]


@pytest.mark.parametrize(("draw", "wait"), [(0.0, 0.25), (0.5, 0.375), (1.0, 0.5)])
def test_chance_takes_up_to_half_of_the_wait_away(draw: float, wait: float) -> None:
    """Shows that a fleet whose hypervisors failed at once does not try again at once."""
    backoff = make_backoff(draw=draw)
    backoff.fail(100.0)
    assert not backoff.may_try(100.0 + wait - 0.001)
    assert backoff.may_try(100.0 + wait)


def test_after_a_success_the_next_failure_waits_as_little_as_a_first_one() -> None:
    backoff = make_backoff(draw=1.0)
    for _ in range(5):
        backoff.fail(100.0)
    backoff.reset()
    assert not backoff.has_failed
    assert backoff.may_try(100.0)
    backoff.fail(100.0)
    assert backoff.may_try(100.5)


def test_what_costs_nothing_to_try_never_waits() -> None:
    backoff = Backoff(first=0.5, maximum=0, draw=lambda: 1.0)
    for _ in range(50):
        backoff.fail(100.0)
    assert backoff.has_failed
    assert backoff.may_try(100.0)


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = make_backoff(draw=1.0)
    for _ in range(2000):
        backoff.fail(100.0)
    assert backoff.may_try(115.0)


def make_backoff(*, draw: float = 1.0) -> Backoff:
    return Backoff(first=0.5, maximum=15.0, draw=lambda: draw)

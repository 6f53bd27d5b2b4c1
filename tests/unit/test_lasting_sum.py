"""A sum of counters that come and go does not step back, and does not leap."""

from __future__ import annotations

from exporter.virt.guests.lasting_sum import LastingSum


def test_it_begins_with_what_all_have_counted_and_follows_them() -> None:
    total = LastingSum()
    assert total.add({"a": 5, "b": 7}) == 12
    assert total.add({"a": 6, "b": 7}) == 13


def test_what_one_that_ends_has_counted_stays() -> None:
    total = LastingSum()
    total.add({"a": 5, "b": 7})
    assert total.add({"b": 8}) == 13
    assert total.add({}) == 13


def test_one_that_comes_later_counts_from_then_on() -> None:
    """It may have counted elsewhere before, as a disk that had series of its own."""
    total = LastingSum()
    total.add({"a": 5})
    assert total.add({"a": 5, "b": 1000}) == 5
    assert total.add({"a": 5, "b": 1003}) == 8


def test_one_that_begins_anew_adds_what_it_has_counted_since() -> None:
    total = LastingSum()
    total.add({"a": 5})
    assert total.add({"a": 2}) == 7


def test_one_that_is_not_seen_for_a_moment_is_not_counted_twice() -> None:
    total = LastingSum()
    total.add({"a": 5, "b": 7})
    total.add({"a": 5})
    assert total.add({"a": 5, "b": 7}) == 12

"""What virDomainListGetStats tells of a guest, as records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.guest_records import DiskCounters, MemoryStatistics
from exporter.virt.guests.statistics import is_of_the_monitor, parse_disks, parse_interfaces, parse_memory
from tests.support.waiting_libvirt import STATISTICS, STATISTICS_WITHOUT_MONITOR


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (STATISTICS, True),
        (STATISTICS_WITHOUT_MONITOR, False),
        ({}, False),
        ({"block.0.name": "vda", "block.0.rd.reqs": 0}, True),
        ({"balloon.rss": 7}, True),
        ({"balloon.rss": 7, "block.count": 0}, True),
        ({"balloon.rss": 7, "block.0.name": "vda"}, False),
        ({"balloon.last-update": 0, "block.0.name": "hdc"}, True),
    ],
)
def test_an_answer_of_the_monitor_is_told_from_one_without_it(
    statistics: dict[str, object], *, expected: bool
) -> None:
    assert is_of_the_monitor(statistics) is expected


def test_disks_are_in_the_order_of_the_xml_and_each_is_there_once() -> None:
    statistics: dict[str, object] = {"block.count": 12}
    for number in reversed(range(12)):
        statistics[f"block.{number}.name"] = f"vd{number % 11}"
        statistics[f"block.{number}.rd.reqs"] = number
    disks = parse_disks(statistics)
    assert list(disks) == [f"vd{number}" for number in range(11)]
    assert disks["vd0"] == DiskCounters(read_requests=0)


def test_a_disk_without_numbers_or_name_is_left_out() -> None:
    statistics = {"block.0.name": "hdc", "block.1.rd.reqs": 7, "block.2.name": "", "block.2.rd.reqs": 8}
    assert parse_disks(statistics) == {}


def test_a_balloon_that_tells_nothing_has_no_account_of_the_guest() -> None:
    assert parse_memory({"balloon.current": 1, "balloon.last-update": 0, "balloon.unused": 9}) == (
        MemoryStatistics(balloon_kib=1)
    )
    assert parse_memory({"block.count": 1}) is None


@pytest.mark.parametrize("odd", [-1, 2**64 - 1, 2**63, "7", 7.5, None])
def test_a_number_that_makes_no_sense_is_not_known(odd: object) -> None:
    """A driver's -1 comes as 2^64 - 1 where libvirt's type has no sign."""
    statistics = {"block.0.name": "vda", "block.0.rd.reqs": 7, "block.0.rd.bytes": odd}
    assert parse_disks(statistics) == {"vda": DiskCounters(read_requests=7)}
    statistics = {"balloon.current": 1, "balloon.last-update": 5, "balloon.usable": odd}
    assert parse_memory(statistics) == MemoryStatistics(balloon_kib=1, updated_at=5)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({"available": 10, "usable": 10, "unused": 9, "disk_caches": 8}, (10, 10, 9, 8)),
        ({"available": 10, "usable": 11, "unused": 12, "disk_caches": 13}, (10, None, None, None)),
        ({"available": 2**60, "usable": 5, "unused": 21, "disk_caches": 1}, (None, 5, None, 1)),
    ],
    ids=["sound", "more than it says to have", "more than it has"],
)
def test_a_guest_that_tells_more_memory_than_it_has_is_not_believed(
    told: dict[str, int], known: tuple[int | None, ...]
) -> None:
    """Else it uses less than nothing, or all that its flavor's guests use together is what it says."""
    statistics: dict[str, object] = {f"balloon.{name}": value for name, value in told.items()}
    memory = parse_memory({"balloon.maximum": 20, "balloon.last-update": 5, **statistics})
    assert memory is not None
    assert (memory.available_kib, memory.usable_kib, memory.unused_kib, memory.disk_caches_kib) == known


def test_an_interface_that_nobody_counts_for_is_left_out() -> None:
    assert parse_interfaces({"net.count": 1, "net.0.name": "vhu1", "net.0.rx.bytes": 7}) == {}


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from((*STATISTICS, "block.0.", "block.x.name", "block..name", "block", "net.²")),
            st.text(),
        ),
        st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()),
    )
)
def test_odd_answers_cost_only_what_they_would_tell(statistics: dict[str, object]) -> None:
    """Shows that nothing is raised, and that no number is negative or of another kind."""
    is_of_the_monitor(statistics)
    memory = parse_memory(statistics)
    parse_interfaces(statistics)
    for disk in parse_disks(statistics).values():
        assert disk.read_bytes is None or disk.read_bytes >= 0
    assert memory is None or memory.balloon_kib is None or memory.balloon_kib >= 0

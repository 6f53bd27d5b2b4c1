"""The collector `guests`: what guests' QEMU and balloons told of them."""

from __future__ import annotations

import pytest

from exporter.collectors import guests
from exporter.guest_records import (
    ANSWER_BUCKETS_SECONDS,
    AllGuestStatistics,
    AnswerTimes,
    ChosenGuest,
    ChosenGuests,
    DiskCounters,
    GuestStatistics,
    MemoryStatistics,
)
from exporter.metric import HistogramSample, Series
from tests.support.records import make_domain, make_guest, make_snapshot, make_uuid

DISK = DiskCounters(
    read_bytes=1,
    read_requests=2,
    read_ns=3_000_000_000,
    written_bytes=4,
    write_requests=5,
    write_ns=6_500_000_000,
    flush_requests=7,
    flush_ns=8_000_000_000,
    size_bytes=9,
    allocated_bytes=10,
)
# Every metric of a disk, with its value.
OF_DISK = {
    "hypervisor_guest_disk_read_bytes_total": 1,
    "hypervisor_guest_disk_reads_completed_total": 2,
    "hypervisor_guest_disk_read_time_seconds_total": 3,
    "hypervisor_guest_disk_written_bytes_total": 4,
    "hypervisor_guest_disk_writes_completed_total": 5,
    "hypervisor_guest_disk_write_time_seconds_total": 6.5,
    "hypervisor_guest_disk_flush_requests_total": 7,
    "hypervisor_guest_disk_flush_requests_time_seconds_total": 8,
    "hypervisor_guest_disk_size_bytes": 9,
    "hypervisor_guest_disk_allocated_bytes": 10,
}
MEMORY = MemoryStatistics(
    balloon_kib=1,
    available_kib=2,
    usable_kib=3,
    swap_in_kib=4,
    swap_out_kib=5,
    major_faults=6,
    updated_at=1749999990,
)
OF_MEMORY = {
    "hypervisor_guest_memory_balloon_bytes": 1024,
    "hypervisor_guest_memory_available_bytes": 2048,
    "hypervisor_guest_memory_usable_bytes": 3072,
    "hypervisor_guest_memory_swap_in_bytes_total": 4096,
    "hypervisor_guest_memory_swap_out_bytes_total": 5120,
    "hypervisor_guest_memory_major_faults_total": 6,
    "hypervisor_guest_memory_stats_timestamp_seconds": 1749999990,
}
DEVICE = {"device": "vda"}


def show(*told: GuestStatistics | None, **changes: object) -> list[object]:
    """Return all samples of guests that told this, but for those that say who they are."""
    chosen = tuple(
        ChosenGuest(record=make_domain(number), guest=make_guest(number)) for number in range(len(told))
    )
    part = AllGuestStatistics(
        **{  # type: ignore[arg-type]
            "statistics": {make_uuid(number): each for number, each in enumerate(told) if each is not None},
            "is_responsive": {},
            "is_suspended": False,
            **changes,
        }
    )
    snapshot = make_snapshot(
        parts={"chosen guests": ChosenGuests(guests=chosen, omitted=0), "guest statistics": part}
    )
    return list(guests.COLLECTOR.collect(snapshot))


def read_series(samples: list[object], *names: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels, without those of all guests, and values by metric."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for each in samples:
        if isinstance(each, Series) and each.metric.name in names:
            for labels, value in each.rows:
                assert labels["hypervisor_hostname"] == "kvm01.example"
                rest = {key: text for key, text in labels.items() if key != "hypervisor_hostname"}
                found.setdefault(each.metric.name, []).append((rest, value))
    return found


def read_values(samples: list[object]) -> dict[str, float]:
    """Return the values of the metrics that a hypervisor has one of."""
    return {
        each.metric.name: each.value
        for each in samples
        if hasattr(each, "value") and not isinstance(each, Series)
    }


def test_a_disk_shows_all_that_it_has_done() -> None:
    found = read_series(show(GuestStatistics(read_at=1.0, disks={"vda": DISK})), *OF_DISK)
    assert found == {name: [({"domain": "guest0", **DEVICE}, value)] for name, value in OF_DISK.items()}


def test_a_guest_shows_its_memory_by_its_own_account() -> None:
    found = read_series(show(GuestStatistics(read_at=1.0, memory=MEMORY)), *OF_MEMORY)
    assert found == {name: [({"domain": "guest0"}, value)] for name, value in OF_MEMORY.items()}


def test_what_is_not_known_has_no_sample() -> None:
    """Shows an empty drive, a balloon without its driver, and a guest of which nothing is known."""
    drive = GuestStatistics(
        read_at=1.0, disks={"hdc": DiskCounters(read_bytes=0)}, memory=MemoryStatistics(balloon_kib=1)
    )
    found = read_series(show(drive, None, GuestStatistics()), *OF_DISK, *OF_MEMORY)
    assert found == {
        "hypervisor_guest_disk_read_bytes_total": [({"domain": "guest0", "device": "hdc"}, 0)],
        "hypervisor_guest_memory_balloon_bytes": [({"domain": "guest0"}, 1024)],
    }


def test_more_disks_than_32_are_one() -> None:
    disks = {f"vd{number}": DISK for number in range(34)}
    disks["vd34"] = DiskCounters(read_bytes=100, written_bytes=None)
    name, other = "hypervisor_guest_disk_read_bytes_total", "hypervisor_guest_disk_written_bytes_total"
    others = DiskCounters(read_bytes=102, written_bytes=None)
    found = read_series(show(GuestStatistics(read_at=1.0, disks=disks, other_disks=others)), name, other)
    assert [labels["device"] for labels, _ in found[name]] == [*(f"vd{n}" for n in range(32)), "other"]
    assert found[name][-1][1] == 102
    assert len(found[other]) == 32, "a sum of which a part is not known is not known"


@pytest.mark.parametrize("name", ["hypervisor_guest_stats_timestamp_seconds", "hypervisor_guest_responsive"])
def test_guests_show_whether_they_answer_and_when_they_last_did(name: str) -> None:
    samples = show(
        GuestStatistics(read_at=1.75e9),
        None,
        GuestStatistics(cpu_ns=7),
        is_responsive={make_uuid(0): True, make_uuid(1): False},
    )
    expected = {
        "hypervisor_guest_stats_timestamp_seconds": [({"domain": "guest0"}, 1.75e9)],
        "hypervisor_guest_responsive": [({"domain": "guest0"}, 1), ({"domain": "guest1"}, 0)],
    }
    assert read_series(samples, name)[name] == expected[name]
    assert read_values(samples)["hypervisor_guests_unresponsive"] == 1
    assert read_values(samples)["hypervisor_guest_stats_suspended"] == 0


def test_a_hypervisor_whose_guests_are_not_asked_says_so() -> None:
    assert read_values(show(is_suspended=True))["hypervisor_guest_stats_suspended"] == 1


def test_answers_are_a_histogram() -> None:
    counts = (1, 2, *[0] * (len(ANSWER_BUCKETS_SECONDS) - 2), 4)
    samples = show(answer_times=AnswerTimes(counts=counts, total_seconds=9.5))
    (histogram,) = [each for each in samples if isinstance(each, HistogramSample)]
    lines = {(name, labels.get("le")): value for name, labels, value in histogram.list_lines()}
    name = "hypervisor_guest_stats_duration_seconds"
    assert [lines[f"{name}_bucket", le] for le in ("0.001", "0.0025", "2.0", "+Inf")] == [1, 3, 3, 7]
    assert lines[f"{name}_count", None] == 7
    assert lines[f"{name}_sum", None] == 9.5


def test_a_histogram_without_its_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        guests.answers.DURATION.histogram((), (0,), 0.0, domain="a")

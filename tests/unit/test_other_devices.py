"""The devices of a guest beyond the first 32 are summed up, and no change of them moves the sum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.guest_records import DiskCounters, GuestUse, InterfaceCounters
from exporter.model import Interface
from exporter.virt.guests.other_devices import OtherDevices
from tests.support.cgroup_trees import NET_DEV, Tree
from tests.support.records import make_uuid
from tests.support.waiting_libvirt import STATISTICS
from tests.unit.test_guest_statistics import INFO, REMOTE, Bench
from tests.unit.test_guest_statistics import choose as choose_told
from tests.unit.test_guest_use import USE, Reader, choose

TARGETS = tuple(f"tap{number}" for number in range(40))


def count(number: int) -> InterfaceCounters:
    return InterfaceCounters(
        received_bytes=number,
        received_packets=number,
        received_errors=0,
        received_dropped=0,
        transmitted_bytes=0,
        transmitted_packets=0,
        transmitted_errors=0,
        transmitted_dropped=0,
    )


def make_interfaces(*targets: str) -> tuple[Interface, ...]:
    return tuple(Interface(target=each, type="bridge", mac="", bridge="", port_id="") for each in targets)


def make_disks(counts: Mapping[int, int | None]) -> dict[str, DiskCounters]:
    """Return disks that have read so much, by their numbers; each has a size of 1000."""
    return {f"vd{number}": DiskCounters(read_bytes=read, size_bytes=1000) for number, read in counts.items()}


def test_a_guest_without_so_many_has_no_others() -> None:
    others = OtherDevices()
    assert others.sum_disks(make_disks(dict.fromkeys(range(32), 5))) is None
    assert others.sum_interfaces({each: count(1) for each in TARGETS[:32]}, TARGETS[:32]) is None


def test_counters_and_sizes_of_the_others_are_added_up() -> None:
    disks = OtherDevices().sum_disks(make_disks(dict.fromkeys(range(34), 5)))
    assert disks == DiskCounters(read_bytes=10, size_bytes=2000)
    interfaces = OtherDevices().sum_interfaces({each: count(2) for each in TARGETS}, TARGETS)
    assert interfaces == count(16)


def test_interfaces_that_nobody_counts_have_no_sum_of_0() -> None:
    others = OtherDevices()
    assert others.sum_interfaces({each: count(2) for each in TARGETS[:32]}, TARGETS) is None
    assert others.sum_interfaces({each: count(2) for each in TARGETS}, TARGETS) == count(16)
    assert others.sum_interfaces({each: count(2) for each in TARGETS[:32]}, TARGETS) == count(16)


def test_what_is_not_known_of_one_is_not_known_of_the_sum_and_not_lost() -> None:
    others = OtherDevices()
    disks = make_disks(dict.fromkeys(range(34), 5))
    others.sum_disks(disks)
    assert others.sum_disks({**disks, "vd33": DiskCounters(size_bytes=1000)}) == DiskCounters(size_bytes=2000)
    assert others.sum_disks(disks) == DiskCounters(read_bytes=10, size_bytes=2000)


@pytest.mark.parametrize("gone", [33, 3], ids=["one of the others", "one of the first"])
def test_a_disk_that_is_unplugged_does_not_make_the_sum_step_back(gone: int) -> None:
    """If it is one of the first, one of the others takes its place, and has series of its own."""
    others = OtherDevices()
    counts = dict.fromkeys(range(40), 5)
    others.sum_disks(make_disks(counts))
    del counts[gone]
    disks = others.sum_disks(make_disks(counts))
    assert disks == DiskCounters(read_bytes=40, size_bytes=7000)


def test_a_disk_that_had_series_of_its_own_does_not_make_the_sum_leap() -> None:
    """It becomes one of the others, as a new disk is before it."""
    others = OtherDevices()
    disks = make_disks({number: 5 if number >= 32 else 10_000 for number in range(40)})
    others.sum_disks(disks)
    assert others.sum_disks({"vda": DiskCounters(read_bytes=0, size_bytes=1000), **disks}) == DiskCounters(
        read_bytes=40, size_bytes=9000
    )


def test_an_interface_that_is_unplugged_does_not_make_the_sum_step_back(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)

    def read(*targets: str) -> GuestUse:
        (tmp_path / "proc/self/net/dev").write_text(NET_DEV)
        for each in targets:
            tree.add_device(each, [0] * 8 + [70, *[0] * 7])
        return reader.read(choose(3, interfaces=make_interfaces(*targets)))["web"]

    others = [read(*targets).other_interfaces for targets in (TARGETS, TARGETS[:-1], TARGETS[1:-1])]
    assert [each and each.received_bytes for each in others] == [560, 560, 560]
    assert read(*TARGETS[:32]).other_interfaces is None
    try:
        reader.read()
        again = read(*TARGETS[:34]).other_interfaces
        assert again is not None
        assert again.received_bytes == 140, "nothing is kept of a guest that has ended"
    finally:
        reader.source.close()


def test_the_others_of_a_guest_are_kept_from_round_to_round_until_it_is_restarted() -> None:
    bench, uuid = Bench(uri=REMOTE), make_uuid(1)
    bench.libvirt.info[uuid] = INFO

    def tell(numbers: range, guest_id: int = 1) -> tuple[int | None, int | None]:
        told = dict(STATISTICS)
        for index, number in enumerate(numbers):
            told |= {f"block.{index}.name": f"vd{number}", f"block.{index}.rd.bytes": 5}
            told |= {f"net.{index}.name": TARGETS[number]}
            told |= {f"net.{index}.{way}.{what}": 3 for way in ("rx", "tx") for what in _COUNTS}
        bench.libvirt.statistics[uuid] = told
        guest = choose_told(1, id=guest_id, interfaces=make_interfaces(*(TARGETS[each] for each in numbers)))
        bench.scrape(guest)
        statistics = bench.show(guest).statistics[uuid]
        disks, interfaces = statistics.other_disks, statistics.other_interfaces
        return disks and disks.read_bytes, interfaces and interfaces.received_bytes

    assert tell(range(40)) == (40, 24)
    assert tell(range(39)) == (40, 24)
    assert tell(range(39), guest_id=9) == (35, 21)


_COUNTS = ("bytes", "pkts", "errs", "drop")

"""What each guest uses: read out of its control group, /proc and the host's network devices, or not known."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from exporter.guest_records import ChosenGuest, ChosenGuests, GuestUse, InterfaceCounters
from exporter.model import DomainRecord, DomainState, GuestNumaCell, Interface
from exporter.virt.cgroups.kept_files import KeptFile, KeptFiles
from exporter.virt.files import HungReads
from exporter.virt.masks import Sandbox
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.sources.guest_use import GuestUseFiles
from tests.support.cgroup_trees import NET_DEV, Kind, Tree, Use
from tests.support.descriptors import count_descriptors
from tests.support.holding import Hold
from tests.support.hosts import Clock, make_settings
from tests.support.records import make_guest, make_uuid
from tests.support.waiting import wait_until

USE = Use(cpu_us=7_000, vcpus={0: (500, 50), 1: (600, 60)}, anon=4096, shmem=100)


def choose(guest_id: int, name: str = "web", *, number: int | None = None, **changes: Any) -> ChosenGuest:
    """Return a guest that runs, by its number the same also after a restart; it has two vCPUs."""
    guest = make_guest(guest_id if number is None else number, name=name, **changes)
    return ChosenGuest(record=DomainRecord(guest.uuid, name, guest_id, DomainState.RUNNING), guest=guest)


class Reader:
    """The source, on a tree. After its test, all are closed.

    :param limit: how many descriptors there may be; enough, whatever other tests have left open
    """

    made: ClassVar[list[Reader]] = []

    def __init__(self, sandbox: Sandbox, *, limit: int = 65536, uri: str = "qemu:///system") -> None:
        self.made.append(self)
        self.files = KeptFiles(lambda: limit)
        self.clock = Clock()
        settings = make_settings(uri=uri)
        self.source = GuestUseFiles(
            HungReads(), settings, clock=self.clock, sandbox=sandbox, files=self.files
        )

    def read(self, *guests: ChosenGuest) -> dict[str, GuestUse]:
        """Return the use of each guest by its name."""
        self.source.read(ChosenGuests(guests=guests, omitted=0), RefreshTimeout(clock=self.clock))
        part = self.source.get_part()
        assert part is not None
        names = {each.record.uuid: each.record.name for each in guests}
        return {names[uuid]: use for uuid, use in part.use.items()}

    @property
    def notes(self) -> Sequence[str]:
        """Each with its cure."""
        return [f"{each.message}. {each.advice}" for each in self.source.get_problems()]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Reader.made:
        Reader.made.pop().source.close()


@pytest.mark.parametrize("machined", [True, False], ids=["machined", "no machined"])
@pytest.mark.parametrize("kind", ["v2", "v1", "hybrid"])
def test_a_guest_is_read_wherever_its_group_is(tmp_path: Path, kind: Kind, machined: bool) -> None:
    tree = Tree(tmp_path, kind, machined=machined)
    tree.add_guest(3, "web-1", USE)
    tree.add_guest(4, "db", Use(cpu_us=1))
    reader = Reader(tree.sandbox)
    for _ in range(2):
        use = reader.read(choose(3, "web-1"))["web-1"]
        pressure = {} if kind == "v1" else {"cpu": (40, 4), "io": (50, 5), "memory": (60, 6)}
        assert use == GuestUse(
            cpu_ns=7_000_000,
            delay_ns=110,
            throttled_ns=None,
            vcpu_run_ns={0: 500, 1: 600},
            vcpu_delay_ns={0: 50, 1: 60},
            waiting_us={name: some for name, (some, _) in pressure.items()},
            stalled_us={name: full for name, (_, full) in pressure.items()},
            resident_bytes=4196,
        )
    assert reader.notes == []
    assert reader.source.get_ages() == {"guest use": 0}


def test_each_read_has_what_the_kernel_says_then(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    reader.read(choose(3))
    tree.add_guest(3, "web", replace(USE, cpu_us=8_000, vcpus={0: (900, 90), 1: (600, 60)}))
    use = reader.read(choose(3))["web"]
    assert (use.cpu_ns, use.vcpu_delay_ns) == (8_000_000, {0: 90, 1: 60})


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_throttling_is_known_of_a_guest_with_a_quota_only(tmp_path: Path, kind: Kind) -> None:
    """It is the sum over its group, and those of its vCPUs, where Nova's quota holds."""
    tree = Tree(tmp_path, kind)
    tree.add_guest(3, "web", replace(USE, throttled_us=2_000))
    reader = Reader(tree.sandbox)
    assert reader.read(choose(3))["web"].throttled_ns is None
    assert reader.read(choose(3, has_cpu_quota=True))["web"].throttled_ns == 4_000_000
    for part in tmp_path.rglob("vcpu0/cpu.stat"):  # version 1 has them in two trees
        part.write_text("nr_periods 3\n")
    assert reader.read(choose(3, has_cpu_quota=True))["web"].throttled_ns is None


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_an_io_thread_that_comes_and_goes_is_throttled_with_the_others(tmp_path: Path, kind: Kind) -> None:
    """A guest's record says nothing of them, and stays the same object while the guest's XML does."""
    tree = Tree(tmp_path, kind)
    tree.add_guest(3, "web", replace(USE, throttled_us=2_000))
    reader, guest = Reader(tree.sandbox), choose(3, has_cpu_quota=True)
    assert reader.read(guest)["web"].throttled_ns == 4_000_000
    emulators = list(tmp_path.rglob("emulator"))
    for emulator in emulators:
        shutil.copytree(emulator, emulator.with_name("iothread1"))
    assert {reader.read(guest)["web"].throttled_ns for _ in range(10)} == {4_000_000}
    for part in tmp_path.rglob("iothread1/cpu.stat"):
        part.write_text("throttled_usec 1000\n" if kind == "v2" else "throttled_time 1000000\n")
    assert reader.read(guest)["web"].throttled_ns == 5_000_000
    open_files = len(reader.files)
    reader.files.close()  # in a real control group, an open file fails when the group is gone
    for emulator in emulators:
        shutil.rmtree(emulator.with_name("iothread1"))
    assert reader.read(guest)["web"].throttled_ns is None
    assert reader.read(guest)["web"].throttled_ns == 5_000_000, "what it was throttled stays in the sum"
    assert len(reader.files) == open_files - 1


def test_a_group_without_a_controller_for_cpus_has_no_quota(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", replace(USE, throttled_us=2_000))
    next(tmp_path.rglob("emulator/cpu.stat")).write_text("usage_usec 5\nuser_usec 1\n")
    assert Reader(tree.sandbox).read(choose(3, has_cpu_quota=True))["web"].throttled_ns == 4_000_000


def test_where_libvirt_makes_no_groups_for_vcpus_their_threads_are_known_by_name(tmp_path: Path) -> None:
    tree = Tree(tmp_path, machined=False)
    (group,) = tree.add_guest(3, "web", USE)
    for part in ("vcpu0", "vcpu1", "emulator"):
        shutil.rmtree(group / part)
    (group / "cgroup.threads").write_text("2999\n3000\n3001\n")
    for tid, name in ((2999, "qemu-system-x86"), (3000, "CPU 0/KVM"), (3001, "CPU 1/TCG")):
        (tmp_path / f"proc/{tid}").mkdir(exist_ok=True)
        (tmp_path / f"proc/{tid}/comm").write_text(f"{name}\n")
    assert Reader(tree.sandbox).read(choose(3))["web"].vcpu_delay_ns == {0: 50, 1: 60}


def test_a_guest_may_have_more_threads_than_a_page_lists(tmp_path: Path) -> None:
    """QEMU has hundreds for volumes of Ceph. A number that is cut off would be another guest's thread."""
    tree = Tree(tmp_path, machined=False)
    (group,) = tree.add_guest(3, "web", USE)
    for part in ("vcpu0", "vcpu1", "emulator"):
        shutil.rmtree(group / part)
    others = [str(number) for number in range(1_000_000, 1_000_900)]
    (group / "cgroup.threads").write_text("\n".join([*others, "3000", "3001", "4000"]))
    for tid, name in ((3000, "CPU 0/KVM"), (3001, "CPU 1/KVM"), (4000, "CPU 2/KVM")):
        (tmp_path / f"proc/{tid}").mkdir(exist_ok=True)
        (tmp_path / f"proc/{tid}/comm").write_text(f"{name}\n")
        (tmp_path / f"proc/{tid}/schedstat").write_text("600 60 12\n")
    assert Reader(tree.sandbox).read(choose(3))["web"].vcpu_delay_ns == {0: 60, 1: 60}


def test_a_vcpu_that_is_plugged_in_later_is_found(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", replace(USE, vcpus={0: (500, 50)}))
    reader = Reader(tree.sandbox)
    one = choose(3, vcpus=1)
    assert reader.read(one)["web"].vcpu_delay_ns == {0: 50}
    tree.add_guest(3, "web", USE)
    assert reader.read(one)["web"].vcpu_delay_ns == {0: 50}
    assert reader.read(choose(3))["web"].vcpu_delay_ns == {0: 50, 1: 60}


def test_the_sum_of_delays_is_not_known_while_one_vcpu_is_missing(tmp_path: Path) -> None:
    """Prometheus would take the smaller sum for a restart, and the next one for a burst."""
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    assert reader.read(choose(3))["web"].delay_ns == 110
    schedstat = tmp_path / f"proc/{tree.tids[3][1]}/schedstat"
    schedstat.write_text("")
    assert reader.read(choose(3))["web"].delay_ns is None
    schedstat.write_text("600 65 12\n")
    assert reader.read(choose(3))["web"].delay_ns == 115


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_sums_over_vcpus_do_not_step_back_when_one_is_unplugged(tmp_path: Path, kind: Kind) -> None:
    """`rate()` would take it for a restart, and all that the others have counted for new."""
    tree = Tree(tmp_path, kind)
    tree.add_guest(3, "web", replace(USE, throttled_us=2_000))
    reader = Reader(tree.sandbox)
    two, one = choose(3, has_cpu_quota=True), choose(3, has_cpu_quota=True, vcpus=1)
    before = reader.read(two)["web"]
    assert (before.delay_ns, before.throttled_ns) == (110, 4_000_000)
    for group in list(tmp_path.rglob("vcpu0")):
        shutil.rmtree(group)
    after = reader.read(one)["web"]
    assert (after.delay_ns, after.throttled_ns) == (110, 4_000_000)
    tree.add_guest(3, "web", replace(USE, throttled_us=3_000, vcpus={0: (0, 0), 1: (600, 65)}))
    again = reader.read(two)["web"]
    assert (again.delay_ns, again.throttled_ns) == (115, 5_000_000)


def test_threads_of_a_guest_that_starts_are_found_within_some_reads(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", replace(USE, vcpus={}))
    reader, guest = Reader(tree.sandbox), choose(3)
    assert reader.read(guest)["web"].vcpu_delay_ns == {}
    tree.add_guest(3, "web", USE)
    seen = [len(reader.read(guest)["web"].vcpu_delay_ns) for _ in range(4)]
    assert seen[-1] == 2


@pytest.mark.parametrize(
    ("partition", "folder"),
    [
        ("/machine/prod", "machine.slice/machine-prod.slice"),
        ("/machine/my-prod", r"machine.slice/machine-my\x2dprod.slice"),
        ("/prod", "prod.slice"),
        ("/machine/prod", "machine/prod.partition"),
        ("/prod", "prod.partition"),
    ],
)
def test_a_guest_may_be_in_a_partition_of_its_own(tmp_path: Path, partition: str, folder: str) -> None:
    tree = Tree(tmp_path, machined="slice" in folder)
    tree.add_guest(3, "web", USE, partition=folder)
    assert Reader(tree.sandbox).read(choose(3, partition=partition))["web"].cpu_ns == 7_000_000


def test_a_guest_that_was_restarted_has_the_numbers_of_its_new_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    reader.read(choose(3, number=1))
    tree.end_guest(3, "web")
    assert reader.read(choose(4, number=1))["web"].cpu_ns is None, "it is not there yet"
    tree.add_guest(4, "web", Use(cpu_us=1))
    assert reader.read(choose(4, number=1))["web"].cpu_ns == 1_000


def test_a_guest_never_has_the_numbers_of_another_with_its_id(tmp_path: Path) -> None:
    """After its restart, libvirt gives ids anew."""
    tree = Tree(tmp_path)
    tree.add_guest(3, "db", USE)
    assert Reader(tree.sandbox).read(choose(3, "web"))["web"].cpu_ns is None


@pytest.mark.parametrize("machined", [True, False], ids=["machined", "no machined"])
@pytest.mark.parametrize("first", ["qemu", "lxc"])
def test_a_guest_never_has_the_numbers_of_another_drivers_with_its_id(
    tmp_path: Path, first: str, machined: bool
) -> None:
    """Each driver counts its guests from 1."""
    tree = Tree(tmp_path, machined=machined)
    for driver in (first, "lxc" if first == "qemu" else "qemu"):
        tree.add_guest(1, driver, Use(cpu_us=len(driver)), driver=driver)
        tree.add_guest(2, "same", Use(cpu_us=len(driver)), driver=driver)
    for uri, driver in (("qemu:///system", "qemu"), ("lxc:///", "lxc")):
        use = Reader(tree.sandbox, uri=uri).read(choose(1, driver), choose(2, "same"))
        assert {name: each.cpu_ns for name, each in use.items()} == dict.fromkeys(
            (driver, "same"), 1000 * len(driver)
        )


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("we_b-1", r"machine-qemu\x2d3\x2dweb\x2d1.scope"),
        ("..web", r"machine-qemu\x2d3\x2dweb.scope"),
        ("grün", r"machine-qemu\x2d3\x2dgrn.scope"),
        ("ü", r"machine-qemu\x2d3.scope"),
        ("a" * 99, rf"machine-qemu\x2d3\x2d{'a' * 57}.scope"),
    ],
)
def test_libvirt_changes_and_cuts_a_guests_name(tmp_path: Path, name: str, group: str) -> None:
    tree = Tree(tmp_path)
    (made,) = tree.add_guest(3, "x", USE)
    made.rename(made.with_name(group))
    assert Reader(tree.sandbox).read(choose(3, name))[name].cpu_ns == 7_000_000


def _empty(file: Path) -> None:
    file.write_text("")


def _refuse(file: Path) -> None:
    """Let it be there, and reading fail, as without PSI or descriptors."""
    file.unlink()
    file.mkdir()


def _garble(file: Path) -> None:
    file.write_text("usage_usec x\nsome avg10=1.00 total=\nanon -5\nshmem 1\n\x00")


ODD = [
    ("cpu.stat", {"cpu_ns": None}),
    ("io.pressure", {"waiting_us": {"cpu": 40, "memory": 60}, "stalled_us": {"cpu": 4, "memory": 6}}),
    ("memory.stat", {"resident_bytes": None}),
]


def _underflow(file: Path) -> None:
    """A counter of the kernel that went below 0."""
    odd = 2**64 - 5
    file.write_text(f"usage_usec {odd}\nsome total={odd}\nfull total={odd}\nanon {odd}\nshmem 1\n")


@pytest.mark.parametrize(
    "spoil", [_empty, _garble, _underflow, _refuse], ids=["empty", "garbage", "below 0", "refused"]
)
@pytest.mark.parametrize(("name", "lost"), ODD, ids=[name for name, _ in ODD])
def test_an_odd_file_costs_that_number_of_that_guest(
    tmp_path: Path, name: str, lost: dict[str, Any], spoil: Callable[[Path], None]
) -> None:
    tree = Tree(tmp_path)
    (group,) = tree.add_guest(3, "web", USE)
    tree.add_guest(4, "db", USE)
    reader = Reader(tree.sandbox)
    guests = (choose(3), choose(4, "db"))
    before = reader.read(*guests)
    reader.files.close()
    spoil(group / name)
    assert reader.read(*guests) == {"web": replace(before["web"], **lost), "db": before["db"]}
    (tmp_path / "proc/3001/schedstat").write_text("12 x 3\n")
    assert reader.read(*guests)["web"].vcpu_delay_ns == {0: 50}


@pytest.mark.parametrize("limit", [1024, 0], ids=["kept open", "opened each time"])
def test_a_guest_that_ends_between_two_reads_costs_no_other(tmp_path: Path, limit: int) -> None:
    tree = Tree(tmp_path)
    (group,) = tree.add_guest(3, "web", USE)
    tree.add_guest(4, "db", USE)
    reader = Reader(tree.sandbox, limit=limit)
    guests = (choose(3), choose(4, "db"))
    before = reader.read(*guests)
    if limit:
        reader.files.close()  # in a real control group, an open file fails when the group is gone
    shutil.rmtree(group)
    assert reader.read(*guests) == {"web": GuestUse(), "db": before["db"]}
    tree.add_guest(3, "web", USE)
    assert reader.read(*guests) == before


def test_memory_in_huge_pages_is_counted_by_its_process(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    cells = (GuestNumaCell(host_cell=None, vcpus=frozenset({0}), memory_kib=9, page_size_kib=2048),)
    reader, guest = Reader(tree.sandbox), choose(3, numa_cells=cells)
    assert reader.read(guest)["web"].resident_bytes is None, "not without /proc"
    for _ in range(10):
        reader.read(guest)  # a file that is missing is looked for now and then
    (tmp_path / "proc/3000/status").write_text("Name:\tqemu\nHugetlbPages:\t    2048 kB\nCpus:\t1\n")
    assert reader.read(guest)["web"].resident_bytes == 4196 + 2048 * 1024


# Each column another number: the first four are what the host received of the guest.
TAP = "  tap0: 101 102 103 104 5 6 7 8 201 202 203 204 5 6 7 8\n"
SWAPPED = InterfaceCounters(
    received_bytes=201,
    received_packets=202,
    received_errors=203,
    received_dropped=204,
    transmitted_bytes=101,
    transmitted_packets=102,
    transmitted_errors=103,
    transmitted_dropped=104,
)
SAME = InterfaceCounters(
    received_bytes=101,
    received_packets=102,
    received_errors=103,
    received_dropped=104,
    transmitted_bytes=201,
    transmitted_packets=202,
    transmitted_errors=203,
    transmitted_dropped=204,
)


@pytest.mark.parametrize(
    ("kind", "device", "counters"),
    [
        ("bridge", "tun_flags", SWAPPED),
        ("network", None, SWAPPED),
        ("direct", None, SAME),
        ("ethernet", "tun_flags", SWAPPED),
        ("ethernet", "address", SAME),
        ("ethernet", None, SWAPPED),
    ],
    ids=[
        "a tap",
        "/sys not seen",
        "macvtap",
        "a tap that others made",
        "a macvtap that others made",
        "unknown",
    ],
)
def test_traffic_is_as_the_guest_sees_it(
    tmp_path: Path, kind: str, device: str | None, counters: InterfaceCounters
) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    (tmp_path / "proc/self/net/dev").write_text(NET_DEV + TAP + TAP.replace("tap0", "tap01"))
    if device:
        (tmp_path / "sys/class/net/tap0").mkdir(parents=True)
        (tmp_path / "sys/class/net/tap0" / device).touch()
    interface = Interface(target="tap0", type=kind, mac="", bridge="", port_id="")
    assert Reader(tree.sandbox).read(choose(3, interfaces=(interface,)))["web"].interfaces == {
        "tap0": counters
    }


def test_a_device_of_another_kind_under_a_name_that_was_free_meanwhile_is_seen_as_what_it_is(
    tmp_path: Path,
) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    devices, folder = tmp_path / "proc/self/net/dev", tmp_path / "sys/class/net/tap0"
    interface = Interface(target="tap0", type="ethernet", mac="", bridge="", port_id="")
    reader, guest = Reader(tree.sandbox), choose(3, interfaces=(interface,))
    folder.mkdir(parents=True)
    found = []
    for lines in (NET_DEV + TAP, NET_DEV, NET_DEV + TAP):
        devices.write_text(lines)
        found.append(reader.read(guest)["web"].interfaces)
        (folder / "tun_flags").touch()
    assert found == [{"tap0": SAME}, {}, {"tap0": SWAPPED}]


@pytest.mark.parametrize(
    ("target", "kind", "line"),
    [
        ("vhu0", "vhostuser", TAP.replace("tap0", "vhu0")),
        ("", "hostdev", TAP),
        ("tap9", "bridge", TAP),
        ("tap0", "bridge", "tap0: 1 2 3 4 5 6 7 8 9\n"),
        ("tap0", "bridge", TAP.replace("101", "-1")),
        ("tap0", "bridge", TAP.rstrip("\n")),
    ],
    ids=["vhost-user", "hostdev", "not here", "short", "odd", "cut off"],
)
def test_an_interface_that_the_kernel_does_not_count_has_no_counters(
    tmp_path: Path, target: str, kind: str, line: str
) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    (tmp_path / "proc/self/net/dev").write_text(NET_DEV + line)
    interface = Interface(target=target, type=kind, mac="", bridge="", port_id="")
    assert Reader(tree.sandbox).read(choose(3, interfaces=(interface,)))["web"].interfaces == {}


def test_what_a_sandbox_hides_is_one_note_that_names_the_cure(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (group,) = tree.add_guest(3, "web", USE)
    shutil.rmtree(tmp_path / "proc/3000")
    shutil.rmtree(tmp_path / "proc/3001")
    (tmp_path / "proc/1").rmdir()
    service = replace(tree.sandbox, environment={"INVOCATION_ID": "1"})
    reader = Reader(service)
    for _ in range(3):
        use = reader.read(choose(3))["web"]
        assert (use.vcpu_delay_ns, use.cpu_ns) == ({}, 7_000_000)
    assert [note.rpartition(". ")[2] for note in reader.notes] == [
        "Install the drop-in guests/unit.conf (docs/guests.md): the unit hides them (ProtectProc=)"
    ]
    reader = Reader(tree.sandbox)
    reader.read(choose(3))
    assert reader.notes[0].endswith("Mount /proc without hidepid")
    for file in group.rglob("cgroup.threads"):
        file.write_text("0\n")
    reader = Reader(tree.sandbox)
    reader.read(choose(3))
    assert reader.notes[0].endswith("(--pid=host, hostPID: true)")


def test_processes_that_are_there_and_may_not_be_entered_are_hidden(tmp_path: Path) -> None:
    """So it is with hidepid=1 and ProtectProc=noaccess."""
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    for tid in (3000, 3001):
        _refuse(tmp_path / f"proc/{tid}/schedstat")
    (tmp_path / "proc/1").rmdir()
    (tmp_path / "proc/1").touch(mode=0o600)
    reader = Reader(tree.sandbox)
    assert reader.read(choose(3))["web"].vcpu_delay_ns == {}
    assert [note.rpartition(". ")[2] for note in reader.notes] == ["Mount /proc without hidepid"]


def test_a_kernel_that_does_not_count_delays_is_a_note(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    for tid in (3000, 3001):
        (tmp_path / f"proc/{tid}/schedstat").write_text("0 0 0\n")
    reader = Reader(tree.sandbox)
    assert reader.read(choose(3))["web"].vcpu_delay_ns == {}
    assert reader.notes[0].endswith("(sysctl kernel.task_delayacct=1)")


def test_a_guest_that_is_about_to_end_is_no_note(tmp_path: Path) -> None:
    """Its threads are gone a moment before its control group: the kernel needs no option for that."""
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    for tid in (3000, 3001):
        shutil.rmtree(tmp_path / f"proc/{tid}")
    reader = Reader(tree.sandbox)
    assert reader.read(choose(3))["web"].vcpu_delay_ns == {}
    assert reader.notes == []


def test_groups_and_devices_that_are_not_seen_are_notes(tmp_path: Path) -> None:
    interface = Interface(target="tap0", type="bridge", mac="", bridge="", port_id="")
    reader = Reader(Tree(tmp_path).sandbox)
    assert reader.read(choose(3, interfaces=(interface,))) == {"web": GuestUse()}
    assert [note.rpartition(". ")[2] for note in reader.notes] == [
        "See cgroup_controllers in /etc/libvirt/qemu.conf",
        "Run the exporter in the host's network (--network=host, hostNetwork: true)",
    ]


def test_one_guest_that_can_be_read_is_enough_for_no_note(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    reader.read(choose(3), choose(4, "starting"))
    assert reader.notes == []


def test_files_are_kept_open_while_there_are_descriptors_to_spare_and_closed_with_their_guest(
    tmp_path: Path,
) -> None:
    tree = Tree(tmp_path)
    guests = [choose(number, f"web{number}") for number in range(1, 41)]
    for number in range(1, 41):
        tree.add_guest(number, f"web{number}", USE)
    before = count_descriptors()
    reader = Reader(tree.sandbox, limit=4 * (before + 200))
    reader.read(*guests)
    # Of each guest the CPU time and two vCPUs, and other files while a quarter is not taken.
    assert 40 * 3 < len(reader.files) <= 40 * 7
    assert count_descriptors() - before == len(reader.files)
    reader.read(*guests[:10])
    assert len(reader.files) <= 10 * 7
    reader.read()
    assert (len(reader.files), count_descriptors()) == (0, before)


def test_files_take_no_descriptor_that_others_need(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    guests = [choose(number, f"web{number}") for number in range(1, 41)]
    for number in range(1, 41):
        tree.add_guest(number, f"web{number}", USE)
    limit = 2 * count_descriptors() + 40
    reader = Reader(tree.sandbox, limit=limit)
    uses = reader.read(*guests)
    assert 0 < len(reader.files) <= limit // 2
    assert set(map(repr, uses.values())) == {repr(uses["web1"])}
    used = [os.dup(0) for _ in range(limit * 3 // 4 - count_descriptors() + 8)]
    try:
        assert reader.read(*guests) == uses
        assert len(reader.files) == 0
    finally:
        for descriptor in used:
            os.close(descriptor)


def test_nothing_is_open_after_its_end(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    reader.read(choose(3))
    assert len(reader.files) > 0
    reader.source.close()
    assert len(reader.files) == 0
    reader.read(choose(3))
    assert len(reader.files) == 0, "a read that was under way"


class ClosingLock:
    """A lock that a read gives back at the moment in which the source is closed."""

    def __init__(self, source: GuestUseFiles) -> None:
        self._source = source
        self._lock = threading.Lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._source.close()
        self._lock.release()


def test_nothing_is_open_after_an_end_at_the_moment_in_which_a_read_ends(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    reader.source._lock = ClosingLock(reader.source)  # type: ignore[assignment]
    reader.read(choose(3))
    assert len(reader.files) == 0


def test_files_stay_open_without_a_list_of_domains_and_are_closed_if_they_are_another_machines(
    tmp_path: Path,
) -> None:
    """Shows what a reload with `local: false` does, and that sums go on after the next one."""
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox)
    before = reader.read(choose(3))
    reader.source.read(None, RefreshTimeout(clock=reader.clock))
    assert len(reader.files) > 0
    reader.source.configure(make_settings(uri="qemu:///system", local=False))
    assert len(reader.files) == 0
    reader.source.configure(make_settings(uri="qemu:///system"))
    assert reader.read(choose(3)) == before
    assert len(reader.files) > 0


@pytest.mark.parametrize("uri", ["qemu+tls://kvm02/system", "qemu:///session", "test:///default"])
def test_nothing_is_told_of_another_machines_guests(tmp_path: Path, uri: str) -> None:
    tree = Tree(tmp_path)
    tree.add_guest(3, "web", USE)
    reader = Reader(tree.sandbox, uri=uri)
    chosen = ChosenGuests(guests=(choose(3),), omitted=0)
    reader.source.read(chosen, RefreshTimeout(clock=reader.clock))
    assert (reader.source.get_part(), reader.notes) == (None, [])


def test_a_guest_that_is_shut_off_uses_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    off = ChosenGuest(record=DomainRecord(make_uuid(1), "web", -1, DomainState.SHUTOFF), guest=make_guest(1))
    reader = Reader(tree.sandbox)
    assert reader.read(off) == {}
    assert reader.notes == []


class SlowFiles(KeptFiles):
    """Files of which one does not answer when it is opened."""

    def __init__(self, hold: Hold, *, hangs_at: int) -> None:
        super().__init__(lambda: 2**20)  # so all are kept open, whatever else is
        self._hold, self._hangs_at, self._opened = hold, hangs_at, 0

    def note_open(self, file: KeptFile) -> None:
        super().note_open(file)
        self._opened += 1
        if self._opened == self._hangs_at:
            self._hold.enter()
            self._hold.wait()


def test_guests_that_were_read_are_shown_though_the_kernel_does_not_answer_for_a_later_one(
    tmp_path: Path,
) -> None:
    """They are read in chunks of 16. All are there when it answers again."""
    tree = Tree(tmp_path)
    guests = [choose(number, f"web{number}") for number in range(1, 41)]
    for number in range(1, 41):
        tree.add_guest(number, f"web{number}", USE)
    hold = Hold()
    settings = make_settings(uri="qemu:///system")
    files = SlowFiles(hold, hangs_at=20 * 7)
    source = GuestUseFiles(HungReads(), settings, clock=time.monotonic, sandbox=tree.sandbox, files=files)

    def read() -> set[str]:
        source.read(ChosenGuests(guests=tuple(guests), omitted=0), RefreshTimeout(clock=time.monotonic))
        part = source.get_part()
        return set() if part is None else set(part.use)

    try:
        uuids = [each.record.uuid for each in guests]
        shown = read()
        assert shown
        assert shown <= set(uuids)
        assert uuids[-1] not in shown
        assert [each.subject for each in source.get_problems()] == ["guest use"]
        assert read() == set(), "it is not read beside the read that hangs"
    finally:
        hold.let_go()
        hold.join()
    wait_until(lambda: read() == set(uuids), "all guests to be read again")
    assert not source.get_problems()
    source.close()

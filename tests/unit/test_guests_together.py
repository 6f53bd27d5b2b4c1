"""What all guests together use: read out of their common control group, or not known and said why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.guest_records import GuestsTogether
from exporter.model import DomainRecord, DomainsReading, DomainState, Severity
from exporter.virt.files import HungReads
from exporter.virt.masks import Sandbox
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.sources.guests_together import CommonGroup
from tests.support.cgroup_trees import Kind, Tree, Use
from tests.support.hosts import Clock, make_settings
from tests.support.records import make_guest

USE = Use(cpu_us=7_000_000, pressure_us={"cpu": (30, 3), "io": (20, 2), "memory": (10, 1)})
WAITING = {"cpu": 30, "io": 20, "memory": 10}
STALLED = {"cpu": 3, "io": 2, "memory": 1}


def list_domains(active: int, *, partition: str = "") -> DomainsReading:
    """Return a list with so many active guests, and one that is shut off."""
    guests = [make_guest(number, name=f"web{number}") for number in range(active + 1)]
    return DomainsReading(
        domains=tuple(
            DomainRecord(guest.uuid, guest.name, number or -1, DomainState.RUNNING)
            for number, guest in enumerate(guests)
        ),
        guests={guest.uuid: replace(guest, partition=partition) for guest in guests},
        images={},
    )


def read(
    sandbox: Sandbox, domains: DomainsReading | None, *, uri: str = "qemu:///system"
) -> tuple[GuestsTogether | None, list[str]]:
    """Return what is read, and the notes: each with its cure."""
    clock = Clock()
    source = CommonGroup(HungReads(), make_settings(uri=uri), clock=clock, sandbox=sandbox)
    source.read(domains, RefreshTimeout(clock=clock))
    problems = source.get_problems()
    assert {problem.severity for problem in problems} <= {Severity.NOTE}
    assert (source.get_ages() == {}) == (source.get_part() is None)
    return source.get_part(), [f"{each.message}. {each.advice}" for each in problems]


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_a_tree_that_cannot_be_reached_is_none(tmp_path: Path, kind: Kind) -> None:
    """A folder that may not be entered fails as a name that is too long does, also for root."""
    tree = Tree(tmp_path, kind)
    mountinfo = tmp_path / "proc/self/mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace("/sys/fs/cgroup", f"/sys/fs/{'x' * 300}"))
    use, notes = read(tree.sandbox, list_domains(1))
    assert use is None
    assert len(notes) == 1


@pytest.mark.parametrize("machined", [True, False], ids=["machined", "no machined"])
@pytest.mark.parametrize(
    ("kind", "has_pressure"), [("v2", True), ("v1", False), ("hybrid", True)], ids=["v2", "v1", "hybrid"]
)
def test_the_common_group_is_read(tmp_path: Path, kind: Kind, machined: bool, has_pressure: bool) -> None:
    tree = Tree(tmp_path, kind, machined=machined)
    tree.use(USE)
    tree.add_guest(1, "web1")
    use, notes = read(tree.sandbox, list_domains(1))
    assert use is not None
    assert use.cpu_ns == 7_000_000_000
    assert use.waiting_us == (WAITING if has_pressure else {})
    assert use.stalled_us == (STALLED if has_pressure else {})
    assert [("PSI" in note, "unified_cgroup_hierarchy" in note) for note in notes] == (
        [] if has_pressure else [(True, True)]
    )


def test_while_no_guest_ever_ran_the_counters_are_0(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    zeros = dict.fromkeys(WAITING, 0)
    assert read(tree.sandbox, list_domains(0)) == (
        GuestsTogether(cpu_ns=0, waiting_us=zeros, stalled_us=zeros),
        [],
    )
    (tmp_path / "proc/pressure/cpu").unlink()
    assert read(tree.sandbox, list_domains(0)) == (GuestsTogether(cpu_ns=0), [])


def test_a_kernel_that_does_not_count_pressure_is_said(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.use(Use(cpu_us=3, pressure_us={}))
    use, notes = read(tree.sandbox, list_domains(1))
    assert use == GuestsTogether(cpu_ns=3000)
    assert notes == ["the kernel does not count the guests' pressure (PSI). Boot the host with psi=1"]


def test_a_container_without_the_hosts_groups_knows_nothing_and_names_the_cure(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.be_part_of(tree.trees[0])
    for sandbox, cure in (
        (replace(tree.sandbox, environment={"container": "podman"}), "into the container, read-only"),
        (
            replace(tree.sandbox, environment={"INVOCATION_ID": "1"}),
            "Set ProtectControlGroups=yes in the unit",
        ),
        (tree.sandbox, "Mount /sys/fs/cgroup"),
    ):
        use, (note,) = read(sandbox, list_domains(0))
        assert use is None
        assert cure in note


def test_the_hosts_groups_count_beside_a_containers_own(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.be_part_of(tree.trees[0])
    hosts = tmp_path / "host/cgroup"
    shutil.copytree(tree.trees[0], hosts)
    (hosts / "cgroup.type").unlink()
    with (tmp_path / "proc/self/mountinfo").open("a") as mountinfo:
        mountinfo.write("90 25 0:31 /../../.. /host/cgroup ro - cgroup2 cgroup2 rw\n")
    assert read(tree.sandbox, list_domains(0))[0] == GuestsTogether(
        cpu_ns=0, waiting_us=dict.fromkeys(WAITING, 0), stalled_us=dict.fromkeys(WAITING, 0)
    )
    tree.use(USE, folder="../../../host/cgroup/machine.slice")
    use, notes = read(tree.sandbox, list_domains(1))
    assert (use and use.cpu_ns, notes) == (7_000_000_000, [])


def test_a_tree_that_is_mounted_twice_counts_once(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    tree.add_guest(1, "web1")
    (tmp_path / "host").symlink_to(tree.trees[0])
    with (tmp_path / "proc/self/mountinfo").open("a") as mountinfo:
        mountinfo.write("90 25 0:31 / /host ro - cgroup2 cgroup2 rw\n")
    use, notes = read(tree.sandbox, list_domains(1))
    assert (use and use.cpu_ns, notes) == (7_000_000_000, [])


def test_without_the_group_of_guests_that_run_nothing_is_known(tmp_path: Path) -> None:
    use, (note,) = read(Tree(tmp_path).sandbox, list_domains(2))
    assert use is None
    assert "not there, though 2 guests are active. See cgroup_controllers" in note


@pytest.mark.parametrize(
    "other", ["libpod-0123.scope", "systemd-nspawn@db.service", "machine-libpod_pod_1.slice"]
)
def test_a_group_that_others_share_is_not_the_guests(tmp_path: Path, other: str) -> None:
    """Podman puts the containers of root into machine.slice."""
    tree = Tree(tmp_path)
    tree.use(USE)
    tree.add_guest(1, "web1")
    (tree.trees[0] / "machine.slice" / other).mkdir()
    use, (note,) = read(tree.sandbox, list_domains(1))
    assert use is None
    assert f"other things than guests in it, such as {other}" in note


@pytest.mark.parametrize("machined", [True, False], ids=["machined", "no machined"])
@pytest.mark.parametrize("uri", ["qemu:///system", "lxc:///"])
def test_a_group_with_the_guests_of_two_drivers_is_neithers(tmp_path: Path, uri: str, machined: bool) -> None:
    tree = Tree(tmp_path, machined=machined)
    tree.use(USE)
    tree.add_guest(1, "web1")
    tree.add_guest(1, "web1", driver="lxc")
    other = tree.group_of(1, "web1", "qemu" if uri == "lxc:///" else "lxc")
    use, (note,) = read(tree.sandbox, list_domains(1), uri=uri)
    assert use is None
    assert f"has another driver's guests in it, such as {other}. Give these another partition" in note


def test_guests_in_two_groups_are_not_added_up(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    tree.add_guest(1, "web1")
    tree.add_guest(2, "web2", partition="machine")
    use, (note,) = read(tree.sandbox, list_domains(2))
    assert use is None
    assert "/machine, as systemd-machined came while some ran. It is known when those are restarted" in note


@pytest.mark.parametrize(("partition", "outside"), [("/machine", 0), ("/machine/prod", 0), ("/prod", 2)])
def test_guests_in_other_partitions_are_counted_in_a_note(
    tmp_path: Path, partition: str, outside: int
) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    use, notes = read(tree.sandbox, list_domains(2, partition=partition))
    assert use is not None
    assert [note[:8] for note in notes] == ([f"{outside} guests"] if outside else [])


def _empty(file: Path) -> None:
    file.write_text("")


def _garble(file: Path) -> None:
    file.write_text("usage_usec x\nsome avg10=1.00 total=\n\x00")


@pytest.mark.parametrize("spoil", [_empty, _garble, Path.unlink], ids=["empty", "garbage", "gone"])
def test_an_odd_file_costs_its_own_number(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    group = tree.trees[0] / "machine.slice"
    spoil(group / "io.pressure")
    use, _ = read(tree.sandbox, list_domains(1))
    assert use is not None
    assert use.cpu_ns == 7_000_000_000
    assert use.waiting_us == {"cpu": 30, "memory": 10}
    spoil(group / "cpu.stat")
    use, _ = read(tree.sandbox, list_domains(1))
    assert use is not None
    assert (use.cpu_ns, use.stalled_us) == (None, {"cpu": 3, "memory": 1})


@pytest.mark.parametrize(
    "uri", ["qemu+tls://kvm02/system", "qemu:///session", "test:///default", "xen:///system"]
)
def test_what_this_machine_does_is_not_told_of_another_hypervisor(tmp_path: Path, uri: str) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    assert read(tree.sandbox, list_domains(1), uri=uri) == (None, [])


def test_without_a_list_of_domains_nothing_is_known(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.use(USE)
    assert read(tree.sandbox, None) == (None, [])

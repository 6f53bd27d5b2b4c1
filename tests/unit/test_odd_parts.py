"""One odd part of an answer costs that part: every part of every answer in turn, in all ways to be odd.

Whatever is wrong with it: no refresh fails, no number is another one, and what is left out is named.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from exporter.compute.resource_view import verify_resources
from exporter.model import DomainInfo, Flavor, Guest, Resources, Storage
from exporter.virt.guests.guest_xml import parse_guest
from exporter.virt.mounts import Mounts, find_file_system, find_file_system_at
from exporter.virt.storage.back_ends import parse_ceph_usage
from exporter.virt.storage.file_system import StorageError
from tests.support.driver_bench import Bench
from tests.support.faulty_libvirt import CAPABILITIES
from tests.support.guests import file_disk, make_qcow2
from tests.support.mutations import VALUES, mutate
from tests.support.records import KIB, make_pool, make_uuid

UUID = make_uuid(1)
GUEST = f"""<domain type='kvm' id='1'><name>instance-1</name><uuid>{UUID}</uuid>
  <metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
    <nova:flavor name='m1'><nova:memory>1024</nova:memory><nova:disk>5</nova:disk><nova:swap>0</nova:swap>
      <nova:ephemeral>0</nova:ephemeral><nova:vcpus>2</nova:vcpus></nova:flavor>
    <nova:root type='image' uuid='155d900f-4e14-4e4c-a73d-069cbf4541e6'/></nova:instance></metadata>
  <memory unit='KiB'>1048576</memory><currentMemory unit='KiB'>1048576</currentMemory>
  <memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>
  <vcpu placement='static' current='2'>2</vcpu>
  <cputune><vcpupin vcpu='0' cpuset='4'/><vcpupin vcpu='1' cpuset='5'/><emulatorpin cpuset='4-5'/></cputune>
  <numatune><memory mode='strict' nodeset='0'/><memnode cellid='0' mode='strict' nodeset='0'/></numatune>
  <cpu><numa><cell id='0' cpus='0-1' memory='1048576' unit='KiB'/></numa></cpu>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/nonexistent/disk'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='network' device='disk'><driver name='qemu' type='raw'/>
      <source protocol='rbd' name='volumes/volume-1'><host name='192.0.2.20' port='6789'/></source>
      <target dev='vdb'/><serial>1f0e0c0b-0000-4000-8000-000000000001</serial></disk>
  </devices></domain>"""

FLAVORS = (
    Flavor(name="plain", vcpus=1, memory_mb=1, disk_gb=1),
    Flavor(name="pinned", vcpus=0, pcpus=1, memory_mb=1, disk_gb=1, numa_cells=1),
)
# What depends on guests and on nothing of the guest that is odd.
HOSTS = (
    "memory_mb",
    "memory_mb_used",
    "local_gb",
    "local_gb_used",
    "hypervisor_hostname",
    "vcpus",
    "storage",
)


def read(guest: str = GUEST, capabilities: str = CAPABILITIES, *, has_info: bool = True) -> Resources:
    """Return the numbers of a host with this guest, and another one that is well."""
    bench = Bench(flavors=FLAVORS, cpu_shared_set="0-3", cpu_dedicated_set="4-7", storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms"),)
    bench.add_guest(1)
    bench.add_guest(2, vcpus=3)
    bench.libvirt.xml[UUID] = guest
    bench.libvirt.capabilities = capabilities
    if has_info:
        bench.libvirt.info[UUID] = DomainInfo(vcpus=2, memory_kib=1 << 20, maximum_memory_kib=1 << 20)
    return bench.read()


HEALTHY = read()
ALL_GUESTS = list(mutate(GUEST))
ALL_CAPABILITIES = list(mutate(CAPABILITIES))
# Of several parts with one name, the first.
MUTATED_GUESTS = dict(reversed(ALL_GUESTS))
MUTATED_CAPABILITIES = dict(reversed(ALL_CAPABILITIES))

# Attributes and elements with numbers that this program uses.
NUMBERS = (
    "vcpu",
    "vcpu@current",
    "memory",
    "currentMemory",
    "memory@unit",
    "vcpupin@vcpu",
    "vcpupin@cpuset",
    "emulatorpin@cpuset",
    "memnode@cellid",
    "memnode@nodeset",
    "cell@cpus",
    "cell@memory",
    "page@size",
    "page@nodeset",
    "{http://openstack.org/xmlns/libvirt/nova/1.1}vcpus",
    "{http://openstack.org/xmlns/libvirt/nova/1.1}memory",
    "{http://openstack.org/xmlns/libvirt/nova/1.1}disk",
)
# An empty attribute says nothing, as a missing one.
MAY_BE_EMPTY = {"memory@unit", "cell@cpus", "page@nodeset", "memnode@nodeset"}


def test_the_host_of_these_tests_is_well() -> None:
    assert {each.reason for each in HEALTHY.problems} == {"image"}
    assert [each.flavor for each in HEALTHY.flavor_slots] == ["plain", "pinned"]
    assert HEALTHY.numa_topology is not None
    assert [sorted(cell.pinned_cpus or ()) for cell in HEALTHY.numa_topology] == [[4, 5], []]
    assert len(ALL_GUESTS) > 300
    assert len(ALL_CAPABILITIES) > 300


@pytest.mark.parametrize("has_info", [True, False], ids=["with its info", "without its info"])
def test_an_odd_part_of_a_guest_costs_no_number_of_the_host_or_of_another_guest(*, has_info: bool) -> None:
    for what, xml in ALL_GUESTS:
        resources = read(xml, has_info=has_info)
        assert [getattr(resources, each) for each in HOSTS] == [getattr(HEALTHY, each) for each in HOSTS], (
            what
        )
        assert verify_resources(resources) == (), what
        assert resources.vcpus_used is not None
        assert resources.vcpus_used >= 3 + 1, what
        assert resources.domains is not None
        assert HEALTHY.domains is not None
        other = make_uuid(2)
        assert resources.domains.guests[other] == HEALTHY.domains.guests[other], what
        assert all(problem.reason != "internal" for problem in resources.problems), what


def test_a_number_of_a_guest_that_is_odd_is_named_and_never_another_one() -> None:
    healthy = parse_guest(GUEST)
    for number in NUMBERS:
        for kind in VALUES:
            if kind == "empty" and number in MAY_BE_EMPTY:
                continue
            what = f"{number} {kind}"
            resources = read(MUTATED_GUESTS[what])
            named = [each.reason for each in resources.problems if each.reason in ("guest_xml", "metadata")]
            assert named, what
            assert resources.vcpus_used == HEALTHY.vcpus_used, what
            assert resources.domains is not None
            guest = resources.domains.guests[UUID]
            assert guest is not None, what
            for field in fields(Guest):
                value, expected = getattr(guest, field.name), getattr(healthy, field.name)
                if field.name not in ("odd_parts", "is_placement_known", "metadata_error", "nova_flavor"):
                    assert value in (expected, _leave_out(field.name, expected, value)), (what, field.name)


def _leave_out(name: str, expected: Any, value: Any) -> Any:
    """Return what a field may be instead of its value: without the odd part."""
    if name == "vcpu_pins":
        return value if value.items() <= expected.items() else None
    return {"numa_cells": (), "emulator_pins": frozenset()}.get(name, expected)


@pytest.mark.parametrize(
    "what", ["vcpupin@cpuset no number", "emulatorpin@cpuset garbled", "cell@memory negative"]
)
def test_where_a_guest_is_placed_is_unknown_if_one_of_its_pins_or_cells_is(what: str) -> None:
    """Shows that no slot is promised that may be taken, and that flavors without cells have theirs."""
    resources = read(MUTATED_GUESTS[what])
    assert [each.flavor for each in resources.flavor_slots] == []
    assert resources.numa_topology is not None
    assert [cell.pinned_cpus for cell in resources.numa_topology] == [None, None]
    claimed = {each.resource_class.value: each.claimed for each in resources.inventories}
    healthy = {each.resource_class.value: each.claimed for each in HEALTHY.inventories}
    assert claimed == {**healthy, "VCPU": None, "PCPU": None}


def test_a_guest_with_an_odd_number_has_its_vcpus_and_memory_from_libvirt_and_its_disks() -> None:
    resources = read(MUTATED_GUESTS["vcpu no number"])
    assert resources.domains is not None
    guest = resources.domains.guests[UUID]
    assert guest == replace(parse_guest(GUEST), odd_parts=guest.odd_parts if guest else "")
    assert (resources.vcpus_used, resources.unsized_disks, resources.unread_guests) == (5, 1, 0)


def test_a_guest_without_any_xml_is_counted_by_its_info_and_as_unread() -> None:
    resources = read("<domain")
    assert (resources.vcpus_used, resources.unread_guests) == (5, 1)
    resources = read("<domain", has_info=False)
    assert (resources.vcpus_used, resources.unread_guests) == (4, 1)


def test_an_odd_part_of_the_capabilities_costs_its_cell() -> None:
    """Shows that all other cells are as ever, and that one that is left out is named."""
    assert HEALTHY.numa_topology is not None
    healthy = {cell.id: cell for cell in HEALTHY.numa_topology}
    for what, xml in ALL_CAPABILITIES:
        resources = read(capabilities=xml)
        assert [getattr(resources, each) for each in HOSTS] == [getattr(HEALTHY, each) for each in HOSTS], (
            what
        )
        assert verify_resources(resources) == (), what
        assert resources.vcpus_used == HEALTHY.vcpus_used, what
        named = [each for each in resources.problems if each.reason == "capabilities"]
        is_visible = not what.endswith(("deleted", "twice", "empty", "nested"))
        cells = {cell.id: cell for cell in resources.numa_topology or ()}
        changed = [number for number, cell in cells.items() if cell != healthy.get(number)]
        if named:
            assert changed == [], what
        elif is_visible:
            assert changed == [] or "socket" in what, what
            assert cells.keys() == healthy.keys(), what
        if named and cells.keys() != healthy.keys():
            assert "pinned" not in [each.flavor for each in resources.flavor_slots], what
            assert "plain" in [each.flavor for each in resources.flavor_slots], what


@pytest.mark.parametrize("number", ["cell@id", "memory", "pages", "pages@size", "cpu@id"])
@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "empty"])
def test_an_odd_number_of_a_cell_is_named(number: str, kind: str) -> None:
    resources = read(capabilities=MUTATED_CAPABILITIES[f"{number} {kind}"])
    (problem,) = (each for each in resources.problems if each.reason == "capabilities")
    assert problem.message.startswith("virConnectGetCapabilities: unexpected capabilities XML: NUMA cell ")
    assert "\n" not in problem.message
    assert len(problem.message) < 200
    assert len(resources.numa_topology or ()) == 1
    assert resources.memory_mb == 16 * KIB


def make_usage(*pools: object, total: object = 100) -> str:
    return json.dumps({"stats": {"total_bytes": total}, "pools": list(pools)})


VMS = {"name": "vms", "stats": {"bytes_used": 30, "max_avail": 20}}
ODD_ROWS: list[object] = [
    {},
    {"name": "other"},
    {"name": "other", "stats": None},
    {"name": None, "stats": {}},
    {"name": ["nested"], "stats": {"bytes_used": "many"}},
    {"stats": {"bytes_used": -1, "max_avail": "9" * 5000}},
    "many",
    7,
    None,
    [],
]


@pytest.mark.parametrize("row", ODD_ROWS, ids=str)
def test_an_odd_row_of_ceph_df_costs_no_other_pool(row: object) -> None:
    expected = Storage(size_bytes=100, used_bytes=30, free_bytes=20)
    assert parse_ceph_usage(make_usage(row, VMS), "vms") == expected
    assert parse_ceph_usage(make_usage(VMS, row), "vms") == expected
    with pytest.raises(StorageError, match="no such pool"):
        parse_ceph_usage(make_usage(VMS, row), "images")


@pytest.mark.parametrize("value", [-1, "many", None, "", [], {}, 1.5, True, "9" * 5000], ids=str)
@pytest.mark.parametrize("field", ["bytes_used", "max_avail", "total"])
def test_an_odd_number_of_the_own_pool_is_named_and_no_size(field: str, value: object) -> None:
    stats = {"bytes_used": 30, "max_avail": 20} | ({} if field == "total" else {field: value})
    total = value if field == "total" else 100
    with pytest.raises(StorageError, match="images_rbd_pool vms: unexpected answer of ceph df") as caught:
        parse_ceph_usage(make_usage({"name": "vms", "stats": stats}, total=total), "vms")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("start", "content"), [(0, b"RAW!"), (24, b"\xff" * 8), (0, b"\x00" * 32), (0, b"")])
def test_an_odd_part_of_a_qcow2_header_costs_that_image(tmp_path: Path, start: int, content: bytes) -> None:
    """Shows that its guest is named, and that all other guests count as ever."""
    good, bad = (make_qcow2(tmp_path / name, 1 << 30) for name in ("good", "bad"))
    header = bad.read_bytes()
    bad.write_bytes(header[:start] + content + header[start + len(content) :] if content else b"")
    bench = Bench(storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms"),)
    bench.add_guest(1, disks=file_disk(good))
    healthy = bench.read().storage_overcommitted_bytes
    bench.add_guest(2, disks=file_disk(bad))
    resources = bench.read()
    assert resources.unsized_disks == 1
    assert resources.storage_overcommitted_bytes == healthy
    assert [(each.reason, each.subject) for each in resources.problems] == [("image", "guest2")]


@pytest.mark.parametrize(
    "line", ["", "27", "27 1 0:1 /", "27 1 0:1 / /a rw", "? ? ? ? ? ? - ? ? ?", "\u2028"]
)
def test_an_odd_line_of_mountinfo_costs_no_other_mount(tmp_path: Path, line: str) -> None:
    lines = ["27 1 254:0 / / rw - ext4 /dev/vda rw", "28 27 0:40 / /srv rw - nfs4 nfs01:/x rw,addr=192.0.2.1"]
    expected = find_file_system("\n".join(lines), "28")
    assert expected is not None
    for place in range(3):
        text = "\n".join([*lines[:place], line, *lines[place:]])
        assert find_file_system(text, "28") == expected
        assert find_file_system_at(text, "/srv/nova") == expected
        assert Mounts(text).find("/srv/nova").number == "28"

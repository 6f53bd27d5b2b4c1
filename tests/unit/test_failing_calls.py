"""Each call of libvirt that fails, though the connection is well, costs what depends on it and no more.

`LOST` is the table of that. docs/design.md has it in words.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import libvirt
import pytest

from exporter.compute.resource_view import check_complete
from exporter.config.settings import HypervisorConfig
from exporter.errors import HypervisorError
from exporter.model import Flavor, Resources, Severity
from exporter.virt.driver import LibvirtDriver
from tests.support.faulty_libvirt import Faults, FaultyHypervisor, make_error
from tests.support.guests import make_qcow2
from tests.support.hosts import Clock

CODES = {
    "internal error": (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU),
    "operation failed": (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_FROM_QEMU),
    "operation unsupported": (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_FROM_QEMU),
    "no support": (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_FROM_QEMU),
    "denied": (libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_FROM_ACCESS),
    "operation denied": (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_FROM_NONE),
    "RPC error": (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC),
    "timeout": (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU),
    "cannot find suitable emulator": (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_NONE),
}

GUESTS = {
    "disk_available_least",
    "domains",
    "domains_age_seconds",
    "domains_by_state",
    "outdated_guests",
    "running_vms",
    "storage_overcommitted_bytes",
    "unread_guests",
    "unsized_disks",
    "vcpus_used",
}
STORAGE = {"disk_available_least", "local_gb", "local_gb_used", "storage", "storage_identity"}

# By libvirt-python's name of the call: the fields that have no value then.
LOST: dict[str, Collection[str]] = {
    "getType": {"hypervisor_type"},
    "getVersion": {"hypervisor_version"},
    "getLibVersion": {"libvirt_version"},
    "getInfo": {"memory_mb", "memory_mb_used", "memory_size_bytes", "memory_available_bytes"},
    "getMemoryStats": {"memory_mb_used", "memory_available_bytes"},
    "getCapabilities": {"cpu_info", "numa_topology", "uuid"},
    "getCPUMap": {"vcpus"},  # CPU sets are used as configured
    "getCellsFreeMemory": set(),  # a part of numa_topology, below
    "getFreePages": set(),
    "getAllDomainStats": GUESTS,
    "listAllStoragePools": STORAGE,
    "info": STORAGE,
}
# What is another way to know it, where libvirt does not have the call at all.
UNSUPPORTED: dict[str, Collection[str]] = {
    "getCPUMap": set(),  # the number of online CPUs in virNodeGetInfo
    "getMemoryStats": set(),  # the sum of the guests' memory
    "getAllDomainStats": set(),  # the domains are listed one by one
}


def make_driver(folder: Path, faults: Faults, **options: Any) -> LibvirtDriver:
    """Return a driver of a host with a running guest, its image and a storage pool."""
    image = make_qcow2(folder / "image", 1 << 30)
    node = folder / "node.xml"
    node.write_text(f"""<node>
      <domain type='test'><name>a</name><uuid>11111111-1111-1111-1111-111111111111</uuid>
        <memory>1048576</memory><vcpu>2</vcpu><os><type>hvm</type></os>
        <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>
          <target dev='vda' bus='virtio'/></disk></devices></domain>
      <pool type='dir'><name>vms</name><target><path>/vms</path></target></pool></node>""")

    def make_connection() -> FaultyHypervisor:
        return FaultyHypervisor(f"test://{node}", faults)

    return LibvirtDriver(
        make_connection(),
        make_connection,
        make_connection(),
        HypervisorConfig(
            **{
                "uri": "qemu:///system",
                "storage_pool": ("vms",),
                "flavors": (Flavor(name="m1", vcpus=1, memory_mb=1, disk_gb=1),),
                **options,
            }
        ),
        needs={"NUMA memory", "capabilities", "guests", "images", "online CPUs", "storage"},
        resync_interval=60,
        stale_grace=120,
        clock=Clock(),  # it stands, so that no busy machine makes a call late
    )


def list_unknown(resources: Resources) -> set[str]:
    return {each.name for each in fields(resources) if getattr(resources, each.name) is None}


def list_values(resources: Resources, *, but: Collection[str]) -> dict[str, object]:
    """Return what is to be as ever."""
    left_out = {
        *but,
        "problems",
        "guest_claims",
        "ages",
        "domains",
        "inventories",
        "flavor_slots",
        "numa_topology",
        "storage_identity",
    }
    return {
        each.name: getattr(resources, each.name) for each in fields(resources) if each.name not in left_out
    }


def test_every_call_of_a_refresh_is_in_the_table(tmp_path: Path) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults, cpu_shared_set="0-3")
    resources = driver.get_available_resource()
    assert resources.problems == ()
    assert list_unknown(resources).isdisjoint(field for lost in LOST.values() for field in lost)
    # A guest whose XML may wait is looked at first.
    assert faults.asked - {"controlInfo"} == {*LOST, "getHostname", "XMLDesc"}
    driver.close()


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("call", LOST)
def test_a_call_that_fails_costs_what_depends_on_it(tmp_path: Path, call: str, kind: str) -> None:
    """Shows what is unknown then, that all else is right, that the call is named, and that it comes back."""
    faults = Faults()
    driver = make_driver(tmp_path, faults)
    healthy = driver.get_available_resource()
    driver.close()
    driver = make_driver(tmp_path, faults)
    code, domain = CODES[kind]
    faults.by_call[call] = make_error(code, domain=domain)
    is_missing = kind in ("operation unsupported", "no support")
    has_substitute = is_missing or (call, kind) == ("getCPUMap", "timeout")  # as if there is no answer yet
    lost = UNSUPPORTED.get(call, LOST[call]) if has_substitute else LOST[call]
    for _ in range(2):
        resources = driver.get_available_resource()
        assert list_unknown(resources) - list_unknown(healthy) == set(lost)
        changed = set(lost)
        changed |= {"memory_mb_used", "memory_available_bytes"} if call == "getMemoryStats" else set()
        changed |= {"parts"} if lost == STORAGE else set()  # the pools
        assert list_values(resources, but=changed) == list_values(healthy, but=changed)
        if lost:
            assert resources.problems
            assert all(problem.severity is not Severity.FATAL for problem in resources.problems)
        if not is_missing:
            assert any("it failed" in problem.message for problem in resources.problems)
        has_required = not {"vcpus", "memory_mb", "local_gb", "cpu_info", "vcpus_used", "memory_mb_used"} & {
            *lost
        }
        assert (check_complete(resources) == []) is has_required
    faults.by_call.clear()
    if not is_missing:
        assert driver.get_available_resource().problems == ()
    driver.close()


@pytest.mark.parametrize("kind", CODES)
def test_without_a_host_name_nothing_can_be_shown_until_there_was_one(tmp_path: Path, kind: str) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults)
    code, domain = CODES[kind]
    faults.by_call["getHostname"] = make_error(code, domain=domain)
    with pytest.raises(HypervisorError, match="it failed"):
        driver.get_available_resource()
    del faults.by_call["getHostname"]
    hostname = driver.get_available_resource().hypervisor_hostname
    faults.by_call["getHostname"] = make_error(code, domain=domain)
    driver.reconfigure(HypervisorConfig(uri="qemu:///system", storage_pool=("vms",), my_ip="192.0.2.7"))
    resources = driver.get_available_resource()
    assert (resources.hypervisor_hostname, resources.host_ip) == (hostname, "192.0.2.7")
    assert [problem.subject for problem in resources.problems] == ["virConnectGetHostname"]
    driver.close()


@pytest.mark.parametrize(
    "kind", [kind for kind in CODES if kind not in ("operation unsupported", "no support")]
)
@pytest.mark.parametrize(
    ("call", "cell_of"),
    [("getCellsFreeMemory", lambda first, count: (first, count)), ("getFreePages", lambda _, *of: of)],
)
def test_a_cell_that_fails_costs_that_cells_numbers(
    tmp_path: Path, kind: str, call: str, cell_of: Any
) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults)
    healthy = driver.get_available_resource().numa_topology
    code, domain = CODES[kind]

    def fail(answer: Any, *arguments: Any) -> Any:
        first, count = cell_of(*arguments)
        if first <= 1 < first + count:
            raise make_error(code, domain=domain)
        return answer

    faults.by_call[call] = fail
    resources = driver.get_available_resource()
    assert resources.numa_topology is not None
    assert healthy is not None
    assert resources.numa_topology[0] == healthy[0]
    if call == "getFreePages":
        assert [each.free for each in resources.numa_topology[1].mempages] == [None, None]
        assert [each.total for each in resources.numa_topology[1].mempages] == [524288, 1024]
    else:
        assert resources.numa_topology[1].memory_free_bytes is None
        assert resources.numa_topology[1].mempages == healthy[1].mempages
    assert all("cell 1" in problem.message for problem in resources.problems)
    assert resources.problems
    driver.close()


def test_a_page_size_that_fails_costs_its_own_pages(tmp_path: Path) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults)

    def fail(answer: Any, sizes: Any, first: int, _count: int) -> Any:
        if 2048 in sizes and first == 0:
            raise make_error(libvirt.VIR_ERR_OPERATION_FAILED)
        return answer

    faults.by_call["getFreePages"] = fail
    resources = driver.get_available_resource()
    assert resources.numa_topology is not None
    free = [[each.free for each in cell.mempages] for cell in resources.numa_topology]
    assert free == [[100, None], [200, 200]]
    assert [problem.subject for problem in resources.problems] == [
        "virNodeGetFreePages, cell 0, pages of 2048 KiB"
    ]
    driver.close()


@pytest.mark.parametrize("kind", CODES)
def test_a_guest_whose_xml_does_not_come_costs_that_guest(tmp_path: Path, kind: str) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults)
    healthy = driver.get_available_resource()
    driver.close()
    driver = make_driver(tmp_path, faults)
    code, domain = CODES[kind]
    faults.by_call["XMLDesc", "a"] = make_error(code, domain=domain)
    resources = driver.get_available_resource()
    assert list_unknown(resources) == list_unknown(healthy)
    assert (resources.running_vms, resources.memory_mb, resources.local_gb) == (
        healthy.running_vms,
        healthy.memory_mb,
        healthy.local_gb,
    )
    assert [problem.subject for problem in resources.problems] == ["a"]
    driver.close()


def test_a_statistic_that_is_missing_leaves_the_used_memory_unknown(tmp_path: Path) -> None:
    faults = Faults()
    driver = make_driver(tmp_path, faults)
    faults.by_call["getMemoryStats"] = lambda stats, *_: {
        name: value for name, value in stats.items() if name != "cached"
    }
    resources = driver.get_available_resource()
    assert (resources.memory_mb, resources.memory_mb_used) == (8192, None)
    (problem,) = resources.problems
    assert problem.message == "virNodeGetMemoryStats: no 'cached' in the answer (total, free, buffers)"
    driver.close()

"""The exporter's records of a hypervisor's CPU, instances and NUMA cells are what Nova's driver says."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.conformance.numa_comparison import as_nova, cpu_info_as_nova, simplify, simplify_cpu_info
from tests.conformance.scenarios import ALL_ONLINE, ONLINE
from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.oracle import NovaOracle
from tests.support.reading import make_driver, read_resources
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vcpu_pin_set": ONLINE},
        {"compute.cpu_shared_set": ONLINE},
        {"compute.cpu_dedicated_set": ONLINE},
        {"compute.cpu_shared_set": ONLINE, "compute.cpu_dedicated_set": ALL_ONLINE},
        {"vcpu_pin_set": ONLINE, "compute.cpu_shared_set": ALL_ONLINE},
    ],
    ids=lambda options: "-and-".join(options) or "no-cpu-sets",
)
def test_the_topology_and_what_the_cpu_can_do_are_novas(
    options: Mapping[str, str], libvirtd: LibvirtDaemon, nova: NovaOracle
) -> None:
    """Shows that cells, CPUs, memory and pages are Nova's with each of its CPU sets."""
    truth = nova.get_available_resource(libvirtd.uri, libvirtd.images, options=options)
    own = {name.rpartition(".")[2]: value for name, value in options.items()}
    resources = read_resources(libvirtd.uri_read_only, instances_path=str(libvirtd.images), **own)

    topology = json.loads(truth["numa_topology"])["nova_object.data"]["cells"]
    assert resources.numa_topology is not None
    assert [as_nova(cell) for cell in resources.numa_topology] == [simplify(cell) for cell in topology]
    assert cpu_info_as_nova(resources.cpu_info) == simplify_cpu_info(json.loads(truth["cpu_info"]))


def test_what_is_free_of_a_cell_and_pinned_in_it_is_told(libvirtd: LibvirtDaemon) -> None:
    """Shows that each cell has its free memory and pages, and the CPU that a shut-off guest is pinned to."""
    pin = f"<cputune><vcpupin vcpu='0' cpuset='{ONLINE}'/></cputune>"
    libvirtd.define(guest_xml("pinned").replace("<os>", f"{pin}<os>"))
    resources = read_resources(libvirtd.uri_read_only, instances_path=str(libvirtd.images))
    assert resources.numa_topology
    for cell in resources.numa_topology:
        assert cell.memory_free_bytes is not None
        assert 0 < cell.memory_free_bytes < cell.memory_kib * 1024
        assert cell.mempages
        for pages in cell.mempages:
            assert pages.free is not None
            assert 0 <= pages.free <= pages.total
    (small, *_), *_ = (cell.mempages for cell in resources.numa_topology)
    assert small.free
    assert frozenset().union(*(cell.pinned_cpus for cell in resources.numa_topology)) == {int(ONLINE)}


def test_the_cells_cost_two_calls_and_ask_no_guest(libvirtd: LibvirtDaemon) -> None:
    """Shows that a warm refresh makes 7 calls, with two frozen guests as with none."""
    driver = make_driver(libvirtd.uri_read_only, instances_path=str(libvirtd.images))

    def count_calls() -> int:
        before = driver.get_stats().libvirt_calls
        driver.get_available_resource()
        return driver.get_stats().libvirt_calls - before

    driver.get_available_resource()
    without_guests = count_calls()
    for name in ("one", "another"):
        libvirtd.start_guest(guest_xml(name))
        libvirtd.freeze_guest(name)
    driver.get_available_resource()
    assert without_guests == 7
    # libvirt's events about the start may arrive late: a guest is read once more then.
    wait_until(lambda: count_calls() == 7, "a refresh that reads no guest anew")
    for name in ("one", "another"):
        libvirtd.thaw_guest(name)
    driver.close()

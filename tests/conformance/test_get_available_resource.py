"""The exporter says of a real hypervisor what Nova's own LibvirtDriver.get_available_resource says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest

from tests.conformance.comparison import Machine, Sighting, find_differences
from tests.conformance.scenarios import ALL_ONLINE, OFFLINE, ONLINE, SCENARIOS, Scenario
from tests.support.exporter_process import RunningExporter, serve
from tests.support.guests import GIB, MIB, file_disk, guest_xml, make_qcow2, make_raw
from tests.support.libvirtd import LibvirtDaemon
from tests.support.oracle import NovaError, NovaOracle
from tests.support.sandbox import run
from tests.support.waiting import wait_until


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.shows.replace(" ", "-"))
def test_every_number_is_novas(scenario: Scenario, libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Shows that all of Nova's numbers, and what it says the hypervisor is, are the exporter's too."""
    scenario.set_up(libvirtd)
    with _serve(libvirtd, scenario.options) as exporter:
        differences = find_differences(lambda: _look(libvirtd, nova, exporter, scenario))
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    "options",
    [
        {"vcpu_pin_set": OFFLINE},
        {"compute.cpu_shared_set": f"{ONLINE},{OFFLINE}"},
        {"compute.cpu_dedicated_set": f"{OFFLINE}"},
        {"compute.cpu_shared_set": ONLINE, "compute.cpu_dedicated_set": f"{ONLINE}-{OFFLINE}"},
        {"vcpu_pin_set": OFFLINE, "compute.cpu_shared_set": ONLINE},
    ],
    ids=lambda options: "-and-".join(f"{name}={value}" for name, value in options.items()),
)
def test_a_cpu_that_is_not_online_is_refused_by_both(
    options: dict[str, str], libvirtd: LibvirtDaemon, nova: NovaOracle
) -> None:
    """Shows that neither counts CPUs that are not there, and that the exporter says which are."""
    with pytest.raises(NovaError) as refusal:
        nova.get_available_resource(libvirtd.uri, libvirtd.images, options=options)
    assert refusal.value.kind == "Invalid"

    with _serve(libvirtd, options) as exporter:
        scrape = exporter.scrape()
    assert scrape.get("hypervisor_vcpus") is None
    option, value = next((name, value) for name, value in options.items() if OFFLINE in value)
    for part in (option.rpartition(".")[2], value, ALL_ONLINE):
        assert part in scrape.log


def test_a_raw_image_with_space_behind_its_end_lets_the_others_grow_all_the_same(
    libvirtd: LibvirtDaemon, nova: NovaOracle
) -> None:
    """Shows the one number that is not Nova's: it subtracts 99 MiB that no image gives back."""
    thin = make_qcow2(libvirtd.images / "thin", 20 * GIB)
    reserved = make_raw(libvirtd.images / "reserved", MIB)
    run(["fallocate", "--keep-size", "--length", str(100 * MIB), str(reserved)])
    for name, disk in (("thin", file_disk(thin)), ("reserved", file_disk(reserved, format="raw"))):
        libvirtd.define(guest_xml(name, disks=[disk]))
    truth = nova.get_available_resource(libvirtd.uri, libvirtd.images)
    with _serve(libvirtd, {}) as exporter:
        scrape = exporter.scrape()
    free = scrape.value("hypervisor_storage_free_bytes")
    overcommitted = scrape.value("hypervisor_storage_overcommitted_bytes")
    of_nova = free - truth["disk_available_least"] * GIB
    assert overcommitted == 20 * GIB - thin.stat().st_blocks * 512
    assert round(overcommitted - of_nova) == 99 * MIB


def test_a_cpu_set_that_a_stronger_option_overrides_is_not_checked(
    libvirtd: LibvirtDaemon, nova: NovaOracle
) -> None:
    """Shows that vcpu_pin_set wins so wholly that CPUs of cpu_shared_set need not even exist."""
    options = {"vcpu_pin_set": ONLINE, "compute.cpu_shared_set": OFFLINE}
    scenario = Scenario(shows="an overridden set", set_up=lambda _libvirtd: None, options=options)
    with _serve(libvirtd, options) as exporter:
        differences = find_differences(lambda: _look(libvirtd, nova, exporter, scenario))
    assert not differences, "\n".join(differences)


def test_memory_used_is_novas_or_corrected_by_the_memory_that_nova_overlooks(
    libvirtd: LibvirtDaemon, nova: NovaOracle
) -> None:
    """Shows what the exporter says where Nova's memory_mb_used is wrong, and that it is never negative.

    Nova takes all available memory from the memory of the NUMA cells. On a machine with memory outside any
    cell (hot-plugged) that is too small by that memory; on every other machine it is right, and nothing is
    to be corrected.
    """
    scenario = Scenario(shows="memory", set_up=lambda _libvirtd: None)
    with _serve(libvirtd, {}) as exporter:
        differences = find_differences(lambda: _look(libvirtd, nova, exporter, scenario))
        used = exporter.scrape().value("hypervisor_memory_mb_used")
    machine = Machine.read(libvirtd.connection)
    assert not differences, "\n".join(differences)
    assert 0 <= used <= machine.statistics_mib
    overlooked = machine.statistics_mib - machine.node_info_mib
    assert machine.expected_memory_mb_used(-overlooked) == 0
    assert overlooked or machine.expected_memory_mb_used(1234) == 1234


def test_an_exporter_that_runs_on_keeps_up_with_nova(libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Shows that what the exporter remembers between scrapes never makes its numbers differ from Nova's."""

    def agree() -> bool:
        sighting = _look(libvirtd, nova, exporter, scenario)
        return not [line for line in sighting.list_differences() if "memory" not in line]

    scenario = Scenario(shows="a hypervisor over time", set_up=lambda _libvirtd: None)
    with _serve(libvirtd, {}) as exporter:
        for step in _history(libvirtd):
            wait_until(agree, f"agreement after: {step}", seconds=10)


def _history(libvirtd: LibvirtDaemon) -> Iterator[str]:
    """Change the hypervisor step by step, and name each change."""
    thin = make_qcow2(libvirtd.images / "thin", 9 * GIB)
    domain = libvirtd.start_guest(guest_xml("first", vcpus=1, max_vcpus=4, disks=[file_disk(thin)]))
    yield "a guest started"
    domain.suspend()
    yield "it was paused"
    domain.setVcpusFlags(3, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    yield "vCPUs were plugged in, of which libvirt sends no event"
    raw = make_raw(libvirtd.images / "raw", 5 * GIB)
    domain.attachDevice(file_disk(raw, format="raw", target="vdb"))
    yield "a disk was attached"
    other = make_qcow2(libvirtd.images / "other", 30 * GIB)
    libvirtd.define(guest_xml("second", vcpus=2, disks=[file_disk(other)]))
    yield "a second guest was defined"
    thin.unlink()
    yield "an image vanished"
    domain.destroy()
    yield "the first guest was stopped"
    libvirtd.restart()
    yield "libvirtd was restarted"
    domain = libvirtd.connection.lookupByName("second")
    domain.rename("third")
    domain.create()
    yield "the second guest got another name and was started"
    libvirtd.connection.lookupByName("first").undefine()
    yield "the first guest was undefined"


def _look(
    libvirtd: LibvirtDaemon, nova: NovaOracle, exporter: RunningExporter, scenario: Scenario
) -> Sighting:
    connection = libvirtd.connection
    volumes = {
        connection.lookupByName(name).UUIDString(): devices for name, devices in scenario.volumes.items()
    }
    machine = Machine.read(connection)
    before = exporter.scrape()
    truth = nova.get_available_resource(
        libvirtd.uri, libvirtd.images, options=scenario.options, volumes=volumes
    )
    after = exporter.scrape()
    stood_still = machine == Machine.read(connection)
    return Sighting(before, truth, after, machine if stood_still else None)


@contextmanager
def _serve(libvirtd: LibvirtDaemon, options: Any) -> Iterator[RunningExporter]:
    """Serve with Nova's options, every scrape reading anew."""
    own = {name.rpartition(".")[2]: value for name, value in options.items()}
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images), **own}
    with serve({"cache_ttl": "0s", "resync_interval": "1s", "hypervisors": [hypervisor]}) as exporter:
        yield exporter

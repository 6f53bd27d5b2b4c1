"""Names of other exporters: Debian's real one and this one, on one libvirtd, say the same of its guests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import debian_exporter
from tests.support.boot_sectors import SECTOR, boot_sector, make_boot_disk
from tests.support.debian_exporter import DebianExporter, serve_debian_exporter
from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import MIB, cdrom, file_disk, guest_xml, make_qcow2, make_raw, nova_metadata
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError
from tests.support.taps import card_interface, quiet_tap, send_frames
from tests.support.waiting import wait_until
from tests.support.working_guests import serve_guests

PATH = "/metrics?collect[]=libvirt_names"
TAP = f"hxnames{os.getpid() % 10**7}"  # others on this machine have their own
CPU = "libvirt_domain_info_cpu_time_seconds_total"

# What is not equal, and why. All other names, types, labels and values are.
DIFFERENCES = {
    CPU: "Debian's is QEMU's process in steps of 10 ms (virDomainGetInfo); this is the guest's cgroup in ns",
}
CPU_STEP_SECONDS = 0.1  # some steps, and what a guest uses between two scrapes
CPU_PART = 0.05  # of what it has used: QEMU's threads are counted one by one

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Both:
    """Both exporters, on one libvirtd."""

    libvirtd: LibvirtDaemon
    other: DebianExporter
    own: RunningExporter


@pytest.fixture(scope="module")
def libvirtd(libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """A libvirtd that makes a control group for each guest, as on a hypervisor."""
    try:
        with LibvirtDaemon(cache=libvirt_cache, cgroups=find_cgroups()) as daemon:
            yield daemon
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def guests(libvirtd: LibvirtDaemon) -> Iterator[LibvirtDaemon]:
    """A guest that did something and sleeps, one that is paused, and one that is shut off."""
    images = libvirtd.images
    disks = [
        file_disk(make_boot_disk(images / "boot", boot_sector(writes=5, sectors=8, frames=3)), format="raw"),
        file_disk(make_qcow2(images / "volume", MIB), target="vdb", serial="volume-1"),
        cdrom(None),
    ]
    metadata = nova_metadata("m1.small", vcpus=2, memory=16, disk=1)
    with quiet_tap(TAP) as tap:
        interfaces = [card_interface(tap)]
        libvirtd.start_guest(
            guest_xml("busy", vcpus=2, max_vcpus=4, disks=disks, interfaces=interfaces, metadata=metadata)
        )
        other_disk = file_disk(make_raw(images / "other", MIB), format="raw")
        libvirtd.start_guest(guest_xml("paused", disks=[other_disk]), paused=True)
        libvirtd.define(guest_xml("off"))
        libvirtd.define_pool("vms", images)
        yield libvirtd
        libvirtd.clear()


@pytest.fixture(scope="module", params=["this machine", "another machine"])
def both(request: pytest.FixtureRequest, guests: LibvirtDaemon) -> Iterator[Both]:
    """Both exporters. Of another machine, this one is told by libvirt what it else reads in files."""
    if debian_exporter.find_program() is None:
        pytest.skip(debian_exporter.explain_missing())
    if request.param == "this machine" and find_cgroups() is None:
        pytest.skip("nothing counts the guests' CPU time: this machine has no control groups")
    settings = {"cache_ttl": "0s", "libvirt_names": "debian", "hypervisors": [{"uri": guests.uri_tcp}]}
    local = serve_guests(guests, libvirt_names="debian")
    server = local if request.param == "this machine" else serve(settings)
    with serve_debian_exporter(guests.uri) as other, server as own:
        wait_until(lambda: has_worked(other.scrape()), "the guest to have written and sent")
        yield Both(libvirtd=guests, other=other, own=own)


def find_cgroups() -> str | None:
    """Return the version of the control groups that this machine has."""
    kinds = {line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return "v1" if "cgroup" in kinds else "v2" if "cgroup2" in kinds else None


def has_worked(scrape: Scrape) -> bool:
    """Whether the guest has done all that it does."""
    written = scrape.get(
        "libvirt_domain_block_stats_write_requests_total", domain="busy", target_device="vda"
    )
    sent = scrape.get("libvirt_domain_interface_stats_transmit_packets_total", domain="busy")
    return (written, sent) == (5, 3)


def list_series(scrape: Scrape) -> dict[Series, float]:
    """Return the values that both should have, by name and labels."""
    return {
        (name, frozenset(labels.items())): value
        for name in scrape.names
        if name.startswith("libvirt_")
        for labels, value in scrape.series(name)
    }


def list_types(scrape: Scrape) -> Mapping[str, str]:
    """Return the types by name."""
    return dict(re.findall(r"^# TYPE (libvirt_\w+) (\w+)$", scrape.text, re.MULTILINE))


def list_unequal(both: Both) -> dict[Series, tuple[float | None, float | None]]:
    """Return the series that are not the same in both now: with the value of Debian's, and of this one."""
    theirs, own = list_series(both.other.scrape()), list_series(both.own.scrape(PATH))
    return {
        series: (theirs.get(series), own.get(series))
        for series in theirs.keys() | own.keys()
        if theirs.get(series) != own.get(series) and series[0] not in DIFFERENCES
    }


def settle(both: Both) -> dict[Series, tuple[float | None, float | None]]:
    """Return what is still not the same after some time: what QEMU tells is read between scrapes."""
    unequal: list[dict[Series, tuple[float | None, float | None]]] = []

    def is_equal() -> bool:
        unequal[:] = [list_unequal(both)]
        return not unequal[0]

    with suppress(TimeoutError):
        wait_until(is_equal, "the same numbers", seconds=30)
    return unequal[0]


def test_names_types_and_labels_are_the_same(both: Both) -> None:
    assert settle(both) == {}
    theirs, own = both.other.scrape(), both.own.scrape(PATH)
    assert list_series(own).keys() == list_series(theirs).keys()
    assert list_types(own) == list_types(theirs)


def test_what_guests_did_is_the_same_to_the_byte(both: Both) -> None:
    """The guest wrote 5 times 8 sectors, and sent 3 frames; now it gets 11 of 100 bytes."""
    card = {"domain": "busy", "target_device": TAP}
    received = both.other.scrape().value("libvirt_domain_interface_stats_receive_packets_total", **card)
    send_frames(TAP, 11, size=100)
    assert settle(both) == {}
    scrape = both.own.scrape(PATH)
    disk = {"domain": "busy", "target_device": "vda"}
    assert scrape.value("libvirt_domain_block_stats_write_requests_total", **disk) == 5
    assert scrape.value("libvirt_domain_block_stats_write_bytes_total", **disk) == 5 * 8 * SECTOR
    assert scrape.value("libvirt_domain_interface_stats_transmit_packets_total", **card) == 3
    assert scrape.value("libvirt_domain_interface_stats_receive_packets_total", **card) == received + 11
    assert scrape.value("libvirt_domain_interface_stats_receive_bytes_total", **card) == 100 * (received + 11)


def test_cpu_time_is_nearly_the_same(both: Both) -> None:
    """Shows the one difference on the list, and that it is small."""
    theirs, own = both.other.scrape(), both.own.scrape(PATH)
    for domain in ("busy", "paused"):
        used = theirs.value(CPU, domain=domain)
        assert abs(own.value(CPU, domain=domain) - used) <= CPU_STEP_SECONDS + CPU_PART * used


def test_a_guest_that_begins_and_one_that_ends_are_seen_by_both(both: Both) -> None:
    domain = both.libvirtd.connection.lookupByName("off")
    domain.create()
    try:
        assert settle(both) == {}
        assert both.own.scrape(PATH).value("libvirt_domain_state_code", domain="off") == 1
        assert both.own.scrape(PATH).value("libvirt_domains_number") == 3
    finally:
        domain.destroy()
    assert settle(both) == {}
    assert both.own.scrape(PATH).get("libvirt_domain_state_code", domain="off") is None


def test_a_frozen_guest_is_said_to_have_timed_out_and_keeps_its_numbers(guests: LibvirtDaemon) -> None:
    """With the other exporters it delays the scrape, and its counters are 0 or missing, or those of all."""
    with serve_guests(guests, libvirt_names="inovex") as own:

        def has_timed_out(domain: str) -> float | None:
            return own.scrape(PATH).get("libvirt_domain_timed_out", domain=domain)

        wait_until(lambda: has_timed_out("busy") == has_timed_out("paused") == 0, "both guests to answer")
        before = list_series(own.scrape(PATH))
        guests.freeze_guest("busy")
        try:
            wait_until(lambda: has_timed_out("busy") == 1, "the guest to time out")
            frozen = own.scrape(PATH)
        finally:
            guests.thaw_guest("busy")
        assert list_series(frozen).keys() == before.keys()
        assert frozen.value("libvirt_domain_timed_out", domain="paused") == 0
        disk = {"domain": "busy", "target_device": "vda"}
        assert frozen.value("libvirt_domain_block_stats_write_bytes_total", **disk) == 5 * 8 * SECTOR
        wait_until(lambda: has_timed_out("busy") == 0, "the guest to answer again")


def test_a_change_of_the_names_needs_a_restart_and_is_said() -> None:
    settings = {"cache_ttl": "0s", "hypervisors": [{"uri": "test:///default"}]}
    with serve({**settings, "libvirt_names": "inovex"}) as own:
        assert own.scrape(PATH).value("libvirt_domains") == 1
        own.reload({**settings, "libvirt_names": "debian"})
        assert 'msg="a change of libvirt_names needs a restart" still=inovex' in own.log
        assert own.scrape(PATH).names >= {"libvirt_up", "libvirt_domains"}


def test_of_two_hypervisors_all_series_have_the_target_and_of_one_none_has() -> None:
    first, missing = {"uri": "test:///default", "name": "kvm01"}, {"uri": "test:///x", "name": "kvm02"}
    settings = {"cache_ttl": "0s", "libvirt_names": "inovex"}
    with serve({**settings, "hypervisors": [first]}) as own:
        assert own.scrape(PATH).series("libvirt_up") == [({}, 1)]
        own.reload({**settings, "hypervisors": [first, missing]})
        up = own.scrape(PATH).series("libvirt_up")
        assert {labels["target"]: value for labels, value in up} == {"kvm01": 1, "kvm02": 0}
        assert own.scrape("/probe?target=kvm01&collect[]=libvirt_names").series("libvirt_up") == [({}, 1)]

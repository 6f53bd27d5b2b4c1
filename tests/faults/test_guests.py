"""Guests come, go and change between two scrapes, and many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest

from tests.support.exporter_process import RunningExporter, Scrape, scrape_once, serve
from tests.support.guests import GIB, MIB, file_disk, guest_xml, make_qcow2, write
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

_NUMBERS = (
    "hypervisor_vcpus_used",
    "hypervisor_running_vms",
    "hypervisor_domains",
    "hypervisor_storage_overcommitted_bytes",
    "hypervisor_unsized_disks",
    "hypervisor_disk_available_least",
)


def _destroy(libvirtd: LibvirtDaemon) -> None:
    libvirtd.connection.lookupByName("guest").destroy()


def _undefine(libvirtd: LibvirtDaemon) -> None:
    _destroy(libvirtd)
    libvirtd.connection.lookupByName("guest").undefine()


def _make_transient(libvirtd: LibvirtDaemon) -> None:
    libvirtd.connection.lookupByName("guest").undefine()


def _redefine(libvirtd: LibvirtDaemon) -> None:
    """Give the name to another domain, as different as it can be."""
    _undefine(libvirtd)
    libvirtd.start_guest(guest_xml("guest", vcpus=4, disks=[_image(libvirtd, "redefined", 7)]))


def _restart_changed(libvirtd: LibvirtDaemon) -> None:
    """Let the same domain be another one when it is started again: same UUID, same name."""
    uuid = libvirtd.connection.lookupByName("guest").UUIDString()
    xml = guest_xml("guest", vcpus=3, disks=[_image(libvirtd, "changed", 9)])
    libvirtd.define(xml.replace("<memory", f"<uuid>{uuid}</uuid><memory", 1))
    _destroy(libvirtd)
    libvirtd.connection.lookupByName("guest").create()


def _rename(libvirtd: LibvirtDaemon) -> None:
    _destroy(libvirtd)
    libvirtd.connection.lookupByName("guest").rename("renamed")


def _swap_names(libvirtd: LibvirtDaemon) -> None:
    _rename(libvirtd)
    libvirtd.start_guest(guest_xml("guest", vcpus=4))


def _plug_disk(libvirtd: LibvirtDaemon) -> None:
    disk = _image(libvirtd, "plugged", 5, target="vdb")
    libvirtd.connection.lookupByName("guest").attachDevice(disk)


def _pause(libvirtd: LibvirtDaemon) -> None:
    libvirtd.connection.lookupByName("guest").suspend()


def _take_snapshot(libvirtd: LibvirtDaemon) -> None:
    """Put another image over the guest's, which then is the one that grows."""
    libvirtd.connection.lookupByName("guest").snapshotCreateXML(
        f"""<domainsnapshot><disks><disk name='vda' snapshot='external'>
          <source file='{libvirtd.images}/overlay'/></disk></disks></domainsnapshot>""",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
    )


def _plug_vcpus(libvirtd: LibvirtDaemon) -> None:
    libvirtd.connection.lookupByName("guest").setVcpusFlags(4, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _make_novas(libvirtd: LibvirtDaemon) -> None:
    """Make the domain one of Nova's while it runs."""
    libvirtd.connection.lookupByName("guest").setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        "<instance><name>guest</name></instance>",
        "nova",
        "http://openstack.org/xmlns/libvirt/nova/1.1",
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )


_CHANGES = (
    _destroy,
    _undefine,
    _make_transient,
    _redefine,
    _restart_changed,
    _rename,
    _swap_names,
    _plug_disk,
    _pause,
    _make_novas,
)


@pytest.mark.parametrize("change", _CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_change_between_two_scrapes_is_in_the_second(
    change: Callable[[LibvirtDaemon], None], libvirtd: LibvirtDaemon
) -> None:
    """Shows that an exporter that runs on says after each change what a fresh one says.

    It would read the guests by itself only after an hour, so it is the list and the events that tell it.
    """
    image = make_qcow2(libvirtd.images / "disk", 3 * GIB)
    write(image, 8 * MIB)
    disk = file_disk(image, serial="of-a-volume")
    libvirtd.start_guest(guest_xml("guest", vcpus=2, disks=[disk]))
    libvirtd.start_guest(guest_xml("neighbour"))
    with _serve(libvirtd) as exporter:
        before = _numbers(exporter.scrape())
        change(libvirtd)
        fresh = _numbers(scrape_once([_hypervisor(libvirtd)]))
        # Events take another way than answers, and may come a moment later.
        wait_until(lambda: _numbers(exporter.scrape()) == fresh, "the numbers of a fresh exporter", seconds=5)
    assert (before == fresh) == (change is _make_transient)


@pytest.mark.parametrize(
    "change", [_plug_vcpus, _take_snapshot], ids=lambda change: change.__name__.strip("_")
)
def test_a_change_of_which_libvirt_sends_no_event_shows_within_the_resync_interval(
    change: Callable[[LibvirtDaemon], None], libvirtd: LibvirtDaemon
) -> None:
    """Shows that what libvirt tells nobody of is found all the same, between scrapes."""
    image = make_qcow2(libvirtd.images / "disk", 3 * GIB)
    write(image, 8 * MIB)
    libvirtd.start_guest(guest_xml("guest", max_vcpus=4, disks=[file_disk(image)]))
    with _serve(libvirtd, resync_interval="1s") as exporter:
        before = _numbers(exporter.scrape())
        change(libvirtd)
        fresh = _numbers(scrape_once([_hypervisor(libvirtd)]))
        wait_until(lambda: _numbers(exporter.scrape()) == fresh, "the numbers of a fresh exporter", seconds=5)
    assert before != fresh


def test_a_warm_scrape_asks_libvirt_as_much_for_twenty_guests_as_for_none(libvirtd: LibvirtDaemon) -> None:
    """Shows that the calls of a scrape do not depend on the number of guests."""
    with _serve(libvirtd) as exporter:
        exporter.scrape()
        of_none = exporter.scrape().value("hypervisor_refresh_libvirt_calls")
        for number in range(20):
            libvirtd.define(guest_xml(f"guest{number}", disks=[_image(libvirtd, f"disk{number}", 1)]))
        cold = exporter.scrape()
        warm = exporter.scrape()
    assert cold.value("hypervisor_refresh_guests_read") == 20
    assert warm.value("hypervisor_refresh_guests_read") == 0
    assert warm.value("hypervisor_refresh_libvirt_calls") == of_none < 15


def test_a_storm_of_events_ends_in_the_numbers_of_a_fresh_process(libvirtd: LibvirtDaemon) -> None:
    """Shows that guests that start, stop and change while they are read leave nothing wrong behind."""
    for number in range(4):
        disk = _image(libvirtd, f"disk{number}", number + 1)
        libvirtd.define(guest_xml(f"guest{number}", vcpus=number + 1, disks=[disk]))
    with _serve(libvirtd) as exporter:
        storms = [threading.Thread(target=_storm, args=(libvirtd, number)) for number in range(4)]
        for storm in storms:
            storm.start()
        scrapes: list[Scrape] = []
        while any(storm.is_alive() for storm in storms):
            scrapes.append(exporter.scrape())
        fresh = scrape_once([_hypervisor(libvirtd)])
        wait_until(lambda: _numbers(exporter.scrape()) == _numbers(fresh), "the numbers of a fresh exporter")
        assert exporter.scrape().value("hypervisor_events_total") >= 4 * 2 * _ROUNDS
    assert len(scrapes) > 5
    assert all(scrape.value("hypervisor_up") == 1 for scrape in scrapes)


_ROUNDS = 5


def _storm(libvirtd: LibvirtDaemon, number: int) -> None:
    connection = libvirt.open(libvirtd.uri)
    try:
        domain = connection.lookupByName(f"guest{number}")
        for round_ in range(_ROUNDS):
            domain.create()
            path = libvirtd.images / f"more{number}-{round_}"
            domain.attachDevice(file_disk(make_qcow2(path, 64 * MIB), target="vdb"))
            domain.destroy()
            transient = connection.createXML(guest_xml(f"transient{number}"))
            transient.destroy()
        if number % 2:
            domain.create()
    finally:
        connection.close()


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


@contextmanager
def _serve(libvirtd: LibvirtDaemon, **settings: Any) -> Iterator[RunningExporter]:
    times = {"cache_ttl": "0s", "resync_interval": "1h", **settings}
    with serve({**times, "hypervisors": [_hypervisor(libvirtd)]}) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _image(libvirtd: LibvirtDaemon, name: str, gib: int, *, target: str = "vda") -> str:
    return file_disk(make_qcow2(libvirtd.images / name, gib * GIB), target=target)


def _numbers(scrape: Scrape) -> dict[str, Any]:
    return {name: scrape.series(name) for name in _NUMBERS}

"""virtqemud with and without the daemons beside it: each costs its own numbers, and brings them back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import RunningExporter, Scrape, scrape_once, serve
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.modular_daemons import ModularDaemons, Name, why_not
from tests.support.waiting import wait_until

# The reason names what is missing, and what builds it: no distribution that the tests run on packages them.
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

VCPUS = 3
ALL_PCI_DEVICES = ['{"address": "*:*:*.*"}']
HAS_PCI = any(Path("/sys/bus/pci/devices").glob("*"))

# Seconds in which numbers come back once their daemon is there again, on a busy machine.
COME_BACK = 15
SCRAPE_TIMEOUT = 5
# A scrape that waited for nobody, on a busy machine; one that waited took SCRAPE_TIMEOUT.
SOON = 1.5


@pytest.fixture
def daemons(libvirt_cache: Path) -> Iterator[ModularDaemons]:
    """virtqemud with a guest; the tests start the others."""
    with ModularDaemons(started=["virtqemud"], cache=libvirt_cache) as daemons:
        daemons.start_guest(guest_xml("guest", vcpus=VCPUS))
        yield daemons


@pytest.fixture
def all_daemons(daemons: ModularDaemons) -> ModularDaemons:
    """All three of them, with a storage pool."""
    daemons.start("virtnodedevd")
    daemons.start("virtstoraged")
    daemons.define_pool("vms")
    return daemons


def test_virtqemud_alone_is_enough_where_nothing_is_wanted_of_the_others(daemons: ModularDaemons) -> None:
    """Shows that no number of CPU, memory or the instances path needs another daemon."""
    scrape = scrape_once([{"uri": daemons.uri_read_only, "instances_path": str(daemons.images)}])
    assert scrape.exit_status == 0, scrape.log
    assert scrape.value("hypervisor_up") == 1
    assert scrape.value("hypervisor_refresh_errors_total", reason="daemon") == 0
    _assert_cpu_and_memory(scrape)


@pytest.mark.parametrize(
    "storage",
    [{"storage_pool": "vms"}, {"images_type": "rbd"}, {"images_type": "lvm", "images_volume_group": "vg"}],
    ids=["storage_pool", "rbd", "lvm"],
)
def test_without_virtstoraged_only_the_disk_numbers_are_missing_until_it_starts(
    storage: dict[str, str], daemons: ModularDaemons
) -> None:
    """Shows that nothing is taken for a lost connection, and that the log names the daemon, once."""
    with _serve(daemons, **storage) as exporter:
        absent = [exporter.scrape() for _ in range(3)]
        for scrape in absent:
            _assert_cpu_and_memory(scrape)
            assert scrape.value("hypervisor_up") == 0
            assert scrape.names.isdisjoint({"hypervisor_local_gb", "hypervisor_disk_available_least"})
            assert scrape.value("hypervisor_connects_total") == 1
        assert absent[-1].value("hypervisor_refresh_errors_total", reason="daemon") >= 3
        assert absent[-1].log.count("systemctl enable --now virtstoraged.socket") == 1
        daemons.start("virtstoraged")
        if "storage_pool" in storage:
            daemons.define_pool("vms")
            _wait_until_whole(exporter, daemons)
        else:
            # Neither such a pool nor such a cluster is here: that is what is then said.
            wait_until(lambda: _stays(exporter, "daemon"), "virtstoraged to be found", seconds=COME_BACK)
        assert _count_lost_connections(exporter) == 0


def test_without_virtnodedevd_only_the_devices_are_missing_until_it_starts(daemons: ModularDaemons) -> None:
    """Shows that it is said, once, and that nothing else suffers."""
    with _serve(daemons, device_spec=ALL_PCI_DEVICES) as exporter:
        wait_until(
            lambda: exporter.scrape().value("hypervisor_refresh_errors_total", reason="daemon") >= 3,
            "the missing daemon to be counted",
        )
        absent = exporter.scrape()
        _assert_cpu_and_memory(absent)
        assert absent.value("hypervisor_up") == 1
        assert "hypervisor_pci_devices" not in absent.names
        assert absent.log.count("systemctl enable --now virtnodedevd.socket") == 1
        daemons.start("virtnodedevd")
        wait_until(lambda: _stays(exporter, "daemon"), "virtnodedevd to be found", seconds=COME_BACK)
        assert ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI
        assert _count_lost_connections(exporter) == 0


def test_the_end_of_virtnodedevd_is_noticed_in_half_a_minute_and_its_return_in_seconds(
    all_daemons: ModularDaemons,
) -> None:
    """Shows that nobody has to tell: libvirt does not. What was known of the devices stays."""
    with _serve(all_daemons, device_spec=ALL_PCI_DEVICES) as exporter:
        wait_until(lambda: ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI, "the devices")
        all_daemons.kill("virtnodedevd")
        wait_until(
            lambda: _scrape_at_leisure(exporter, "daemon") >= 1,
            "the end to be noticed",
            seconds=60,
        )
        assert ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI
        all_daemons.start("virtnodedevd")
        wait_until(lambda: _stays(exporter, "daemon"), "virtnodedevd to be found", seconds=COME_BACK)
        _assert_cpu_and_memory(exporter.scrape())


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_the_end_of_virtstoraged_costs_the_disk_numbers_until_it_is_back(
    how: str, all_daemons: ModularDaemons
) -> None:
    """Shows that a connection by which it was asked before is of no use any more, and is replaced."""
    with _serve(all_daemons, storage_pool="vms") as exporter:
        _wait_until_whole(exporter, all_daemons)
        getattr(all_daemons, how)("virtstoraged")
        ended = exporter.scrape()
        _assert_cpu_and_memory(ended)
        assert ended.value("hypervisor_up") == 0
        assert "hypervisor_local_gb" not in ended.names
        all_daemons.start("virtstoraged")
        _wait_until_whole(exporter, all_daemons)
        assert exporter.scrape().value("hypervisor_connects_total") == 1
        assert _count_lost_connections(exporter) == 0


def test_a_restart_of_virtstoraged_between_two_scrapes_costs_nothing(all_daemons: ModularDaemons) -> None:
    with _serve(all_daemons, storage_pool="vms") as exporter:
        _wait_until_whole(exporter, all_daemons)
        before = exporter.scrape().value("hypervisor_refresh_errors_total", reason="daemon")
        all_daemons.restart("virtstoraged")
        after = exporter.scrape()
        assert after.value("hypervisor_up") == 1
        assert after.value("hypervisor_local_gb") == _pool_gb(all_daemons)
        assert after.value("hypervisor_refresh_errors_total", reason="daemon") == before


def test_a_frozen_virtstoraged_delays_one_scrape_and_costs_no_number_at_first(
    all_daemons: ModularDaemons,
) -> None:
    """Shows that the last disk numbers count, that it is said, and that nobody waits for it twice."""
    with _serve(all_daemons, storage_pool="vms") as exporter:
        _wait_until_whole(exporter, all_daemons)
        all_daemons.freeze("virtstoraged")
        exporter.scrape()
        frozen, seconds = _scrape_timed(exporter)
        assert max(seconds) < SOON
        for scrape in frozen:
            _assert_cpu_and_memory(scrape)
            assert scrape.value("hypervisor_up") == 1
            assert scrape.value("hypervisor_local_gb") == _pool_gb(all_daemons)
        assert frozen[-1].value("hypervisor_refresh_errors_total", reason="storage") >= 3
        assert frozen[-1].log.count("systemctl restart virtstoraged") == 1
        assert frozen[-1].value("hypervisor_hung_calls") == 1
        all_daemons.thaw("virtstoraged")
        _wait_until_whole(exporter, all_daemons)
        assert exporter.scrape().value("hypervisor_hung_calls") == 0


def test_beside_frozen_daemons_it_starts_with_all_other_numbers(all_daemons: ModularDaemons) -> None:
    """Shows that connecting waits for neither of them, and that both are told and come back."""
    all_daemons.freeze("virtstoraged")
    all_daemons.freeze("virtnodedevd")
    with _serve(all_daemons, storage_pool="vms", device_spec=ALL_PCI_DEVICES) as exporter:
        scrapes, seconds = _scrape_timed(exporter)
        assert max(seconds) < SOON
        for scrape in scrapes:
            _assert_cpu_and_memory(scrape)
            assert scrape.value("hypervisor_up") == 0
            assert "hypervisor_local_gb" not in scrape.names
        wait_until(
            lambda: exporter.scrape().value("hypervisor_refresh_errors_total", reason="daemon") >= 1,
            "the frozen virtnodedevd to be told",
        )
        assert "systemctl restart virtnodedevd" in exporter.log
        assert exporter.scrape().value("hypervisor_hung_calls") == 2
        all_daemons.thaw("virtstoraged")
        all_daemons.thaw("virtnodedevd")
        _wait_until_whole(exporter, all_daemons)
        wait_until(lambda: _stays(exporter, "daemon"), "virtnodedevd to answer", seconds=COME_BACK)
        assert ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI


def test_one_scrape_for_a_person_waits_for_frozen_daemons_no_longer_than_the_deadline(
    all_daemons: ModularDaemons,
) -> None:
    all_daemons.freeze("virtstoraged")
    all_daemons.freeze("virtnodedevd")
    settings = {"uri": all_daemons.uri_read_only, "storage_pool": "vms", "device_spec": ALL_PCI_DEVICES}
    scrape = scrape_once([settings])
    assert scrape.exit_status == 1
    _assert_cpu_and_memory(scrape)


@pytest.mark.parametrize("name", ["virtstoraged", "virtnodedevd"])
def test_a_frozen_daemon_that_is_killed_and_started_again_is_found(
    name: Name, all_daemons: ModularDaemons
) -> None:
    """Shows that a call which waits for the old one ends with it."""
    all_daemons.freeze(name)
    with _serve(all_daemons, storage_pool="vms", device_spec=ALL_PCI_DEVICES) as exporter:
        _assert_cpu_and_memory(exporter.scrape())
        all_daemons.kill(name)
        all_daemons.start(name)
        _wait_until_whole(exporter, all_daemons)
        wait_until(
            lambda: ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI,
            "the devices",
            seconds=COME_BACK,
        )


def test_a_restart_of_virtqemud_brings_back_what_the_others_know(all_daemons: ModularDaemons) -> None:
    with _serve(all_daemons, storage_pool="vms", device_spec=ALL_PCI_DEVICES) as exporter:
        _wait_until_whole(exporter, all_daemons)
        all_daemons.restart("virtnodedevd")
        all_daemons.restart("virtqemud")
        _wait_until_whole(exporter, all_daemons)
        wait_until(
            lambda: ("hypervisor_pci_devices" in exporter.scrape().names) == HAS_PCI,
            "the devices",
            seconds=COME_BACK,
        )


def test_by_way_of_virtproxyd_a_restart_of_any_daemon_is_got_over(all_daemons: ModularDaemons) -> None:
    """Shows it for clients over a network, or of the old socket: virtproxyd lives on with dead ends."""
    all_daemons.start("virtproxyd")
    uri = f"qemu:///system?socket={all_daemons.socket('virtproxyd', '-ro')}"
    with _serve(all_daemons, uri=uri, storage_pool="vms", device_spec=ALL_PCI_DEVICES) as exporter:
        _wait_until_whole(exporter, all_daemons)
        names: tuple[Name, ...] = ("virtstoraged", "virtnodedevd", "virtqemud", "virtproxyd")
        for name in names:
            all_daemons.restart(name)
            _wait_until_whole_by_virtproxyd(exporter, all_daemons)
        all_daemons.terminate("virtqemud")
        assert exporter.scrape().value("hypervisor_up") == 0
        all_daemons.start("virtqemud")
        _wait_until_whole_by_virtproxyd(exporter, all_daemons)


def test_a_daemon_that_denies_access_costs_its_own_numbers(all_daemons: ModularDaemons) -> None:
    """Shows it with libvirt's access control, which asks polkit, which is not here and so denies all."""
    all_daemons.terminate("virtstoraged")
    all_daemons.start("virtstoraged", settings='access_drivers = [ "polkit" ]\n')
    with _serve(all_daemons, storage_pool="vms") as exporter:
        scrapes = [exporter.scrape() for _ in range(3)]
        for scrape in scrapes:
            _assert_cpu_and_memory(scrape)
            assert scrape.value("hypervisor_up") == 0
            assert "hypervisor_local_gb" not in scrape.names
        assert scrapes[-1].value("hypervisor_refresh_errors_total", reason="denied") >= 3
        assert scrapes[-1].log.count("/etc/libvirt/virtstoraged.conf") == 1
        all_daemons.restart("virtstoraged")
        _wait_until_whole(exporter, all_daemons)


def test_a_socket_that_virtqemud_may_not_open_costs_the_numbers_behind_it() -> None:
    """Shows that the refusal is not taken for a missing daemon."""
    with ModularDaemons(cache=None) as daemons:
        daemons.start_guest(guest_xml("guest", vcpus=VCPUS))
        daemons.define_pool("vms")
        _restart_without_root_access_to_files(daemons)
        for suffix in ("", "-ro"):
            path = daemons.socket("virtstoraged", suffix)
            os.chown(path, 65534, 65534)
            path.chmod(0o600)
        with _serve(daemons, storage_pool="vms") as exporter:
            scrapes = [exporter.scrape() for _ in range(3)]
            for scrape in scrapes:
                _assert_cpu_and_memory(scrape)
                assert scrape.value("hypervisor_up") == 0
            assert scrapes[-1].value("hypervisor_refresh_errors_total", reason="denied") >= 3
            assert "Permission denied" in scrapes[-1].log
            for suffix in ("", "-ro"):
                daemons.socket("virtstoraged", suffix).chmod(0o666)
            _wait_until_whole(exporter, daemons)


def test_a_socket_of_virtqemud_that_the_exporter_may_not_open_is_named_with_its_mode(
    daemons: ModularDaemons,
) -> None:
    daemons.socket("virtqemud", "-ro").chmod(0o600)
    scrape = scrape_once([{"uri": daemons.uri_read_only}], as_nobody=True)
    assert (scrape.exit_status, scrape.value("hypervisor_up")) == (1, 0)
    assert scrape.value("hypervisor_refresh_errors_total", reason="connect") > 0
    assert "Permission denied" in scrape.log
    assert "unix_sock_ro_perms in libvirtd.conf or virtqemud.conf" in scrape.log


@pytest.mark.parametrize("leftover", [False, True], ids=["no socket", "nobody listens"])
def test_without_any_libvirt_both_kinds_of_socket_are_named(leftover: bool, daemons: ModularDaemons) -> None:
    """Shows it for the usual URI, which finds the daemon by the sockets that are there."""
    inside = daemons.sandbox.command()
    found = scrape_once([{"uri": "qemu:///system", "instances_path": str(daemons.images)}], prefix=inside)
    assert found.exit_status == 0, found.log
    daemons.kill("virtqemud")
    if not leftover:
        for suffix in ("", "-ro"):
            daemons.socket("virtqemud", suffix).unlink()
    missing = scrape_once([{"uri": "qemu:///system", "instances_path": str(daemons.images)}], prefix=inside)
    assert missing.exit_status == 1
    assert "/run/libvirt/libvirt-sock-ro (systemctl enable --now libvirtd)" in missing.log
    assert "/run/libvirt/virtqemud-sock-ro (systemctl enable --now virtqemud.socket)" in missing.log


def test_a_frozen_virtstoraged_keeps_no_guest_from_being_read(all_daemons: ModularDaemons) -> None:
    """Shows it where libvirt is asked for images that the exporter may not open: by their storage volumes."""
    images = [make_qcow2(all_daemons.images / f"disk{number}", GIB) for number in range(8)]
    for image in images:
        image.chmod(0o600)
    all_daemons.freeze("virtstoraged")
    with _serve(all_daemons, as_nobody=True) as exporter:
        for number, image in enumerate(images):
            disk = file_disk(image)
            all_daemons.start_guest(guest_xml(f"guest{number}", vcpus=VCPUS, disks=[disk]))
            scrape = exporter.scrape()
            assert scrape.value("hypervisor_vcpus_used") == VCPUS * (number + 2)
            assert scrape.value("hypervisor_unread_guests") == 0
        wait_until(
            lambda: exporter.scrape().value("hypervisor_unsized_disks") == 0,
            "the guests to be asked instead",
        )


@contextmanager
def _serve(daemons: ModularDaemons, *, as_nobody: bool = False, **options: Any) -> Iterator[RunningExporter]:
    hypervisor = {"name": "kvm", "uri": daemons.uri_read_only, "instances_path": str(daemons.images)}
    times = {"cache_ttl": "0s", "scrape_timeout": f"{SCRAPE_TIMEOUT}s"}
    with serve({**times, "hypervisors": [{**hypervisor, **options}]}, as_nobody=as_nobody) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _restart_without_root_access_to_files(daemons: ModularDaemons) -> None:
    """Restart virtqemud so that the modes of files bind it as they bind others.

    Then it cannot start QEMU to learn what that can do: it must find this in its cache. Once it did not. The
    reason was not found, so this tries again.
    """
    for _ in range(5):
        daemons.terminate("virtqemud")
        daemons.start("virtqemud", prefix=["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"])
        if daemons.has_found_qemu():
            return
        daemons.restart("virtqemud")
    pytest.fail(f"virtqemud finds no QEMU in its cache: {daemons.read_log('virtqemud')[-2000:]}")


def _assert_cpu_and_memory(scrape: Scrape) -> None:
    assert scrape.value("hypervisor_vcpus") >= 1
    assert scrape.value("hypervisor_vcpus_used") == VCPUS
    assert scrape.value("hypervisor_memory_mb") > scrape.value("hypervisor_memory_mb_used") > 0
    assert scrape.value("hypervisor_running_vms") == 1


def _wait_until_whole_by_virtproxyd(exporter: RunningExporter, daemons: ModularDaemons) -> None:
    """Start virtproxyd again whenever it has ended, as systemd does: it may crash when virtqemud ends."""

    def is_up() -> bool:
        if not daemons.is_running("virtproxyd"):
            daemons.start("virtproxyd")
        return exporter.scrape().value("hypervisor_up") == 1

    wait_until(is_up, "virtproxyd and all numbers to be there", seconds=COME_BACK)
    _wait_until_whole(exporter, daemons)


def _wait_until_whole(exporter: RunningExporter, daemons: ModularDaemons) -> None:
    wait_until(
        lambda: exporter.scrape().value("hypervisor_up") == 1, "all numbers to be there", seconds=COME_BACK
    )
    scrape = exporter.scrape()
    _assert_cpu_and_memory(scrape)
    assert scrape.value("hypervisor_local_gb") == _pool_gb(daemons)


def _pool_gb(daemons: ModularDaemons) -> int:
    file_system = os.statvfs(daemons.images)
    return file_system.f_blocks * file_system.f_frsize // GIB


def _stays(exporter: RunningExporter, reason: str) -> bool:
    """Whether three scrapes in a row count no more of such errors."""
    counts = {exporter.scrape().value("hypervisor_refresh_errors_total", reason=reason) for _ in range(3)}
    return len(counts) == 1


def _scrape_at_leisure(exporter: RunningExporter, reason: str) -> float:
    """Return how many such errors there were. Nothing is read between scrapes that follow on each other."""
    time.sleep(0.5)
    return exporter.scrape().value("hypervisor_refresh_errors_total", reason=reason)


def _count_lost_connections(exporter: RunningExporter) -> float:
    return exporter.scrape().value("hypervisor_refresh_errors_total", reason="connection_lost")


def _scrape_timed(exporter: RunningExporter) -> tuple[list[Scrape], list[float]]:
    scrapes, seconds = [], []
    for _ in range(3):
        began_at = time.monotonic()
        scrapes.append(exporter.scrape())
        seconds.append(time.monotonic() - began_at)
    return scrapes, seconds

"""Images vanish, shrink, turn into something else, and lie on a mount that hangs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import RunningExporter, Scrape, scrape_once, serve
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.hung_mount import hung_mount, take_away
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until

HANGS = 15  # seconds, of a scrape that has to be answered within five


def _remove(image: Path) -> None:
    image.unlink()


def _truncate(image: Path) -> None:
    os.truncate(image, 20)


def _make_directory(image: Path) -> None:
    image.unlink()
    image.mkdir()


def _make_fifo(image: Path) -> None:
    image.unlink()
    os.mkfifo(image)


def _make_loop(image: Path) -> None:
    image.unlink()
    image.symlink_to(image)


def _overwrite(image: Path) -> None:
    image.write_bytes(b"no image" * 1000)


@pytest.mark.parametrize(
    "spoil",
    [_remove, _truncate, _make_directory, _make_fifo, _make_loop, _overwrite],
    ids=lambda f: f.__name__,
)
def test_a_spoilt_image_costs_its_guest_and_is_told_once(
    spoil: Callable[[Path], None], libvirtd: LibvirtDaemon
) -> None:
    """Shows that an image that cannot be read is counted and left out, and is back once it is mended."""
    spoilt = libvirtd.images / "spoilt"
    libvirtd.define(guest_xml("spoilt", disks=[file_disk(make_qcow2(spoilt, 3 * GIB))]))
    whole = libvirtd.images / "whole"
    libvirtd.define(guest_xml("whole", disks=[file_disk(make_qcow2(whole, 2 * GIB))]))
    of_whole = 2 * GIB - whole.stat().st_blocks * 512
    with _serve(libvirtd) as exporter:
        before = _scrape(exporter)
        spoil(spoilt)
        after = [_scrape(exporter) for _ in range(3)][-1]
        assert exporter.log.count("left out of the over-commit") == 1
        _clear(spoilt)
        make_qcow2(spoilt, 3 * GIB)
        mended = _scrape(exporter)
    assert before.value("hypervisor_unsized_disks") == 0
    assert after.value("hypervisor_unsized_disks") == 1
    assert after.value("hypervisor_up") == 1
    assert _overcommitted(after) == of_whole
    assert mended.value("hypervisor_unsized_disks") == 0
    assert _overcommitted(mended) == _overcommitted(before)


def test_images_that_only_root_may_read_are_sized_by_libvirt(libvirtd: LibvirtDaemon) -> None:
    """Shows that an unprivileged exporter ends with the numbers of a privileged one, frozen guests aside."""
    for number, target in enumerate(("well", "frozen", "off")):
        image = make_qcow2(libvirtd.images / target, (number + 1) * GIB)
        image.chmod(0o600)
        xml = guest_xml(target, disks=[file_disk(image)])
        libvirtd.define(xml) if target == "off" else libvirtd.start_guest(xml)
    privileged = scrape_once([_hypervisor(libvirtd)])
    once = scrape_once([_hypervisor(libvirtd)], as_nobody=True)
    assert _overcommitted(once) == _overcommitted(privileged)
    libvirtd.freeze_guest("frozen")
    try:
        with _serve(libvirtd, as_nobody=True) as exporter:
            scrape = wait_until(lambda: _with_unsized(exporter, 1), "all but the frozen guest's image")
            assert scrape.value("hypervisor_up") == 1
            libvirtd.thaw_guest("frozen")
            wait_until(lambda: _with_unsized(exporter, 0), "the thawed guest's image")
            assert _overcommitted(_scrape(exporter)) == _overcommitted(privileged)
    finally:
        libvirtd.thaw_guest("frozen")


def test_a_disk_that_takes_another_ones_place_is_sized_anew(libvirtd: LibvirtDaemon) -> None:
    """Shows that what libvirt said of an image is not taken for the one that is plugged in after it."""
    with _serve(libvirtd, as_nobody=True) as exporter:
        for gib in (1, 4):
            image = make_qcow2(libvirtd.images / f"disk{gib}", gib * GIB)
            image.chmod(0o600)
            libvirtd.define(_with_uuid(guest_xml("guest", disks=[file_disk(image)])))
            expected = gib * GIB - image.stat().st_blocks * 512
            wait_until(partial(_has_overcommitted, exporter, expected), f"the disk of {gib} GiB")


def test_a_hung_mount_stalls_no_scrape(libvirtd: LibvirtDaemon, tmp_path: Path) -> None:
    """Shows that images on a dead mount are left out and remembered, and that all others are still read."""
    good = make_qcow2(libvirtd.images / "good", 2 * GIB)
    libvirtd.define(guest_xml("good", disks=[file_disk(good)]))
    mount = tmp_path / "mount"
    mount.mkdir()
    for number in range(5):
        libvirtd.define(guest_xml(f"hung{number}", disks=[file_disk(mount / f"disk{number}")]))
    with _serve(libvirtd) as exporter:
        assert _scrape(exporter).value("hypervisor_unsized_disks") == 5
        with hung_mount(mount):
            first = _scrape(exporter)
            threads = []
            for _ in range(10):
                scrape = _scrape(exporter)
                assert scrape.value("hypervisor_up") == 1
                assert scrape.value("hypervisor_unsized_disks") == 5
                assert _overcommitted(scrape) == _overcommitted(first) > 0
                # What is remembered is not waited for: the patience is a second for each read.
                assert scrape.value("hypervisor_refresh_duration_seconds") < 1
                threads.append(_count_threads(exporter))
            assert scrape.value("hypervisor_hung_calls") == 2
            # What is read between scrapes comes and goes.
            assert min(threads[5:]) <= min(threads[:5])
        wait_until(
            lambda: _scrape(exporter).value("hypervisor_hung_calls") == 0, "the mount's threads to end"
        )


def test_mounts_that_hang_at_once_cost_one_scrape_a_second(libvirtd: LibvirtDaemon, tmp_path: Path) -> None:
    """Shows that eight cost no more than one, that no image beside them is missed, and that all come back."""
    mounts = _define_guests_on_mounts(libvirtd, tmp_path)
    with _serve(libvirtd) as exporter:
        before = _scrape(exporter)
        assert before.value("hypervisor_unsized_disks") == 0
        with contextlib.ExitStack() as stack:
            for mount in mounts:
                stack.enter_context(hung_mount(mount))
            refreshes = []
            for _ in range(5):
                scrape = _scrape(exporter)
                assert scrape.value("hypervisor_up") == 1
                assert scrape.value("hypervisor_unsized_disks") == 2 * len(mounts)
                assert _overcommitted(scrape) == 2 * GIB - _allocated(libvirtd.images / "good")
                assert scrape.value("hypervisor_hung_calls") == 2 * len(mounts)
                refreshes.append(scrape.value("hypervisor_refresh_duration_seconds"))
            # One after the other they would take sixteen seconds.
            assert 1 <= refreshes[0] < 4
            assert max(refreshes[1:]) < 1
        wait_until(lambda: _with_unsized(exporter, 0), "what was under the mounts")
        scrape = _scrape(exporter)
        assert _overcommitted(scrape) == _overcommitted(before)
        assert scrape.value("hypervisor_hung_calls") == 0


def test_an_exporter_that_starts_beside_hung_mounts_has_all_other_numbers_at_once(
    libvirtd: LibvirtDaemon, tmp_path: Path
) -> None:
    """Shows that the first audit, which the port waits for, is over before anybody can ask."""
    mounts = _define_guests_on_mounts(libvirtd, tmp_path)
    with contextlib.ExitStack() as stack:
        for mount in mounts:
            stack.enter_context(hung_mount(mount))
        exporter = stack.enter_context(_serve(libvirtd))
        scrape = _scrape(exporter)
        assert exporter.log.index("hypervisor resource view") < exporter.log.index("listening")
        assert scrape.value("hypervisor_up") == 1
        assert scrape.value("hypervisor_unsized_disks") == 2 * len(mounts)
        assert _overcommitted(scrape) == 2 * GIB - _allocated(libvirtd.images / "good")
        assert scrape.value("hypervisor_refresh_duration_seconds") < 1, "the audit has waited for all"


def test_a_hung_instances_path_stalls_no_scrape(libvirtd: LibvirtDaemon, tmp_path: Path) -> None:
    """Shows that statvfs that never returns costs the disk numbers and nothing else."""
    libvirtd.start_guest(guest_xml("guest", vcpus=3))
    with hung_mount(tmp_path):
        hypervisor = {**_hypervisor(libvirtd), "instances_path": str(tmp_path)}
        with serve({**_TIMES, "hypervisors": [hypervisor]}) as exporter:
            for _ in range(5):
                scrape = _scrape(exporter)
                assert scrape.get("hypervisor_local_gb") is None
                assert scrape.get("hypervisor_storage_info") is None, "it was never seen which one it is"
                assert scrape.value("hypervisor_vcpus_used") == 3
                assert scrape.value("hypervisor_up") == 0
                assert scrape.value("hypervisor_hung_calls") == 1
            assert exporter.log.count("its file system does not answer") == 1


def test_a_dead_mount_that_is_taken_away_is_not_taken_for_what_lies_there_since(
    libvirtd: LibvirtDaemon, tmp_path: Path
) -> None:
    """Shows that nobody has to restart the exporter, though its read of the dead mount hangs for ever."""
    with hung_mount(tmp_path):
        hypervisor = {**_hypervisor(libvirtd), "instances_path": str(tmp_path)}
        with serve({**_TIMES, "hypervisors": [hypervisor]}) as exporter:
            assert _scrape(exporter).get("hypervisor_local_gb") is None
            take_away(tmp_path)
            wait_until(lambda: _scrape(exporter).get("hypervisor_local_gb"), "what lies there", seconds=5)
            scrape = _scrape(exporter)
            assert (scrape.value("hypervisor_up"), scrape.value("hypervisor_hung_calls")) == (1, 1)


_TIMES = {"cache_ttl": "0s", "scrape_timeout": "5s", "resync_interval": "1s"}


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


@contextlib.contextmanager
def _serve(libvirtd: LibvirtDaemon, *, as_nobody: bool = False) -> Iterator[RunningExporter]:
    with serve({**_TIMES, "hypervisors": [_hypervisor(libvirtd)]}, as_nobody=as_nobody) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _scrape(exporter: RunningExporter) -> Scrape:
    return exporter.scrape(seconds=HANGS)


def _define_guests_on_mounts(libvirtd: LibvirtDaemon, folder: Path) -> list[Path]:
    """Define a guest beside eight mount points, and one on each that has two images; return the points."""
    libvirtd.define(guest_xml("good", disks=[file_disk(make_qcow2(libvirtd.images / "good", 2 * GIB))]))
    points = [folder / f"mount{number}" for number in range(8)]
    for point in points:
        for disk in ("a", "b"):
            (point / disk).mkdir(parents=True)
        first, second = (make_qcow2(point / disk / "disk", GIB) for disk in ("a", "b"))
        disks = [file_disk(first), file_disk(second, target="vdb")]
        libvirtd.define(guest_xml(point.name, disks=disks))
    return points


def _allocated(image: Path) -> int:
    return image.stat().st_blocks * 512


def _overcommitted(scrape: Scrape) -> float:
    return scrape.value("hypervisor_storage_overcommitted_bytes")


def _has_overcommitted(exporter: RunningExporter, size: int) -> bool:
    return _overcommitted(_scrape(exporter)) == size


def _with_uuid(xml: str) -> str:
    """Return the XML of always the same domain, so that defining it again changes it."""
    return xml.replace("<memory", "<uuid>00000000-0000-4000-8000-000000000001</uuid><memory", 1)


def _with_unsized(exporter: RunningExporter, count: int) -> Scrape | None:
    scrape = _scrape(exporter)
    return scrape if scrape.value("hypervisor_unsized_disks") == count else None


def _clear(image: Path) -> None:
    if image.is_dir() and not image.is_symlink():
        image.rmdir()
    else:
        image.unlink(missing_ok=True)


def _count_threads(exporter: RunningExporter) -> int:
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])

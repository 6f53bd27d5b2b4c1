"""Guests freeze, alone and many at once, while others ask them, change them, destroy them and move them.

A guest that does not answer costs nobody anything: every scrape has every sample, none takes longer than
half a second, and nothing is left when the guest goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from exporter.attempt import MAX_IDLE_THREADS
from tests.support.exporter_process import RunningExporter, Scrape, scrape_once, serve
from tests.support.frozen_guests import (
    all_workers_taken,
    being_destroyed,
    frozen,
    frozen_while_changed,
    frozen_with_jobs_held,
    is_job_held,
    migrating,
)
from tests.support.guest_metrics import GUEST_METRICS
from tests.support.guests import GIB, MIB, file_disk, guest_xml, make_qcow2, make_raw, write
from tests.support.libvirtd import LibvirtDaemon
from tests.support.waiting import wait_until
from tests.support.watching import (
    Stopwatch,
    Timed,
    check_whole,
    count_connections,
    count_threads,
    numbers,
    repeated,
    slow,
    take,
    watch,
)

# The guests' XML is read again twice in each watch: that is what once waited for a frozen one.
_RESYNC = "1s"
_WATCH_SECONDS = 3

# At most so many calls are left waiting for guests at a time; each has a thread and a connection.
_MAX_OUTSTANDING = 5

# The refresh's own connection, that of node devices, and eight to borrow, some of which stay for the next.
_MAX_CONNECTIONS = 10
_KEPT_CONNECTIONS = 6

# From the start of the process to numbers. The first one comes with the port.
_COLD_SECONDS = 3

# Of a scrape that finds libvirtd in no state to list its domains: the soft deadline, and what goes with it.
_LIST_SECONDS = 1.5

# More than the exporter may have calls waiting, each of which took one of libvirtd's workers.
_RELOADS = 6

# What libvirt tells of the host without any list of domains, and whatever else is served.
_HOST_NUMBERS = (
    "hypervisor_info",
    "hypervisor_vcpus",
    "hypervisor_memory_mb",
    "hypervisor_memory_mb_used",
    "hypervisor_local_gb",
    "hypervisor_local_gb_used",
    "hypervisor_inventory",
    "hypervisor_capacity",
)

# How long it may take after the thaw until all is as it was; a busy machine is slower.
_CATCH_UP_SECONDS = 20

# A hypervisor with a host UUID of its own, which stays the same when libvirtd is restarted.
_OTHER_HOST = 'listen_tls = 0\nhost_uuid = "5f4e5a5a-0a3f-4d3e-8a52-1c6d6a1c9c11"\n'

# What a call on such a guest waits for, from libvirt 11.0 on its XML among them: its job.
_XML_WAITS_FOR_THE_JOB = libvirt.getVersion() >= 11_000_000


@dataclass(frozen=True)
class Fault:
    """What befalls the guests `frozen0`, `frozen1`, … beside a guest that is well."""

    name: str
    count: int
    befall: Callable[..., AbstractContextManager[object]]

    @property
    def names(self) -> list[str]:
        """The guests that it befalls."""
        return [f"frozen{number}" for number in range(self.count)]

    @property
    def hides_xml(self) -> bool:
        """Whether the XML of these guests cannot be had while it lasts."""
        return _XML_WAITS_FOR_THE_JOB and self.befall is frozen_with_jobs_held


_FROZEN = Fault("frozen", 1, frozen)
_JOB_HELD = Fault("job_held", 1, frozen_with_jobs_held)
_TWO_HELD = Fault("two_jobs_held", 2, frozen_with_jobs_held)
_FIVE_HELD = Fault("five_jobs_held", 5, frozen_with_jobs_held)

# As root the exporter reads all images by itself; as nobody it has to ask libvirt for their sizes.
each_fault = pytest.mark.parametrize(
    ("fault", "as_nobody"),
    [
        (_FROZEN, False),
        (_FROZEN, True),
        (_JOB_HELD, False),
        (_JOB_HELD, True),
        (_TWO_HELD, False),
        (_FIVE_HELD, True),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "as_nobody" if value else "as_root",
)


@each_fault
def test_a_frozen_guest_changes_nothing(fault: Fault, as_nobody: bool, libvirtd: LibvirtDaemon) -> None:
    """Shows that every scrape beside frozen guests is whole and quick, with the numbers from before."""
    _start_guests(libvirtd, fault.count)
    with _serve(libvirtd, as_nobody=as_nobody) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with fault.befall(libvirtd, *fault.names):
            taken = watch(exporter, libvirtd, _WATCH_SECONDS)
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        assert [numbers(each.scrape) for each in taken] == [numbers(before.scrape)] * len(taken)
        _check_bounded(taken, before)
        assert repeated(exporter.log) == []
        _check_nothing_is_left(exporter, libvirtd, before)
        assert numbers(exporter.scrape()) == numbers(before.scrape)


@each_fault
def test_an_exporter_started_beside_a_frozen_guest_has_all_numbers_but_that_guests(
    fault: Fault, as_nobody: bool, libvirtd: LibvirtDaemon
) -> None:
    """Shows that the first audit waits for nobody, and that a guest never read counts by what can be had."""
    _start_guests(libvirtd, fault.count)
    with _serve(libvirtd, as_nobody=as_nobody) as exporter:
        healthy = _wait_for_sizes(exporter, libvirtd)
    with ExitStack() as lasting:
        lasting.enter_context(fault.befall(libvirtd, *fault.names))
        started = Stopwatch()
        with _serve(libvirtd, as_nobody=as_nobody) as exporter:
            taken = [take(exporter, libvirtd)]
            seconds = started.undisturbed
            print(f"{fault.name}: numbers {started.seconds:.2f} s after the start")
            taken += watch(exporter, libvirtd, _WATCH_SECONDS)
            lasting.close()
            check_whole(taken, healthy.scrape)
            assert seconds < _COLD_SECONDS
            assert slow(taken) == []
            for each in taken:
                assert _counts(each.scrape) == _counts(healthy.scrape)
                assert each.scrape.value("hypervisor_unread_guests") == fault.count * fault.hides_xml
                if not _XML_WAITS_FOR_THE_JOB:
                    assert each.scrape.value("hypervisor_outdated_guests") == 0
            _check_bounded(taken, healthy)
            _wait_for_numbers(exporter, healthy.scrape)
            assert repeated(exporter.log) == []
            _check_nothing_is_left(exporter, libvirtd, healthy)


@pytest.mark.parametrize("fault", [_FROZEN, _JOB_HELD, _FIVE_HELD], ids=lambda fault: fault.name)
def test_a_guest_that_starts_beside_frozen_ones_shows_in_the_next_scrapes(
    fault: Fault, libvirtd: LibvirtDaemon
) -> None:
    """Shows that the guests that answer need not wait for those that do not."""
    _start_guests(libvirtd, fault.count)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with fault.befall(libvirtd, *fault.names):
            watch(exporter, libvirtd, 1.5)  # whatever hangs hangs now
            _start_guest(libvirtd, "late", vcpus=7)
            expected = before.scrape.value("hypervisor_vcpus_used") + 7
            assert exporter.scrape().value("hypervisor_vcpus_used") == expected
            fresh = scrape_once([_hypervisor(libvirtd)])
            overcommitted = _overcommitted(before.scrape) + _growth(libvirtd, "late")
            if fault.count < _MAX_OUTSTANDING:
                wait_until(lambda: _overcommitted(exporter.scrape()) == overcommitted, "its disk", seconds=3)
            assert (fresh.exit_status, fresh.value("hypervisor_vcpus_used")) == (0, expected)
        wait_until(lambda: _overcommitted(exporter.scrape()) == overcommitted, "its disk")


def test_more_guests_freeze_than_calls_may_be_left_waiting(libvirtd: LibvirtDaemon) -> None:
    """Shows that the calls for frozen guests do not take libvirtd's workers, however many freeze."""
    count = _MAX_OUTSTANDING + 3
    names = [f"frozen{number}" for number in range(count)]
    _start_guests(libvirtd, count)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with frozen_with_jobs_held(libvirtd, *names):
            taken = watch(exporter, libvirtd, 2 * _WATCH_SECONDS)
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        _check_bounded(taken, before)
        _check_nothing_is_left(exporter, libvirtd, before)


def test_an_exporter_started_beside_many_frozen_guests_sizes_all_others(libvirtd: LibvirtDaemon) -> None:
    """Shows that guests that hang take no connection from the well ones, neither now nor later."""
    count = _MAX_OUTSTANDING + 1
    names = [f"frozen{number}" for number in range(count)]
    _start_guests(libvirtd, count)
    with frozen(libvirtd, *names), _serve(libvirtd, as_nobody=True) as exporter:
        wait_until(lambda: exporter.scrape().value("hypervisor_unsized_disks") == count, "all other sizes")
        _start_guest(libvirtd, "late", vcpus=7)
        late = exporter.scrape()
        assert late.value("hypervisor_vcpus_used") == 2 * count + 3 + 7
        assert late.value("hypervisor_unread_guests") == 0
        wait_until(
            lambda: exporter.scrape().value("hypervisor_unsized_disks") == count, "the size of one more"
        )
        wait_until(lambda: _count_unsized_in_log(exporter) == count, "a line in the log for each")
        assert sum(is_job_held(libvirtd, name) for name in names) <= _MAX_JOBS_HELD


def test_exporters_that_come_and_go_beside_frozen_guests_leave_no_more_calls_than_one(
    libvirtd: LibvirtDaemon,
) -> None:
    """Shows that libvirtd, which keeps the calls of a client that has ended, does not run out of workers."""
    names = [f"frozen{number}" for number in range(8)]
    _start_guests(libvirtd, len(names))
    held = []
    with frozen(libvirtd, *names):
        for _ in range(_MAX_JOBS_HELD + 1):
            with _serve(libvirtd, as_nobody=True) as exporter:
                watch(exporter, libvirtd, 3)
            held.append(sum(is_job_held(libvirtd, name) for name in names))
    print(f"jobs held after each: {held}")
    assert max(held) <= _MAX_JOBS_HELD


def test_a_guest_that_is_frozen_for_longer_than_libvirt_waits_for_its_job(libvirtd: LibvirtDaemon) -> None:
    """Shows that the errors that libvirt answers after 30 s change nothing, and that each is told once."""
    _start_guests(libvirtd, 1)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with frozen_with_jobs_held(libvirtd, "frozen0"):
            taken = watch(exporter, libvirtd, 33)
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        assert [numbers(each.scrape) for each in taken] == [numbers(before.scrape)] * len(taken)
        _check_bounded(taken, before)
        assert repeated(exporter.log) == []
        _check_nothing_is_left(exporter, libvirtd, before)


def test_what_was_changed_in_a_frozen_guest_shows_when_it_goes_on(libvirtd: LibvirtDaemon) -> None:
    """Shows that a guest's numbers come up to date at once when it answers again."""
    _start_guests(libvirtd, 1)
    plugged = make_qcow2(libvirtd.images / "plugged", 5 * GIB)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with frozen_while_changed(libvirtd, "frozen0", file_disk(plugged, target="vdb")):
            taken = watch(exporter, libvirtd, _WATCH_SECONDS)
            assert _overcommitted(taken[-1].scrape) == _overcommitted(before.scrape)
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        fresh = scrape_once([_hypervisor(libvirtd)])
        assert _overcommitted(fresh) == _overcommitted(before.scrape) + _growth(libvirtd, "plugged")
        _wait_for_numbers(exporter, fresh)
        _check_nothing_is_left(exporter, libvirtd, before)


@pytest.mark.parametrize("as_nobody", [False, True], ids=["as_root", "as_nobody"])
def test_reloads_beside_frozen_guests_leave_no_more_calls_than_one_does(
    as_nobody: bool, libvirtd: LibvirtDaemon
) -> None:
    """Shows that what waits for guests is bounded for the hypervisor, whatever becomes of its settings.

    And that what was known of the guests is known after each reload.
    """
    _start_guests(libvirtd, 5)
    settings = {"cache_ttl": "0s", "resync_interval": _RESYNC, "hypervisors": [_hypervisor(libvirtd)]}
    with serve(settings, as_nobody=as_nobody) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with frozen_with_jobs_held(libvirtd, *_FIVE_HELD.names):
            watch(exporter, libvirtd, 1.5)  # whatever hangs hangs now
            taken: list[Timed] = []
            for ratio in range(2, 2 + _RELOADS):
                changed = {**_hypervisor(libvirtd), "cpu_allocation_ratio": ratio}
                exporter.reload({**settings, "hypervisors": [changed]})
                taken += watch(exporter, libvirtd, 1.5)
                assert taken[-1].scrape.value("hypervisor_allocation_ratio", resource_class="VCPU") == ratio
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        assert [numbers(each.scrape) for each in taken] == [numbers(before.scrape)] * len(taken)
        assert taken[-1].scrape.value("hypervisor_connects_total") == 1
        _check_bounded(taken, before)
        _check_nothing_is_left(exporter, libvirtd, before)
        assert "Traceback" not in exporter.log


def test_a_libvirtd_that_is_restarted_beside_a_frozen_guest_is_up_again_at_once(libvirt_cache: Path) -> None:
    """Shows that a frozen guest does not keep the new libvirtd's other guests from being told."""
    own = LibvirtDaemon(cache=libvirt_cache, settings=_OTHER_HOST)
    with own as own_libvirtd, _serve(own_libvirtd) as exporter:
        _start_guests(own_libvirtd, 1)
        before = _wait_for_sizes(exporter, own_libvirtd)
        with frozen(own_libvirtd, "frozen0"):
            own_libvirtd.restart()
            wait_until(lambda: exporter.scrape().value("hypervisor_up") == 1, "a new connection", seconds=3)
            # Node devices are read between scrapes, on a connection of their own.
            wait_until(
                lambda: exporter.scrape().series("hypervisor_unread_devices") != [], "node devices", seconds=3
            )
            taken = watch(exporter, own_libvirtd, _WATCH_SECONDS)
        check_whole(taken, before.scrape)
        assert slow(taken) == []
        for each in taken:
            assert _counts(each.scrape) == _counts(before.scrape)
        _check_bounded(taken, before)
        _wait_for_numbers(exporter, before.scrape)


# Destroyed: libvirtd itself waits, and with it everybody who wants a list of domains.


def test_a_frozen_guest_that_is_destroyed_costs_one_scrape_a_second(libvirtd: LibvirtDaemon) -> None:
    """Shows that the list is waited for once, that the last one serves, and that its age is told."""
    _start_guests(libvirtd, 1)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        start = time.time()
        with being_destroyed(libvirtd, "frozen0") as destroyer:
            taken = watch(exporter, libvirtd, 20, goes_on=destroyer.is_alive)
        seconds = time.time() - start
        assert seconds > 5, "it died at once"
        check_whole(taken, before.scrape)
        assert len(slow(taken)) <= 1
        assert max(each.undisturbed for each in taken) < _LIST_SECONDS
        listed = [each.scrape.value("hypervisor_domain_list_timestamp_seconds") for each in taken[1:-1]]
        assert max(listed) - start < 1
        _check_bounded(taken, before, list_calls=1)
        gone = scrape_once([_hypervisor(libvirtd)])
        assert gone.value("hypervisor_vcpus_used") == before.scrape.value("hypervisor_vcpus_used") - 2
        _wait_for_numbers(exporter, gone)
        assert time.time() - exporter.scrape().value("hypervisor_domain_list_timestamp_seconds") < 1
        assert repeated(exporter.log) == []
        _check_nothing_is_left(exporter, libvirtd, before)


def test_a_list_of_domains_that_is_too_old_is_told(libvirtd: LibvirtDaemon) -> None:
    """Shows that the hypervisor is up with the last list for `stale_grace`; then the host alone is known."""
    _start_guests(libvirtd, 1)
    with _serve(libvirtd, stale_grace="3s") as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        start = time.monotonic()
        with being_destroyed(libvirtd, "frozen0") as destroyer:
            early = watch(exporter, libvirtd, 2.5)
            late = watch(exporter, libvirtd, 20, goes_on=destroyer.is_alive)
        assert time.monotonic() - start > 5, "it died at once"
        assert {each.scrape.value("hypervisor_up") for each in early} == {1}
        _check_host_alone(late[-2].scrape, before.scrape)
        assert len(slow([*early, *late])) <= 1
        wait_until(lambda: exporter.scrape().value("hypervisor_up") == 1, "the list to be had", seconds=3)


def test_an_exporter_started_while_a_frozen_guest_is_destroyed_answers_and_finds_the_list_later(
    libvirtd: LibvirtDaemon,
) -> None:
    """Shows that the host's numbers come with the port, none of a guest's, and all with the list."""
    _start_guests(libvirtd, 1)
    healthy = scrape_once([_hypervisor(libvirtd)])
    with being_destroyed(libvirtd, "frozen0") as destroyer:
        started = Stopwatch()
        with _serve(libvirtd) as exporter:
            first = take(exporter, libvirtd)
            assert started.undisturbed < _COLD_SECONDS
            assert first.scrape.value("hypervisor_up") == 0
            assert first.scrape.value("hypervisor_refresh_errors_total", reason="domains") > 0
            assert first.scrape.value("hypervisor_refresh_errors_total", reason="incomplete") > 0
            assert "a guest that is being destroyed" in exporter.log
            taken = [first, *watch(exporter, libvirtd, 20, goes_on=destroyer.is_alive)]
            for each in taken[:-1]:
                _check_host_alone(each.scrape, healthy)
            wait_until(lambda: exporter.scrape().value("hypervisor_up") == 1, "the list", seconds=3)
            fresh = scrape_once([_hypervisor(libvirtd)])
            _wait_for_numbers(exporter, fresh)
            assert max(each.undisturbed for each in taken) < _LIST_SECONDS
            assert len(slow(taken)) <= 1
            assert repeated(exporter.log) == []


# All of libvirtd's ordinary workers hang in others' calls: only calls of a high priority are still served.


def test_a_libvirtd_without_a_free_worker_costs_one_scrape_a_second(libvirtd: LibvirtDaemon) -> None:
    """Shows that scrapes go on while no call is served but those of a high priority."""
    _start_guests(libvirtd, 1)
    with _serve(libvirtd) as exporter:
        before = _wait_for_sizes(exporter, libvirtd)
        with all_workers_taken(libvirtd, "frozen0"):
            taken = watch(exporter, libvirtd, 5)
        check_whole(taken, before.scrape)
        assert len(slow(taken)) <= 1
        assert max(each.undisturbed for each in taken) < _LIST_SECONDS
        _check_bounded(taken, before, list_calls=1)
        assert repeated(exporter.log) == []
        _wait_for_numbers(exporter, before.scrape)
        _check_nothing_is_left(exporter, libvirtd, before)


def test_an_exporter_started_beside_a_libvirtd_without_a_free_worker_answers(libvirtd: LibvirtDaemon) -> None:
    """Shows that the port opens all the same, and that all numbers are there once a worker is free."""
    _start_guests(libvirtd, 1)
    with _serve(libvirtd) as exporter:
        healthy = _wait_for_sizes(exporter, libvirtd)
    with ExitStack() as lasting:
        lasting.enter_context(all_workers_taken(libvirtd, "frozen0"))
        started = Stopwatch()
        with _serve(libvirtd) as exporter:
            taken = [take(exporter, libvirtd)]
            seconds = started.undisturbed
            taken += watch(exporter, libvirtd, 4)
            lasting.close()
            assert seconds < _COLD_SECONDS
            for name in _HOST_NUMBERS:
                assert taken[0].scrape.series(name), f"{name} is missing: {taken[0].scrape.log}"
            assert _guest_numbers(taken[0].scrape) == set()
            assert max(each.undisturbed for each in taken) < _LIST_SECONDS
            assert len(slow(taken)) <= 1
            _wait_for_numbers(exporter, healthy.scrape)
            assert repeated(exporter.log) == []
            _check_nothing_is_left(exporter, libvirtd, healthy)


# The exporter's own calls: an image that it may not read has to be sized all the same.


def test_an_image_that_a_pool_knows_is_sized_without_its_guest(libvirtd: LibvirtDaemon) -> None:
    """Shows that libvirt is asked for the volume, so that a frozen guest's image counts in full at once."""
    _start_guests(libvirtd, 1)
    libvirtd.define_pool("images", libvirtd.images).refresh()
    healthy = scrape_once([_hypervisor(libvirtd)])
    with frozen(libvirtd, "frozen0"), _serve(libvirtd, as_nobody=True) as exporter:
        wait_until(lambda: numbers(exporter.scrape()) == numbers(healthy), "all images' sizes", seconds=5)
        for _ in range(20):
            assert not is_job_held(libvirtd, "frozen0"), "the exporter asks the guest"
            assert exporter.scrape().value("hypervisor_hung_calls") == 0
            time.sleep(_POLL_SECONDS)


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_an_unreadable_image_takes_is_fresh_and_its_guest_is_asked_once(
    image_format: str, libvirtd: LibvirtDaemon
) -> None:
    """Shows that `stat` tells how much an image has grown, for which no right to read it is needed."""
    image = libvirtd.images / "image"
    make = make_qcow2 if image_format == "qcow2" else make_raw
    make(image, 2 * GIB).chmod(0o600)
    libvirtd.start_guest(guest_xml("frozen0", disks=[file_disk(image, format=image_format)]))
    with _serve(libvirtd, as_nobody=True) as exporter:
        wait_until(lambda: exporter.scrape().get("hypervisor_unsized_disks") == 0, "the image's size")
        with frozen(libvirtd, "frozen0"):
            for _ in range(4):
                _grow(image, 8 * MIB, keep_size=image_format == "raw")
                expected = 2 * GIB - image.stat().st_blocks * 512
                assert _overcommitted(exporter.scrape()) == expected
                time.sleep(1)  # a resync comes, and with it whatever the exporter asks again
                assert not is_job_held(libvirtd, "frozen0"), "the exporter asks the guest again"


# A guest on its way to another hypervisor: both sides hold its job until it has arrived.


@pytest.fixture
def destination(libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """Another hypervisor, which guests can be moved to: with a host UUID of its own."""
    with LibvirtDaemon(cache=libvirt_cache, settings=_OTHER_HOST) as daemon:
        yield daemon


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_guest_that_freezes_on_its_way_to_another_hypervisor_stalls_neither(
    side: str, libvirtd: LibvirtDaemon, destination: LibvirtDaemon
) -> None:
    """Shows that scrapes of both sides are whole and quick, and that both are right when it has arrived."""
    _start_guests(libvirtd, 1)
    destination.start_guest(guest_xml("there"))
    with _serve(libvirtd) as leaving, _serve(destination) as arriving:
        sides = ((leaving, libvirtd), (arriving, destination))
        before = [_wait_for_sizes(exporter, daemon) for exporter, daemon in sides]
        stopped = libvirtd if side == "source" else destination
        with migrating(libvirtd, destination, "frozen0", stopped=stopped), ThreadPoolExecutor() as watchers:
            taken = list(watchers.map(lambda side: watch(*side, _WATCH_SECONDS), sides))
        for each, like in zip(taken, before, strict=True):
            check_whole(each, like.scrape)
            assert slow(each) == []
            _check_bounded(each, like)
        for (exporter, daemon), like in zip(sides, before, strict=True):
            _wait_for_numbers(exporter, scrape_once([_hypervisor(daemon)]))
            assert repeated(exporter.log) == []
            _check_nothing_is_left(exporter, daemon, like)
        assert arriving.scrape().value("hypervisor_running_vms") == 2


_POLL_SECONDS = 0.1
_MAX_JOBS_HELD = 2  # of frozen guests, by calls for the sizes of images


def _start_guests(libvirtd: LibvirtDaemon, count: int) -> None:
    """Start guests `frozen0`, … and two more that nothing befalls; root alone may read their images."""
    for number in range(count):
        _start_guest(libvirtd, f"frozen{number}", vcpus=2)
    _start_guest(libvirtd, "well", vcpus=3)
    libvirtd.define(guest_xml("off", vcpus=4, disks=[file_disk(_make_image(libvirtd, "off"))]))


def _start_guest(libvirtd: LibvirtDaemon, name: str, *, vcpus: int) -> None:
    libvirtd.start_guest(guest_xml(name, vcpus=vcpus, disks=[file_disk(_make_image(libvirtd, name))]))


def _make_image(libvirtd: LibvirtDaemon, name: str) -> Path:
    image = make_qcow2(libvirtd.images / name, GIB)
    write(image, MIB)
    image.chmod(0o600)
    return image


def _growth(libvirtd: LibvirtDaemon, name: str) -> int:
    """Return by how much an image may still grow. Its virtual size is the last eight bytes of its header."""
    image = libvirtd.images / name
    header = image.read_bytes()[:32]
    return int.from_bytes(header[24:32], "big") - image.stat().st_blocks * 512


def _grow(image: Path, size: int, *, keep_size: bool) -> None:
    """Have the image take so many bytes more, without a word to its guest."""
    with image.open("r+b") as file:
        start = image.stat().st_blocks * 512 if keep_size else image.stat().st_size
        os.posix_fallocate(file.fileno(), start, size)


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kvm", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


@contextmanager
def _serve(libvirtd: LibvirtDaemon, *, as_nobody: bool = False, **settings: Any) -> Iterator[RunningExporter]:
    times = {"cache_ttl": "0s", "resync_interval": _RESYNC, **settings}
    with serve({**times, "hypervisors": [_hypervisor(libvirtd)]}, as_nobody=as_nobody) as exporter:
        yield exporter
        assert "Traceback" not in exporter.log


def _overcommitted(scrape: Scrape) -> float:
    return scrape.value("hypervisor_storage_overcommitted_bytes")


def _count_unsized_in_log(exporter: RunningExporter) -> int:
    exporter.scrape()
    return len({line for line in exporter.log.splitlines() if "frozen" in line and "its size is not" in line})


def _counts(scrape: Scrape) -> list[object]:
    """Return what is known even of a guest that was never read."""
    names = ("hypervisor_vcpus_used", "hypervisor_running_vms", "hypervisor_domains")
    classes = ("VCPU", "MEMORY_MB")
    return [
        *(scrape.series(name) for name in names),
        *(scrape.value("hypervisor_claimed", resource_class=each) for each in classes),
    ]


def _check_host_alone(scrape: Scrape, healthy: Scrape) -> None:
    """Check that there is all that the host itself tells, and nothing that depends on guests."""
    assert scrape.value("hypervisor_up") == 0
    assert _guest_numbers(scrape) == set()
    expected = {name for name in healthy.names if name.startswith("hypervisor_")} - GUEST_METRICS
    assert expected <= scrape.names, scrape.log
    assert set(_HOST_NUMBERS) <= expected
    for name in ("hypervisor_vcpus", "hypervisor_memory_mb", "hypervisor_capacity", "hypervisor_info"):
        assert scrape.series(name) == healthy.series(name)


def _guest_numbers(scrape: Scrape) -> set[str]:
    return scrape.names & GUEST_METRICS


def _wait_for_sizes(exporter: RunningExporter, libvirtd: LibvirtDaemon) -> Timed:
    """Scrape until all images have their sizes and nothing is under way; return the last scrape."""
    wait_until(lambda: exporter.scrape().value("hypervisor_unsized_disks") == 0, "all images' sizes")
    watch(exporter, libvirtd, 0.5)
    return take(exporter, libvirtd)


def _wait_for_numbers(exporter: RunningExporter, like: Scrape) -> None:
    """Wait until the exporter's numbers are those; events and what hung may come a moment later."""
    started = Stopwatch()
    try:
        wait_until(
            lambda: numbers(exporter.scrape()) == numbers(like), "the numbers", seconds=_CATCH_UP_SECONDS
        )
    except TimeoutError:
        assert numbers(exporter.scrape()) == numbers(like), exporter.log
    print(f"up to date {started.seconds:.2f} s later")


def _check_bounded(taken: list[Timed], before: Timed, *, list_calls: int = 0) -> None:
    """Check that what hangs is bounded: in calls, in threads, and in connections.

    :param list_calls: how many calls for the list of domains may hang beside those for guests
    """
    allowed = _MAX_OUTSTANDING + list_calls
    hung = [each.scrape.value("hypervisor_hung_calls") for each in taken]
    assert max(hung) <= allowed
    # What is under way for the scrape itself comes and goes; so do the threads kept for the next call.
    assert max(each.threads for each in taken) <= before.threads + allowed + MAX_IDLE_THREADS
    assert max(each.connections for each in taken) <= _MAX_CONNECTIONS


def _check_nothing_is_left(exporter: RunningExporter, libvirtd: LibvirtDaemon, before: Timed) -> None:
    """Check that what hung has ended: calls, threads and connections, except those kept for the next call."""
    wait_until(lambda: exporter.scrape().value("hypervisor_hung_calls") == 0, "hung calls to end")
    kept = before.threads + MAX_IDLE_THREADS
    wait_until(lambda: count_threads(exporter) <= kept, "their threads to end")
    print(f"{count_connections(libvirtd)} connections are kept, {before.connections} before")
    assert count_connections(libvirtd) <= _KEPT_CONNECTIONS

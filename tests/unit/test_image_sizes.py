"""Sizes that libvirt knows of images which this process cannot read: whom it is asked, when, what is kept."""

from __future__ import annotations

import pytest

from exporter.errors import ConnectionLostError, HypervisorError
from exporter.model import DomainInfo, ImageSize, UnsizedImage
from exporter.virt.guests.calls import GuestCalls, GuestJob
from exporter.virt.guests.disks import UnopenedImage
from exporter.virt.sources.images import (
    ASK_GUEST_AGAIN_SECONDS,
    LOOK_AGAIN_SECONDS,
    MAX_HUNG_GUESTS,
    MAX_HUNG_RUNNING_GUESTS,
    RETRY_GUEST_SECONDS,
    RETRY_SECONDS,
    ImageSizes,
    WantedImage,
)
from exporter.virt.storage.volumes import VolumeSizes
from tests.support.hosts import Clock, make_settings
from tests.support.records import GIB, make_disk
from tests.support.waiting_libvirt import WaitingLibvirt

VDA, VDB = make_disk(target="vda"), make_disk(target="vdb", path="/images/other")
REMOTE = WantedImage(VDA, None)
SIZE = ImageSize(virtual_bytes=8 * GIB, allocated_bytes=GIB)
MAX_AGE = 300.0


def seen(allocated: int = 0, *, inode: int = 1) -> WantedImage:
    """Return the image as a process sees it that may not open it."""
    return WantedImage(VDA, UnopenedImage(allocated, (1, inode)))


class Bench:
    """Sizes, with libvirt and the clock at hand."""

    def __init__(self) -> None:
        self.libvirt, self.clock = WaitingLibvirt(), Clock()
        calls = GuestCalls(self.libvirt.make_connections(self.clock), clock=self.clock)
        volumes = VolumeSizes(self.libvirt.make_connections(self.clock))
        self.calls = calls
        self.sizes = ImageSizes(calls, volumes, make_settings(), clock=self.clock)

    def run(self, *uuids: str) -> None:
        """Let these guests be active, and let their processes use some CPU time."""
        for uuid in uuids:
            info = self.libvirt.info.get(uuid)
            cpu_time_ns = info.cpu_time_ns if isinstance(info, DomainInfo) else 0
            self.libvirt.info[uuid] = DomainInfo(
                vcpus=1, memory_kib=1, maximum_memory_kib=1, cpu_time_ns=cpu_time_ns + 10_000_000
            )

    def asked_for_sizes(self) -> set[str]:
        """Read what is due, and return the guests that were asked for sizes of images."""
        return {uuid for call, uuid in self.read() if call == "block"}

    def read(self) -> list[tuple[str, str]]:
        """Read what is due, and return what was asked for that."""
        self.libvirt.take_asked()
        self.sizes.read()
        return self.libvirt.take_asked()


def test_nothing_is_known_before_it_was_asked() -> None:
    bench = Bench()
    assert not bench.sizes.needs_reading()
    bench.sizes.want({"a": [REMOTE]})
    assert bench.sizes.needs_reading()
    assert bench.sizes.get("a", REMOTE) == UnsizedImage(None)


def test_a_storage_volume_is_asked_before_the_guest() -> None:
    """Shows that the guest's monitor is left alone where a storage pool has the image."""
    bench = Bench()
    bench.libvirt.volumes[str(VDA.path)] = SIZE
    bench.sizes.want({"a": [REMOTE]})
    assert bench.read() == [("volume", str(VDA.path))]
    assert bench.sizes.get("a", REMOTE) == SIZE


def test_without_a_volume_the_guest_is_asked() -> None:
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    bench.sizes.want({"a": [REMOTE]})
    looks = [("busy", "a"), ("info", "a")]
    assert bench.read() == [("volume", str(VDA.path)), *looks, ("block", "a")]
    assert bench.sizes.get("a", REMOTE) == SIZE


def test_what_is_allocated_is_what_this_process_sees_now() -> None:
    """Shows that a growing image shows on each scrape, and its guest is not asked again for an hour."""
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    bench.sizes.want({"a": [seen(100)]})
    bench.read()
    assert bench.sizes.get("a", seen(200)) == ImageSize(virtual_bytes=8 * GIB, allocated_bytes=200)
    bench.clock.now += ASK_GUEST_AGAIN_SECONDS
    assert not bench.sizes.needs_reading()
    bench.clock.now += 1
    assert bench.sizes.needs_reading()


def test_another_file_or_another_disk_is_asked_for_again() -> None:
    bench = Bench()
    bench.libvirt.blocks = {"vda": SIZE, "vdb": SIZE}
    bench.sizes.want({"a": [seen()]})
    bench.read()
    other = seen(inode=2)
    bench.sizes.want({"a": [other]})
    assert bench.sizes.get("a", other) == UnsizedImage(None)
    assert ("block", "a") in bench.read()
    assert bench.sizes.get("a", other).virtual_bytes == 8 * GIB  # type: ignore[union-attr]
    moved = WantedImage(VDB, other.seen)
    bench.sizes.want({"a": [moved]})
    assert bench.sizes.get("a", moved) == UnsizedImage(None)
    assert bench.sizes.needs_reading()


@pytest.mark.parametrize(
    ("volume", "image"),
    [(True, REMOTE), (True, seen()), (False, REMOTE)],
    ids=["remote volume", "volume", "guest"],
)
def test_what_may_change_unseen_is_asked_for_again_in_time(volume: bool, image: WantedImage) -> None:
    bench = Bench()
    if volume:
        bench.libvirt.volumes[str(VDA.path)] = SIZE
    bench.libvirt.blocks["vda"] = SIZE
    bench.sizes.want({"a": [image]})
    bench.read()
    bench.clock.now += MAX_AGE
    assert not bench.sizes.needs_reading()
    bench.clock.now += 1
    assert bench.sizes.needs_reading()
    bench.sizes.configure(make_settings(resync_interval=2))
    bench.read()
    bench.clock.now += 11
    assert bench.sizes.needs_reading()


def test_an_error_is_told_and_tried_again_later() -> None:
    bench = Bench()
    bench.libvirt.blocks["vda"] = HypervisorError("no such file")
    bench.sizes.want({"a": [REMOTE]})
    bench.read()
    assert bench.sizes.get("a", REMOTE) == UnsizedImage("disk vda: no such file")
    assert not bench.sizes.needs_reading()
    bench.libvirt.blocks["vda"] = SIZE
    bench.clock.now += RETRY_SECONDS + 1
    bench.read()
    assert bench.sizes.get("a", REMOTE) == SIZE


def test_a_guest_that_does_not_answer_is_left_alone_for_a_while_and_keeps_what_was_known() -> None:
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    bench.sizes.want({"a": [REMOTE], "b": [REMOTE]})
    bench.read()
    bench.clock.now += MAX_AGE + 1
    bench.libvirt.blocks["vda"] = ImageSize(virtual_bytes=9 * GIB, allocated_bytes=0)
    with bench.libvirt.held("block a"):
        bench.read()
        assert bench.sizes.get("a", REMOTE) == SIZE
        assert bench.sizes.get("b", REMOTE).virtual_bytes == 9 * GIB  # type: ignore[union-attr]
        assert not bench.sizes.needs_reading()
    bench.clock.now += RETRY_GUEST_SECONDS + 1
    bench.read()
    assert bench.sizes.get("a", REMOTE).virtual_bytes == 9 * GIB  # type: ignore[union-attr]


def test_what_is_wanted_no_longer_is_forgotten() -> None:
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    bench.sizes.want({"a": [REMOTE]})
    bench.read()
    bench.sizes.want({})
    bench.sizes.want({"a": [REMOTE]})
    assert bench.sizes.get("a", REMOTE) == UnsizedImage(None)


def test_a_lost_connection_is_an_error() -> None:
    bench = Bench()
    bench.libvirt.blocks["vda"] = ConnectionLostError("closed")
    bench.sizes.want({"a": [REMOTE]})
    with pytest.raises(ConnectionLostError):
        bench.sizes.read()


# Guests that are frozen: few may be asked, whoever is still waiting for them.


def test_few_guests_hang_however_many_are_frozen_and_those_that_run_are_sized_all_the_same() -> None:
    """Shows that calls for XML have connections left, and that what is not known is told."""
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    frozen = [f"frozen{number}" for number in range(8)]
    bench.run("well", "idle", *frozen)
    bench.sizes.want({uuid: [REMOTE] for uuid in (*frozen, "well", "idle")})
    with bench.libvirt.held(*(f"block {uuid}" for uuid in frozen)):
        asked = bench.asked_for_sizes()
        assert len(asked) == MAX_HUNG_GUESTS
        assert bench.calls.hung == MAX_HUNG_GUESTS
        assert bench.sizes.get("well", REMOTE) == UnsizedImage(None)
        bench.libvirt.busy = asked
        bench.clock.now += LOOK_AGAIN_SECONDS + 1
        bench.run("well")
        assert bench.asked_for_sizes() == {"well"}
        assert bench.sizes.get("well", REMOTE) == SIZE
        not_asked = bench.sizes.get("idle", REMOTE)
        assert isinstance(not_asked, UnsizedImage)
        assert "not seen to run" in str(not_asked.reason)
        bench.clock.now += RETRY_GUEST_SECONDS + 1
        assert bench.asked_for_sizes() == set()
        hung = bench.sizes.get(min(asked), REMOTE)
        assert isinstance(hung, UnsizedImage)
        assert "the guest does not answer" in str(hung.reason)
        assert bench.calls.hung == MAX_HUNG_GUESTS
    bench.libvirt.busy = set()
    bench.clock.now += RETRY_GUEST_SECONDS + 1
    bench.read()
    assert {bench.sizes.get(uuid, REMOTE) for uuid in (*frozen, "idle")} == {SIZE}


def test_guests_that_hang_because_of_others_leave_fewer_to_this_process() -> None:
    """Shows that the calls of exporters that have ended, which libvirtd keeps, count as well."""
    bench = Bench()
    frozen = [f"frozen{number}" for number in range(8)]
    bench.run(*frozen)
    bench.sizes.want({uuid: [REMOTE] for uuid in frozen})
    bench.libvirt.busy = set(frozen[-MAX_HUNG_GUESTS:])
    assert bench.asked_for_sizes() == set()


def test_guests_that_hang_count_even_if_nothing_is_known_of_their_images() -> None:
    """Shows the same for guests whose XML could not be had: which images they have, nobody knows."""
    bench = Bench()
    unread = [f"unread{number}" for number in range(MAX_HUNG_GUESTS)]
    bench.run("a", *unread)
    bench.libvirt.busy = set(unread)
    jobs = [GuestJob(uuid=uuid, kind="XML", ask=lambda _: None, is_first=True) for uuid in unread]
    assert bench.calls.ask(jobs, seconds=20).slow == set(unread)
    bench.sizes.want({"a": [REMOTE]})
    assert bench.asked_for_sizes() == set()
    bench.libvirt.busy = set()
    bench.clock.now += LOOK_AGAIN_SECONDS + 1
    assert bench.asked_for_sizes() == {"a"}


def test_a_guest_that_froze_since_it_was_seen_to_run_takes_no_more_than_one_further_call() -> None:
    bench = Bench()
    guests = [f"guest{number}" for number in range(8)]
    bench.run(*guests)
    bench.sizes.want({uuid: [REMOTE] for uuid in guests})
    with bench.libvirt.held(*(f"block {uuid}" for uuid in guests)):
        bench.read()
        bench.clock.now += RETRY_GUEST_SECONDS + 1
        bench.run(*guests)
        bench.read()
        assert bench.calls.hung == MAX_HUNG_RUNNING_GUESTS
        bench.clock.now += RETRY_GUEST_SECONDS + 1
        bench.run(*guests)
        assert bench.asked_for_sizes() == set()


def test_what_is_known_is_asked_again_only_of_a_guest_that_is_seen_to_run() -> None:
    """Shows that a guest that froze since keeps its job, and its last size counts."""
    bench = Bench()
    bench.libvirt.blocks["vda"] = SIZE
    bench.run("a")
    bench.sizes.want({"a": [REMOTE]})
    bench.read()
    bench.clock.now += MAX_AGE + 1
    bench.run("a")
    assert bench.asked_for_sizes() == set(), "it ran since, which may be long ago"
    bench.clock.now += LOOK_AGAIN_SECONDS + 1
    assert bench.asked_for_sizes() == set()
    assert bench.sizes.get("a", REMOTE) == SIZE
    bench.clock.now += RETRY_SECONDS
    assert not bench.sizes.needs_reading(), "a guest that is paused is not looked at every second"
    bench.clock.now += 1
    assert bench.asked_for_sizes() == set()
    bench.clock.now += LOOK_AGAIN_SECONDS + 1
    bench.run("a")
    assert bench.asked_for_sizes() == {"a"}

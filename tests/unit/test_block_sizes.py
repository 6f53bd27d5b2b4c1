"""Sizes that libvirt tells, guest by guest: what is asked, when, and what is kept."""

from __future__ import annotations

import threading

import pytest

from exporter.errors import ConnectionLostError, GoneError, HypervisorError
from exporter.model import ImageSize, UnsizedImage
from exporter.virt.block_sizes import BlockSizes
from tests.support.hosts import Clock
from tests.support.records import GIB, make_disk
from tests.support.waiting import wait_until

VDA, VDB = make_disk(target="vda"), make_disk(target="vdb", path="/images/other")


class BlockHypervisor:
    """Answers 1 GiB for everything, or what `answers` has for a target."""

    def __init__(self, **answers: Exception) -> None:
        self.answers = answers
        self.calls = 0
        self.asked: list[tuple[str, str]] = []
        self.is_closed = False
        self.others: list[BlockHypervisor] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def another(self) -> BlockHypervisor:
        self.others.append(BlockHypervisor())
        return self.others[-1]

    def connect(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        self.calls += 2
        self.asked.append((uuid, target))
        self.may_answer.wait(20)
        if target in self.answers:
            raise self.answers[target]
        return ImageSize(virtual_bytes=GIB, allocated_bytes=0)


def make_sizes(hypervisor: BlockHypervisor, *, clock: Clock | None = None) -> BlockSizes:
    return BlockSizes(hypervisor, max_age=300, clock=clock or Clock())


def test_nothing_is_known_before_it_was_asked() -> None:
    sizes = make_sizes(BlockHypervisor())
    sizes.want({"a": [VDA]})
    assert sizes.get("a", VDA) == UnsizedImage(None)
    assert sizes.next_guest(()) == "a"


def test_a_guest_is_asked_for_all_its_disks_once() -> None:
    hypervisor = BlockHypervisor()
    sizes = make_sizes(hypervisor)
    sizes.want({"a": [VDA, VDB], "b": [VDA]})
    sizes.size_guest("a")
    assert hypervisor.asked == [("a", "vda"), ("a", "vdb")]
    assert sizes.get("a", VDB) == ImageSize(virtual_bytes=GIB, allocated_bytes=0)
    assert sizes.next_guest(()) == "b"
    assert sizes.next_guest({"b"}) is None
    assert sizes.calls == 4


def test_a_size_is_asked_for_again_when_it_is_too_old() -> None:
    clock = Clock()
    sizes = make_sizes(BlockHypervisor(), clock=clock)
    sizes.want({"a": [VDA]})
    sizes.size_guest("a")
    clock.now += 300
    assert sizes.next_guest(()) is None
    clock.now += 1
    assert sizes.next_guest(()) == "a"
    assert isinstance(sizes.get("a", VDA), ImageSize), "until then the old one is as good as any"


def test_another_image_at_the_same_target_is_not_known() -> None:
    """Shows that a disk that was swapped is not counted by what was said of the one before it."""
    sizes = make_sizes(BlockHypervisor())
    sizes.want({"a": [VDA]})
    sizes.size_guest("a")
    swapped = make_disk(target="vda", path="/images/swapped")
    sizes.want({"a": [swapped]})
    assert sizes.get("a", swapped) == UnsizedImage(None)
    assert sizes.next_guest(()) == "a"


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    sizes = make_sizes(BlockHypervisor())
    sizes.want({"a": [VDA]})
    sizes.size_guest("a")
    sizes.want({})
    assert sizes.next_guest(()) is None
    sizes.want({"a": [VDA]})
    assert sizes.get("a", VDA) == UnsizedImage(None)


@pytest.mark.parametrize("error", [GoneError("no domain"), HypervisorError("cannot stat")])
def test_a_disk_that_cannot_be_told_is_unsized_with_the_reason_and_the_others_are_told(
    error: Exception,
) -> None:
    sizes = make_sizes(BlockHypervisor(vda=error))
    sizes.want({"a": [VDA, VDB]})
    sizes.size_guest("a")
    assert sizes.get("a", VDA) == UnsizedImage(f"disk vda: {error}")
    assert isinstance(sizes.get("a", VDB), ImageSize)
    assert sizes.next_guest(()) is None


def test_a_lost_connection_is_no_answer() -> None:
    sizes = make_sizes(BlockHypervisor(vda=ConnectionLostError("closed")))
    sizes.want({"a": [VDA]})
    with pytest.raises(ConnectionLostError):
        sizes.size_guest("a")
    assert sizes.next_guest(()) == "a"


def test_it_closes_its_own_connection() -> None:
    hypervisor = BlockHypervisor()
    make_sizes(hypervisor).close()
    assert hypervisor.is_closed


def test_a_guest_that_does_not_answer_keeps_its_connection_and_the_next_gets_another() -> None:
    """Shows that no two threads are ever in calls on one connection, and that connections are used again."""
    hypervisor = BlockHypervisor()
    sizes = make_sizes(hypervisor)
    sizes.want({"frozen": [VDA], "a": [VDA], "b": [VDA]})
    hypervisor.may_answer.clear()
    frozen = threading.Thread(target=sizes.size_guest, args=["frozen"])
    frozen.start()
    wait_until(lambda: hypervisor.asked, "the frozen guest to be asked for")
    sizes.size_guest("a")
    sizes.size_guest("b")
    hypervisor.may_answer.set()
    frozen.join(timeout=20)
    assert hypervisor.asked == [("frozen", "vda")]
    assert [other.asked for other in hypervisor.others] == [[("a", "vda"), ("b", "vda")]]
    assert sizes.calls == 6
    sizes.close()
    assert hypervisor.is_closed
    assert hypervisor.others[0].is_closed

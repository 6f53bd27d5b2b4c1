"""Reads that hang: what is given up, what is remembered, and what is asked again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.virt.files import Hung, PatientReader, find_mount
from tests.support.waiting import wait_until

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /dead rw - nfs4 server:/export rw
24 22 0:41 / /dead/alive rw - tmpfs tmpfs rw
25 22 0:42 / /with\\040blank\\134 rw - tmpfs tmpfs rw
"""


class Files:
    """Files, some of which hang until they are thawed."""

    def __init__(self, *hanging: str) -> None:
        self.hanging = set(hanging)
        self.reads: list[str] = []
        self.thawed = threading.Event()

    def read(self, path: str) -> str:
        self.reads.append(path)
        if path in self.hanging:
            self.thawed.wait(20)
        return f"content of {path}"


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    return path


@pytest.fixture
def files() -> Iterator[Files]:
    """Files of which /dead/1 to /dead/9 hang; in the end no thread is left."""
    files = Files(*(f"/dead/{number}" for number in range(1, 10)))
    yield files
    files.thawed.set()


def make_reader(files: Files, mountinfo: Path) -> PatientReader[str, str]:
    return PatientReader(files.read, path=lambda path: path, patience=0.3, mountinfo=mountinfo)


def test_files_that_answer_are_read_in_their_order(files: Files, mountinfo: Path) -> None:
    reader = make_reader(files, mountinfo)
    assert reader.run(["/b", "/a", "/b"]) == ["content of /b", "content of /a", "content of /b"]
    assert reader.run([]) == []


def test_one_that_hangs_costs_itself_only(files: Files, mountinfo: Path) -> None:
    reader = make_reader(files, mountinfo)
    assert reader.run(["/a", "/dead/1", "/b"]) == ["content of /a", Hung("/dead/1"), "content of /b"]
    assert reader.hung == 1


def test_one_that_hangs_is_not_asked_again_before_it_has_answered(files: Files, mountinfo: Path) -> None:
    """Shows that a hung file costs one thread, and that what it said in the end is not taken for news."""
    reader = make_reader(files, mountinfo)
    for _ in range(3):
        assert reader.run(["/dead/1"]) == [Hung("/dead/1")]
    assert files.reads == ["/dead/1"]
    files.thawed.set()
    wait_until(lambda: reader.hung == 0, "the read to end")
    assert reader.run(["/dead/1"]) == ["content of /dead/1"]


def test_after_two_that_hang_their_mount_is_left_out(files: Files, mountinfo: Path) -> None:
    """Shows that a thousand images on a dead mount cost two waits; other mounts are still read."""
    reader = make_reader(files, mountinfo)
    keys = [*(f"/dead/{number}" for number in range(1, 10)), "/a", "/dead/alive/1"]
    expected = [*(Hung(f"/dead/{number}") for number in range(1, 10)), "content of /a"]
    assert reader.run(keys) == [*expected, "content of /dead/alive/1"]
    assert files.reads == ["/dead/1", "/dead/2", "/a", "/dead/alive/1"]
    assert reader.hung == 2


def test_what_is_mounted_in_place_of_a_dead_mount_is_read(files: Files, mountinfo: Path) -> None:
    """Shows that reads that hang for ever, on a server that is gone, do not outlive their mount."""
    reader = make_reader(files, mountinfo)
    keys = ["/dead/1", "/dead/2", "/dead/3"]
    assert reader.run(keys) == [Hung(key) for key in keys]
    mountinfo.write_text(MOUNTINFO.replace("23 22 0:40", "31 22 0:50"))
    files.hanging = set()
    assert reader.run(keys) == [f"content of {key}" for key in keys]
    assert reader.hung == 2, "whose threads are there still"
    files.hanging = {"/dead/1"}
    assert reader.run(keys) == [Hung("/dead/1"), "content of /dead/2", "content of /dead/3"]


def test_what_a_read_raises_is_raised(mountinfo: Path) -> None:
    def fail(path: str) -> str:
        raise FileNotFoundError(path)

    reader = PatientReader(fail, path=str, patience=20, mountinfo=mountinfo)
    with pytest.raises(FileNotFoundError, match="/a"):
        reader.run(["/a"])


def test_a_mount_point_that_is_no_text_does_no_harm(files: Files, mountinfo: Path) -> None:
    mountinfo.write_bytes(b"26 22 0:43 / /\xff\xfe rw - tmpfs tmpfs rw\n" + mountinfo.read_bytes())
    assert make_reader(files, mountinfo).run(["/dead/1"]) == [Hung("/dead/1")]
    assert make_reader(files, mountinfo).run(["/a"]) == ["content of /a"]


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/a", "/"),
        ("/dead", "/dead"),
        ("/dead/1", "/dead"),
        ("/deadly", "/"),
        ("/dead/alive/1", "/dead/alive"),
        ("/with blank\\/x", "/with blank\\"),
        ("relative", "/"),
    ],
)
def test_a_path_lies_under_the_longest_mount_point_that_holds_it(path: str, mount: str) -> None:
    assert find_mount(path, MOUNTINFO).point == mount


def test_of_two_mounts_on_one_point_the_later_one_covers_the_other() -> None:
    assert find_mount("/dead/1", MOUNTINFO + "31 23 0:50 / /dead rw - tmpfs tmpfs rw\n").number == "31"

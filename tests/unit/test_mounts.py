"""Which mount a path lies on."""

from __future__ import annotations

import pytest

from exporter.virt.mounts import Mount, Mounts

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /dead rw - nfs4 server:/export rw
24 22 0:41 / /dead/alive rw - tmpfs tmpfs rw
25 22 0:42 / /with\\040blank\\134 rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/a", "/"),
        ("/", "/"),
        ("/dead", "/dead"),
        ("/dead/", "/dead"),
        ("/dead/1", "/dead"),
        ("/deadly", "/"),
        ("/dead/alive/1", "/dead/alive"),
        ("/with blank\\/x", "/with blank\\"),
        ("relative", "/"),
        ("", "/"),
    ],
)
def test_a_path_lies_under_the_longest_mount_point_that_holds_it(path: str, point: str) -> None:
    assert Mounts(MOUNTINFO).find(path).point == point


def test_of_two_mounts_on_one_point_the_later_one_covers_the_other() -> None:
    mounts = Mounts(MOUNTINFO + "31 23 0:50 / /dead rw - tmpfs tmpfs rw\n")
    assert mounts.find("/dead/1").number == "31"
    assert Mount("31", "/dead") in mounts
    assert Mount("23", "/dead") not in mounts


def test_where_nothing_is_known_all_lies_on_one_mount() -> None:
    assert Mounts("").find("/a") == Mounts("").find("/b/c")


def test_an_odd_line_costs_that_line() -> None:
    """And a path may have any character but those that the kernel escapes."""
    mounts = Mounts(
        "22 1 0:20 / / rw - ext4 /dev/a rw\n\n23\n24 22 0:21 /\n"
        "25 22 0:22 / /a\u00a0b\u2028c rw - ext4 /dev/b rw\n26 22 0:23"
    )
    assert mounts.find("/etc").number == "22"
    assert mounts.find("/a\u00a0b\u2028c/d").number == "25"

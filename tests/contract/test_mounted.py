"""Which mount holds a path: links, bind mounts, and mounts that hide others. It needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.virt.storage.mounted import read_mounted
from tests.support.network_mounts import mount_tmpfs
from tests.support.sandbox import run

SOURCE = "hx-served"  # of what `mount_tmpfs` mounts


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A small file system with a folder in it."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with mount_tmpfs(tmp_path / "served", mebibytes=16):
        (tmp_path / "served" / "folder").mkdir()
        yield tmp_path / "served"


def get_source(path: Path) -> str:
    mounted = read_mounted(str(path))
    assert mounted is not None
    major, minor = map(int, mounted.file_system.device.split(":"))
    assert path.stat().st_dev == os.makedev(major, minor)
    return mounted.file_system.source


def test_a_folder_and_a_link_to_it_lie_on_its_mount(tmpfs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmpfs / "folder")
    assert get_source(tmpfs) == get_source(tmpfs / "folder") == get_source(tmp_path / "link") == SOURCE
    assert get_source(tmp_path) != SOURCE


def test_a_bind_mount_is_what_it_shows(tmpfs: Path, tmp_path: Path) -> None:
    bound = tmp_path / "bound"
    bound.mkdir()
    run(["mount", "--bind", str(tmpfs / "folder"), str(bound)])
    try:
        assert get_source(bound) == SOURCE
    finally:
        run(["umount", str(bound)])


def test_a_mount_that_another_one_hides_holds_nothing(tmp_path: Path, tmpfs: Path) -> None:
    """mountinfo still has it, with the longer mount point."""
    upper = tmp_path / "upper"
    hidden = upper / "point"
    hidden.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "hx-hidden", str(hidden)])
    run(["mount", "-t", "tmpfs", "hx-upper", str(upper)])
    try:
        hidden.mkdir()
        assert get_source(hidden) == "hx-upper"
    finally:
        for _ in range(2):
            subprocess.run(["umount", "--lazy", str(upper)], capture_output=True, check=False, timeout=30)
            subprocess.run(["umount", "--lazy", str(hidden)], capture_output=True, check=False, timeout=30)

"""Where a hypervisor's storage is measured: the file system of its instances path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.virt.storage.file_system import StorageError, find_instances_path, get_instances_info


def test_an_instances_path_is_measured_as_the_file_system_it_is_on(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert get_instances_info(str(tmp_path)).size_bytes == status.f_frsize * status.f_blocks


def test_a_default_path_that_cannot_be_reached_is_not_replaced_and_the_reason_is_said(tmp_path: Path) -> None:
    """It may be Nova's. What may not be entered fails as a name that is too long does, also for root."""
    out_of_reach = str(tmp_path / ("x" * 300))
    defaults = (str(tmp_path / "missing"), out_of_reach, str(tmp_path))
    assert find_instances_path(None, defaults=defaults) == out_of_reach
    with pytest.raises(StorageError, match="File name too long"):
        get_instances_info(out_of_reach)
    file = tmp_path / "file"
    file.touch()
    assert find_instances_path(None, defaults=(str(file), str(file / "x"), str(tmp_path))) == str(tmp_path)


def test_a_configured_path_is_never_replaced(tmp_path: Path) -> None:
    """Another file system's numbers would be wrong without a word."""
    missing = str(tmp_path / "missing")
    assert find_instances_path(missing) == missing
    with pytest.raises(StorageError) as error:
        get_instances_info(missing)
    assert str(error.value) == f"instances_path {missing}: No such file or directory"

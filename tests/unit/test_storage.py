"""Where a hypervisor's storage is measured: the file system of its instances path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.virt.storage.file_system import StorageError, find_instances_path, get_instances_info


def test_an_instances_path_is_measured_as_the_file_system_it_is_on(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert get_instances_info(str(tmp_path)).size_bytes == status.f_frsize * status.f_blocks


def test_a_configured_path_is_never_replaced(tmp_path: Path) -> None:
    """Another file system's numbers would be wrong without a word."""
    missing = str(tmp_path / "missing")
    assert find_instances_path(missing) == missing
    with pytest.raises(StorageError) as error:
        get_instances_info(missing)
    assert str(error.value) == f"instances_path {missing}: No such file or directory"

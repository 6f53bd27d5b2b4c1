"""Where a hypervisor's storage is measured: its pools, or the file system of its instances path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.model import Storage, StoragePool
from exporter.virt.storage import StorageError, find_instances_path, get_instances_info, get_pools_info
from tests.support.records import make_pool

VMS = make_pool("vms", capacity_bytes=100, allocation_bytes=30, available_bytes=60)
FAST = make_pool("fast", capacity_bytes=20, allocation_bytes=5, available_bytes=15)
ISOS = make_pool("isos", capacity_bytes=7, allocation_bytes=7, available_bytes=0)


def test_the_one_active_pool_is_it() -> None:
    assert get_pools_info([VMS], []) == Storage(size_bytes=100, used_bytes=30, free_bytes=60)


def test_of_several_the_configured_one_is_it() -> None:
    assert get_pools_info([VMS, FAST, ISOS], ["fast"]) == Storage(size_bytes=20, used_bytes=5, free_bytes=15)


def test_several_configured_ones_add_up() -> None:
    storage = get_pools_info([VMS, FAST, ISOS], ["vms", "fast"])
    assert storage == Storage(size_bytes=120, used_bytes=35, free_bytes=75)


@pytest.mark.parametrize(
    ("active", "configured", "message"),
    [
        (
            [VMS, FAST],
            [],
            "storage_pool is not set, and there is not exactly one active pool (active: fast, vms)",
        ),
        ([], [], "storage_pool is not set, and there is not exactly one active pool (active: none)"),
        ([VMS], ["slow"], "storage_pool slow: no such active pool (active: vms)"),
        ([VMS, FAST], ["a", "vms", "b"], "storage_pool a, b: no such active pool (active: fast, vms)"),
        ([], ["vms"], "storage_pool vms: no such active pool (active: none)"),
    ],
)
def test_what_is_not_clear_is_an_error_that_names_the_pools(
    active: list[StoragePool], configured: list[str], message: str
) -> None:
    with pytest.raises(StorageError) as error:
        get_pools_info(active, configured)
    assert str(error.value) == message


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

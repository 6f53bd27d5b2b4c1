"""Which storage counts where there is no file system to look at: the one active pool, or those configured."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from exporter.virt.storage.file_system import get_fs_info
from tests.contract.worlds import pool_xml
from tests.support.embedding import serve_test_driver
from tests.support.exporter_process import Scrape, scrape_once
from tests.support.libvirtd import LibvirtDaemon
from tests.support.records import MIB

POOL_GB = 100  # of any pool of libvirt's test driver


def scrape_with(pools: list[str], **hypervisor: object) -> Scrape:
    """Return a scrape of libvirt's test driver with these active pools."""
    settings = {"cache_ttl": "0s", "hypervisors": [{"name": "kvm01", "uri": "test:///default", **hypervisor}]}
    with serve_test_driver(settings) as embedding:
        for pool in pools:
            embedding.perform("define_pool", pool_xml(pool, Path("/", pool)))
        return embedding.exporter.scrape()


@pytest.mark.parametrize(
    ("pools", "configured", "gb"),
    [
        (["vms"], None, POOL_GB),
        (["vms", "isos"], "vms", POOL_GB),
        (["vms", "fast", "isos"], ["vms", "fast"], 2 * POOL_GB),
    ],
    ids=["the one active pool", "the one configured", "all that are configured"],
)
def test_it_is_clear_which_pools_count(pools: list[str], configured: object, gb: int) -> None:
    scrape = scrape_with(pools, storage_pool=configured)
    assert scrape.value("hypervisor_up") == 1
    assert scrape.value("hypervisor_local_gb") == gb


@pytest.mark.parametrize(
    ("pools", "configured", "message"),
    [
        (
            ["vms", "isos"],
            None,
            "storage_pool is not set, and there is not exactly one active pool (active: isos, vms)",
        ),
        ([], None, "storage_pool is not set, and there is not exactly one active pool (active: none)"),
        (["vms"], "fast", "storage_pool fast: no such active pool (active: "),
    ],
    ids=["several active", "none active", "another one configured"],
)
def test_where_it_is_not_clear_only_the_disk_numbers_are_missing(
    pools: list[str], configured: object, message: str
) -> None:
    """And the error names the pools, so that it need not be looked for."""
    scrape = scrape_with(pools, storage_pool=configured)
    assert message in scrape.log
    assert "local_gb, local_gb_used" in scrape.log
    assert scrape.value("hypervisor_up") == 0
    assert scrape.value("hypervisor_refresh_errors_total", reason="storage") >= 1
    assert scrape.names.isdisjoint({"hypervisor_local_gb", "hypervisor_disk_available_least"})
    assert scrape.value("hypervisor_vcpus") == 3


def test_a_remote_hypervisors_one_pool_is_its_storage(libvirtd: LibvirtDaemon) -> None:
    """Of a real libvirtd over TCP; this machine's own directories are none of it."""
    pool = libvirtd.define_pool("vms", libvirtd.images)
    _state, capacity, allocation, available = pool.info()
    scrape = scrape_once([{"uri": libvirtd.uri_tcp, "instances_path": "/nonexistent"}])
    assert scrape.exit_status == 0, scrape.log
    assert scrape.value("hypervisor_storage_size_bytes") == capacity
    assert scrape.value("hypervisor_storage_used_bytes") == allocation
    assert scrape.value("hypervisor_storage_free_bytes") == available


def test_a_pools_numbers_are_as_old_as_its_last_refresh_which_no_read_only_client_can_cause(
    libvirtd: LibvirtDaemon,
) -> None:
    """Of a file that was written since; libvirt refuses before it asks whether the client is root."""
    pool = libvirtd.define_pool("vms", libvirtd.images)
    before = pool.info()
    (libvirtd.images / "file").write_bytes(bytes(16 * MIB))
    old = scrape_once([{"uri": libvirtd.uri, "storage_pool": "vms"}])
    read_only = libvirt.openReadOnly(libvirtd.uri)
    with pytest.raises(libvirt.libvirtError, match="read only access") as refused:
        read_only.storagePoolLookupByName("vms").refresh()
    assert refused.value.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED
    read_only.close()
    pool.refresh()
    new = scrape_once([{"uri": libvirtd.uri, "storage_pool": "vms"}])
    name = "hypervisor_storage_used_bytes"
    assert (old.value(name), new.value(name)) == (before[2], pool.info()[2])
    assert new.value(name) != old.value(name)


def test_a_pool_may_be_configured_for_this_machine_too(libvirtd: LibvirtDaemon) -> None:
    """It then replaces the instances path, which need not even be there."""
    libvirtd.define_pool("vms", libvirtd.images)
    libvirtd.define_pool("isos", libvirtd.images.parent)
    scrape = scrape_once([{"uri": libvirtd.uri, "instances_path": "/nonexistent", "storage_pool": "vms"}])
    assert scrape.exit_status == 0, scrape.log
    assert scrape.value("hypervisor_storage_size_bytes") == get_fs_info(str(libvirtd.images)).size_bytes

"""A storage pool that cannot be read, or whose XML is odd, costs what depends on that pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from exporter.model import PoolSource, Resources, Severity, StoragePool, UnreadPool
from exporter.virt.libvirt_xml import MAX_CHARACTERS
from tests.support.driver_bench import Bench
from tests.support.faulty_libvirt import Faults, FaultyHypervisor, make_error
from tests.support.records import KIB, make_pool

ODD_XML = {
    "no XML": "<pool",
    "nothing": "",
    "a document type": "<!DOCTYPE pool><pool/>",
    "longer than any pool's": f"<pool>{' ' * MAX_CHARACTERS}</pool>",
    "an escape that XML does not have": "<pool><name>A&B1</name></pool>",
}


def make_hypervisor(tmp_path: Path, faults: Faults, *, kind: str = "dir") -> FaultyHypervisor:
    """Return libvirt's test driver with the active pools "good" and "bad"."""
    pools = "".join(
        f"<pool type='{kind}'><name>{name}</name><source><name>vg-{name}</name></source>"
        f"<target><path>/{name}</path></target></pool>"
        for name in ("good", "bad")
    )
    path = tmp_path / "node.xml"
    path.write_text(f"<node>{pools}</node>")
    hypervisor = FaultyHypervisor(f"test://{path}", faults)
    hypervisor.connect()
    return hypervisor


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, "libvirt"),
        (libvirt.VIR_ERR_NO_SUPPORT, "unsupported"),
        (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, "unsupported"),
        (libvirt.VIR_ERR_ACCESS_DENIED, "denied"),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "timeout"),
        (libvirt.VIR_ERR_XML_ERROR, "libvirt"),
    ],
)
def test_a_pool_that_libvirt_lists_and_cannot_describe_costs_that_pool(
    tmp_path: Path, code: int, reason: str
) -> None:
    faults = Faults()
    hypervisor = make_hypervisor(tmp_path, faults)
    faults.by_call["info", "bad"] = make_error(code)
    good, bad = sorted(hypervisor.list_active_pools(), key=lambda pool: pool.name, reverse=True)
    assert isinstance(good, StoragePool)
    assert isinstance(bad, UnreadPool)
    assert (bad.name, bad.reason) == ("bad", reason)
    assert "it failed" in bad.error
    hypervisor.close()


@pytest.mark.parametrize("xml", ODD_XML.values(), ids=ODD_XML)
def test_a_pool_with_odd_xml_costs_that_pool(tmp_path: Path, xml: str) -> None:
    faults = Faults()
    hypervisor = make_hypervisor(tmp_path, faults, kind="logical")
    faults.by_call["XMLDesc", "bad"] = lambda _xml, *_: xml
    good, bad = sorted(hypervisor.list_active_pools_of("logical"), key=lambda pool: pool.name, reverse=True)
    assert isinstance(good, StoragePool)
    assert good.source is not None
    assert good.source.name == "vg-good"
    assert isinstance(bad, UnreadPool)
    assert bad.error.startswith("unexpected XML, expected <pool>")
    assert "\n" not in bad.error
    hypervisor.close()


@pytest.mark.parametrize("xml", ODD_XML.values(), ids=ODD_XML)
def test_a_pool_with_odd_xml_that_is_needed_for_its_sizes_alone_keeps_them(tmp_path: Path, xml: str) -> None:
    faults = Faults()
    hypervisor = make_hypervisor(tmp_path, faults)
    faults.by_call["XMLDesc", "bad"] = lambda _xml: xml
    good, bad = sorted(hypervisor.list_active_pools(), key=lambda pool: pool.name, reverse=True)
    assert isinstance(good, StoragePool)
    assert isinstance(bad, StoragePool)
    assert (good.source is None, bad.source) == (False, None)
    assert bad.capacity_bytes == good.capacity_bytes
    assert bad.source_error is not None
    assert bad.source_error.startswith("unexpected XML")
    hypervisor.close()


def test_a_pool_that_vanished_is_no_problem(tmp_path: Path) -> None:
    faults = Faults()
    hypervisor = make_hypervisor(tmp_path, faults)
    faults.by_call["info", "bad"] = make_error(libvirt.VIR_ERR_NO_STORAGE_POOL)
    assert [pool.name for pool in hypervisor.list_active_pools()] == ["good"]
    hypervisor.close()


BAD = UnreadPool(name="bad", reason="denied", error="not for you")


def read(*pools: StoragePool | UnreadPool, **options: Any) -> Resources:
    bench = Bench(**options)
    bench.libvirt.pools = pools
    return bench.read()


def test_a_pool_that_is_not_configured_may_be_bad() -> None:
    """Shows that the numbers are those without it, that it is named, and that this is no error."""
    resources = read(make_pool("vms"), BAD, storage_pool=("vms",))
    assert resources.storage == read(make_pool("vms"), storage_pool=("vms",)).storage
    assert resources.local_gb is not None
    (problem,) = resources.problems
    assert (problem.severity, problem.reason, problem.subject) == (Severity.NOTE, "denied", "pool bad")
    assert problem.message == "storage pool bad cannot be read: not for you"


@pytest.mark.parametrize(
    "options",
    [{"storage_pool": ("vms", "bad")}, {"uri": "qemu+tls://kvm02/system"}],
    ids=["configured", "one of two, of which none is configured"],
)
def test_no_sum_leaves_a_pool_out_that_is_bad(options: dict[str, Any]) -> None:
    """Shows that the disk is unknown then, and never the part of it that could be read."""
    resources = read(make_pool("vms"), BAD, **options)
    assert (resources.local_gb, resources.local_gb_used, resources.disk_available_least) == (None,) * 3
    assert resources.memory_mb == 16 * KIB
    (problem,) = resources.problems
    assert problem.severity is Severity.ERROR
    assert "bad" in problem.message


def test_a_back_end_is_found_beside_a_pool_that_is_bad() -> None:
    resources = read(
        BAD,
        make_pool("vms", source=PoolSource(type="logical", name="vg")),
        images_type="lvm",
        images_volume_group="vg",
    )
    assert resources.storage is not None
    assert [problem.subject for problem in resources.problems] == ["pool bad"]


def test_a_back_end_that_is_not_found_may_be_the_bad_pools() -> None:
    """Of a remote hypervisor, where no command can be asked instead."""
    resources = read(BAD, uri="qemu+tls://kvm02/system", images_type="lvm", images_volume_group="vg")
    assert resources.storage is None
    assert [problem.subject for problem in resources.problems] == ["pool bad", "storage"]

"""Worlds: each is another kind of hypervisor with the same guests in it, and an exporter before it.

The guests are "running" (2 of 4 vCPUs, a qcow2 image), "paused" (3 vCPUs, no disk) and "off" (a raw image).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from exporter.model import Storage
from exporter.virt.storage.file_system import get_fs_info
from tests.support.embedding import embedded_uri, serve_embedded_qemu, serve_test_driver
from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import GIB, MIB, file_disk, guest_xml, make_qcow2, make_raw, write
from tests.support.libvirtd import LibvirtDaemon
from tests.support.operations import perform
from tests.support.sandbox import Sandbox
from tests.support.waiting import wait_until

QCOW2_BYTES, RAW_BYTES, WRITTEN_BYTES = 1 * GIB, 2 * GIB, 3 * MIB

# What libvirt's test driver says of the size of any disk (testDomainGetBlockInfo), whose files do not exist.
_TEST_DRIVER_CAPACITY, _TEST_DRIVER_ALLOCATION = 1099506450432, 1099511627776


class Perform(Protocol):
    """Does one of tests.support.operations to the hypervisor."""

    def __call__(self, operation: str, *arguments: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class World:
    """A hypervisor and the exporter before it.

    :ivar domain_type: of its domains: qemu, test
    :ivar hypervisor_type: as virConnectGetType has it
    :ivar storage: returns what its storage is to be, as of now
    :ivar overcommitted_bytes: by how much its images may grow
    """

    exporter: RunningExporter
    perform: Perform
    domain_type: str
    hypervisor_type: str
    storage: Callable[[], Storage]
    overcommitted_bytes: int

    def populate(self, qcow2: Path, raw: Path) -> None:
        """Make the three guests, and wait until their images' sizes are known."""
        self.define("running", vcpus=2, max_vcpus=4, disks=[file_disk(qcow2)])
        self.define("paused", vcpus=3)
        self.define("off", disks=[file_disk(raw, format="raw")])
        for name in ("running", "paused"):
            self.perform("start", name)
        self.perform("suspend", "paused")
        wait_until(self._is_sized, "the images' sizes")

    def define(self, name: str, **more: Any) -> None:
        """Define a domain of this kind of hypervisor."""
        self.perform("define", guest_xml(name, domain_type=self.domain_type, **more))

    def scrape(self) -> Scrape:
        """Scrape the exporter, which then reads the hypervisor."""
        return self.exporter.scrape()

    def _is_sized(self) -> bool:
        scrape = self.scrape()
        return (
            scrape.get("hypervisor_domains", state="shutoff") == 1
            and scrape.get("hypervisor_unsized_disks") == 0
        )


@contextlib.contextmanager
def on_the_test_driver() -> Iterator[World]:
    """No daemon, no QEMU: libvirt's fake, whose storage is one of its two pools."""
    with serve_test_driver(_settings(uri="test:///default", storage_pool="vms")) as embedding:
        for pool in ("vms", "iso"):
            embedding.perform("define_pool", pool_xml(pool, Path("/", pool)))
        embedding.perform("create_volume", "vms", _VOLUME_XML)
        growth = _TEST_DRIVER_CAPACITY - _TEST_DRIVER_ALLOCATION
        world = World(
            exporter=embedding.exporter,
            perform=embedding.perform,
            domain_type="test",
            hypervisor_type="TEST",
            # Any of its pools has 100 GiB, less what its volumes were given.
            storage=lambda: Storage(size_bytes=100 * GIB, used_bytes=10 * GIB, free_bytes=90 * GIB),
            overcommitted_bytes=2 * max(0, growth),  # of a qcow2 image and a raw one
        )
        world.populate(Path("/vms/qcow2"), Path("/vms/raw"))
        yield world


@contextlib.contextmanager
def on_embedded_qemu(cache: Path) -> Iterator[World]:
    """No daemon either, but real QEMU guests, in the exporter's own process."""
    sandbox = Sandbox(cache=cache)
    try:
        qcow2, raw = _make_images(sandbox.images)
        settings = _settings(uri=embedded_uri(sandbox), instances_path=str(sandbox.images))
        with serve_embedded_qemu(sandbox, settings) as embedding:
            world = World(
                exporter=embedding.exporter,
                perform=embedding.perform,
                domain_type="qemu",
                hypervisor_type="QEMU",
                storage=lambda: get_fs_info(str(sandbox.images)),
                overcommitted_bytes=_overcommitted_bytes(qcow2, raw),
            )
            world.populate(qcow2, raw)
            yield world
            world.perform("remove_domains")
    finally:
        sandbox.close()


@contextlib.contextmanager
def on_a_read_only_socket(libvirtd: LibvirtDaemon) -> Iterator[World]:
    """A real libvirtd, read by a user who may not do anything else, nor open the images."""
    qcow2, raw = _make_images(libvirtd.images)
    settings = _settings(uri=libvirtd.uri_read_only, instances_path=str(libvirtd.images))
    with serve(settings, as_nobody=True) as exporter:
        world = _world_of(libvirtd, exporter, qcow2, raw, lambda: get_fs_info(str(libvirtd.images)))
        yield world


@contextlib.contextmanager
def on_tcp(libvirtd: LibvirtDaemon) -> Iterator[World]:
    """A real libvirtd as if it were another machine's, so that its storage is one of its two pools."""
    qcow2, raw = _make_images(libvirtd.images)
    pool = libvirtd.define_pool("vms", libvirtd.images)
    libvirtd.define_pool("iso", libvirtd.images.parent)

    def get_pool_info() -> Storage:
        _state, capacity, allocation, available = pool.info()
        return Storage(size_bytes=capacity, used_bytes=allocation, free_bytes=available)

    with serve(_settings(uri=libvirtd.uri_tcp, storage_pool="vms")) as exporter:
        yield _world_of(libvirtd, exporter, qcow2, raw, get_pool_info)


def _world_of(
    libvirtd: LibvirtDaemon,
    exporter: RunningExporter,
    qcow2: Path,
    raw: Path,
    storage: Callable[[], Storage],
) -> World:
    def perform_here(operation: str, *arguments: str) -> None:
        perform(libvirtd.connection, operation, *arguments)

    world = World(
        exporter=exporter,
        perform=perform_here,
        domain_type="qemu",
        hypervisor_type="QEMU",
        storage=storage,
        overcommitted_bytes=_overcommitted_bytes(qcow2, raw),
    )
    world.populate(qcow2, raw)
    return world


def _settings(**hypervisor: str) -> Mapping[str, Any]:
    """Return settings by which each scrape reads the hypervisor."""
    return {"cache_ttl": "0s", "hypervisors": [hypervisor]}


def _make_images(folder: Path) -> tuple[Path, Path]:
    """Make both images; nobody but root may open them."""
    qcow2 = make_qcow2(folder / "qcow2", QCOW2_BYTES)
    raw = make_raw(folder / "raw", RAW_BYTES)
    write(qcow2, WRITTEN_BYTES)
    write(raw, WRITTEN_BYTES, format="raw")
    for image in (qcow2, raw):
        image.chmod(0o600)
    return qcow2, raw


def _overcommitted_bytes(qcow2: Path, raw: Path) -> int:
    return max(0, QCOW2_BYTES - _allocated_bytes(qcow2)) + max(0, RAW_BYTES - _allocated_bytes(raw))


def _allocated_bytes(path: Path) -> int:
    return os.stat(path).st_blocks * 512


def pool_xml(name: str, path: Path) -> str:
    """Return a storage pool of a directory."""
    return f"<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"


_VOLUME_XML = """<volume type='file'><name>one</name>
<capacity unit='GiB'>30</capacity><allocation unit='GiB'>10</allocation></volume>"""

"""Options of Nova that move its numbers move the exporter's in the same way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.reserved_pages import ReservedPagesError, parse_reserved_pages
from tests.conformance.comparison import Machine, Sighting, find_differences
from tests.conformance.numa_comparison import as_nova, simplify
from tests.support.exporter_process import RunningExporter, serve
from tests.support.guests import guest_xml
from tests.support.hung_mount import hung_mount
from tests.support.libvirtd import LibvirtDaemon
from tests.support.nova_conf import write_nova_conf
from tests.support.nova_programs import ask_program
from tests.support.oracle import NovaOracle
from tests.support.reading import read_resources
from tests.support.waiting import wait_until

MIB = 2**20


@contextmanager
def serve_nova_conf(
    libvirtd: LibvirtDaemon, instances_path: Path, options: Mapping[str, Any], *, as_nobody: bool = False
) -> Iterator[RunningExporter]:
    """Serve with a nova.conf of these options, every scrape reading anew."""
    text = {name: str(value) for name, value in options.items()}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        nova_conf = write_nova_conf(
            Path(folder, "nova.conf"), {"instances_path": str(instances_path), **text}
        )
        hypervisor = {"uri": libvirtd.uri_read_only, "nova_conf": str(nova_conf)}
        with serve({"cache_ttl": "0s", "hypervisors": [hypervisor]}, as_nobody=as_nobody) as exporter:
            yield exporter


@pytest.fixture
def instances() -> Iterator[Path]:
    """An instances path that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# [workarounds] reserve_disk_resource_for_image_cache

CACHE = {"workarounds.reserve_disk_resource_for_image_cache": True}


def _no_cache(instances: Path) -> None:
    pass


def _one_image(instances: Path) -> None:
    _write(instances / "_base" / "image", 5 * MIB)


def _many_files(instances: Path) -> None:
    """More than a GiB is counted, in files of all kinds; folders and what they have are not."""
    _write(instances / "_base" / "image", 700 * MIB)
    _write(instances / "_base" / "swap_1024", 400 * MIB)
    _write(instances / "_base" / "sparse", 1 * MIB)
    os.truncate(instances / "_base" / "sparse", 2**40)
    (instances / "_base" / "link").symlink_to("image")
    (instances / "_base" / "dangling").symlink_to("nowhere")
    _write(instances / "_base" / "folder" / "file", 5 * MIB)


def _write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


@pytest.mark.parametrize("reserved_mb", [0, 1025])
@pytest.mark.parametrize("fill", [_no_cache, _one_image, _many_files])
def test_the_disk_that_the_image_cache_reserves_is_novas(
    fill: Callable[[Path], None],
    reserved_mb: int,
    libvirtd: LibvirtDaemon,
    nova: NovaOracle,
    instances: Path,
) -> None:
    fill(instances)
    options = {**CACHE, "reserved_host_disk_mb": reserved_mb}
    truth = nova.get_inventories(libvirtd.uri, instances, options=options)["DISK_GB"]["reserved"]
    assert truth >= (fill is not _no_cache) + 2 * (reserved_mb > 0)
    with serve_nova_conf(libvirtd, instances, options) as exporter:
        wait_until(lambda: _read_reserved(exporter) is not None, "the image cache to be read")
        assert _read_reserved(exporter) == truth


def _read_reserved(exporter: RunningExporter) -> float | None:
    return exporter.scrape().get("hypervisor_reserved", resource_class="DISK_GB")


def test_a_cache_on_a_device_of_its_own_reserves_nothing_as_in_nova(
    libvirtd: LibvirtDaemon, nova: NovaOracle, instances: Path
) -> None:
    base = instances / "_base"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(base)], check=True)
    try:
        _write(base / "image", 5 * MIB)
        truth = nova.get_inventories(libvirtd.uri, instances, options=CACHE)["DISK_GB"]["reserved"]
        with serve_nova_conf(libvirtd, instances, CACHE) as exporter:
            wait_until(lambda: _read_reserved(exporter) is not None, "the image cache to be read")
            assert _read_reserved(exporter) == truth == 0
    finally:
        subprocess.run(["umount", str(base)], check=True)


def test_a_cache_that_the_exporter_may_not_read_is_not_known(
    libvirtd: LibvirtDaemon, instances: Path
) -> None:
    """Nova may read it. So there is no reserve and no capacity of the disk, and the log says why."""
    _one_image(instances)
    (instances / "_base").chmod(0o700)
    with serve_nova_conf(libvirtd, instances, CACHE, as_nobody=True) as exporter:
        wait_until(lambda: "image cache" in exporter.scrape().log, "the problem")
        scrape = exporter.scrape()
    assert f"image cache {instances}/_base: Permission denied" in scrape.log
    assert scrape.get("hypervisor_reserved", resource_class="DISK_GB") is None
    assert scrape.get("hypervisor_capacity", resource_class="DISK_GB") is None
    assert scrape.value("hypervisor_inventory", resource_class="DISK_GB") > 0
    assert scrape.value("hypervisor_up") == 1


def test_a_cache_on_a_mount_that_hangs_stalls_no_scrape(libvirtd: LibvirtDaemon, instances: Path) -> None:
    """The instances path itself answers; what the cache reserves is not known, and all else is."""
    base = instances / "_base"
    base.mkdir()
    with hung_mount(base), serve_nova_conf(libvirtd, instances, CACHE) as exporter:
        begun = time.monotonic()
        for _ in range(5):
            scrape = exporter.scrape()
            assert scrape.value("hypervisor_up") == 1
            assert scrape.value("hypervisor_refresh_duration_seconds") < 1
            assert scrape.get("hypervisor_reserved", resource_class="DISK_GB") is None
            assert scrape.value("hypervisor_inventory", resource_class="DISK_GB") > 0
        assert time.monotonic() - begun < 10


# [libvirt] file_backed_memory


def test_memory_in_files_is_novas_in_all_numbers(libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Total, use, inventory, reserve and ratio, with guests that run, are paused and are shut off."""
    libvirtd.start_guest(guest_xml("running", memory_mib=96))
    libvirtd.start_guest(guest_xml("paused", memory_mib=33)).suspend()
    libvirtd.define(guest_xml("shut-off", memory_mib=512))
    options = {
        "libvirt.file_backed_memory": 1048576,
        "ram_allocation_ratio": 1.0,
        "reserved_host_memory_mb": 7,
    }
    with serve_nova_conf(libvirtd, libvirtd.images, options) as exporter:

        def look() -> Sighting:
            before = exporter.scrape()
            truth = nova.get_available_resource(libvirtd.uri, libvirtd.images, options=options)
            assert (truth["memory_mb"], truth["memory_mb_used"]) == (1048576, 129)
            return Sighting(before, truth, exporter.scrape(), Machine(0, 0))

        assert find_differences(look) == []
        inventory = nova.get_inventories(libvirtd.uri, libvirtd.images, options=options)["MEMORY_MB"]
        scrape = exporter.scrape()
    said = {
        name: scrape.value(metric, resource_class="MEMORY_MB")
        for name, metric in (
            ("total", "hypervisor_inventory"),
            ("reserved", "hypervisor_reserved"),
            ("allocation_ratio", "hypervisor_allocation_ratio"),
        )
    }
    assert said == {name: inventory[name] for name in said}


# reserved_huge_pages

# Reads values of the option, a JSON list; prints for each what Nova makes of it, null for what it refuses.
NOVA = """
import json, sys
import nova.conf
from nova import exception
from nova.virt import hardware

def read(text):
    try:
        nova.conf.CONF.set_override("reserved_huge_pages", [text])
        found = hardware.numa_get_reserved_huge_pages()
    except (ValueError, exception.InvalidReservedMemoryPagesOption):
        return None
    return [[node, size, count] for node, pages in found.items() for size, count in pages.items()]

nova.conf.CONF([], project="nova", default_config_files=[])
print(json.dumps([read(text) for text in json.loads(sys.stdin.read())]))
"""
NUMBERS = (*("0", "1", "64", "2048", " 7 ") * 3, "", "x", "1.5", "2MB")
SIZES = (
    *("2048", "4", "0", "", "x", "1.5"),
    *("2MB", "2MiB", "2M", "1GB", "2mb", "16Mb", "16Mibit", "0.5GB", ".5KB", "3B", "1TB", "2 MB", "2048kB"),
    "+1GB",
)
KEYS = ("node", "size", "count", "node", "size", "count", "note", "", " size ")


def _draw(choice: random.Random) -> str:
    keys = ["node", "size", "count"]
    if choice.random() < 0.4:
        keys = choice.choices(KEYS, k=choice.randint(0, 4))
    choice.shuffle(keys)
    return ",".join(f"{key}:{choice.choice(SIZES if key.strip() == 'size' else NUMBERS)}" for key in keys)


def test_reserved_huge_pages_mean_what_they_mean_to_nova() -> None:
    choice = random.Random(17)
    texts = [_draw(choice) for _ in range(3000)]
    answers = ask_program(NOVA, request=json.dumps(texts))
    assert 500 < answers.count(None) < 2500
    for text, answer in zip(texts, answers, strict=True):
        assert _parse(text) == answer, text


def _parse(text: str) -> list[list[float]] | None:
    try:
        pages = parse_reserved_pages(text)
    except ReservedPagesError:
        return None
    return [[pages.node, pages.size_kib, pages.count]]


def test_what_is_reserved_of_a_cells_pages_is_novas(libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Of small pages, which every host has; of cells and pages that are not there nothing is."""
    reserved = [
        "node:0,size:4,count:64",
        "node:0,size:4KB,count:100",
        "node:9,size:4,count:1",
        "node:0,size:3,count:1",
    ]
    truth = nova.get_available_resource(
        libvirtd.uri, libvirtd.images, options={"reserved_huge_pages": reserved}
    )
    resources = read_resources(
        libvirtd.uri_read_only,
        instances_path=str(libvirtd.images),
        reserved_huge_pages=tuple(map(parse_reserved_pages, reserved)),
    )
    topology = json.loads(truth["numa_topology"])["nova_object.data"]["cells"]
    assert resources.numa_topology is not None
    said = [as_nova(cell) for cell in resources.numa_topology]
    assert said == [simplify(cell) for cell in topology]
    assert said[0]["mempages"][0]["reserved"] == 100

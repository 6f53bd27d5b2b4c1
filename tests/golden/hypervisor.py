"""The golden hypervisor: libvirt's test driver with this folder's domains and pools in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from exporter.collectors import COLLECTORS
from tests.support.embedding import Embedding, serve_test_driver
from tests.support.exporter_process import RunningExporter
from tests.support.waiting import wait_until

FOLDER = Path(__file__).parent
OPTIONAL_COLLECTORS = [f"--collector.{each.name}" for each in COLLECTORS if not each.is_default]

_VOLUME = """<volume type='file'><name>{name}</name>
<capacity unit='GiB'>{gib}</capacity><allocation unit='GiB'>{gib}</allocation></volume>"""


@contextlib.contextmanager
def serve_golden() -> Iterator[RunningExporter]:
    """Run an exporter before the golden hypervisor.

    libvirt's test driver takes no NUMA cells from a file of its own; those that it has by itself are two. So
    it starts as test:///default, and everything else in it is replaced.
    """
    settings = yaml.safe_load((FOLDER / "config.yaml").read_text())
    with serve_test_driver(settings, flags=OPTIONAL_COLLECTORS) as embedding:
        _populate(embedding)
        wait_until(lambda: _is_settled(embedding.exporter), "the images' sizes")
        yield embedding.exporter


def _populate(embedding: Embedding) -> None:
    for pool in sorted((FOLDER / "pools").iterdir()):
        embedding.perform("define_pool", pool.read_text())
    for pool_name, name, gib in (("vms", "web", 20), ("fast", "log", 5), ("isos", "debian", 1)):
        embedding.perform("create_volume", pool_name, _VOLUME.format(name=name, gib=gib))
    for domain in sorted((FOLDER / "domains").iterdir()):
        embedding.perform("define", domain.read_text())
    for operation, name in (
        ("start", "instance-00000001"),
        ("start", "database"),
        ("suspend", "database"),
        ("start", "batch"),
    ):
        embedding.perform(operation, name)


def _is_settled(exporter: RunningExporter) -> bool:
    """Whether every image is sized and no guest is left to be read."""
    scrape = exporter.scrape()
    is_sized = scrape.get("hypervisor_unsized_disks") == 0
    return is_sized and scrape.get("hypervisor_refresh_guests_read", target="kvm01") == 0

"""Many hypervisors in one exporter, and many guests on one, of libvirt's test driver: no daemon, no QEMU.

What is measured is the exporter alone; the test driver lives in its process, and costs next to nothing.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from bench.contenders import client
from bench.measure import Cost, measure
from tests.support.exporter_process import serve
from tests.support.guests import GIB, file_disk, make_qcow2

GUESTS_OF_EACH_HYPERVISOR = 10


def measure_hypervisors(hypervisors: int, *, scrapes: int, guests: int = GUESTS_OF_EACH_HYPERVISOR) -> Cost:
    """Measure one exporter that watches so many hypervisors, each with so many running guests."""
    cost = Cost()
    with tempfile.TemporaryDirectory(prefix="hx-bench-", dir="/tmp") as directory:
        images = make_images(Path(directory), guests)
        files = [Path(directory, f"kvm{number:03d}.xml") for number in range(hypervisors)]
        for file in files:
            file.write_text(node_xml(images))
        settings = {
            "cache_ttl": "0s",
            "scrape_timeout": "50s",
            "hypervisors": [
                {"uri": f"test://{file}", "name": file.stem, "instances_path": directory} for file in files
            ],
        }
        command = [sys.executable, "-m", "bench.named_exporter"]
        with serve(settings, command=command) as exporter, client(exporter.address) as prometheus:
            check_up(prometheus.scrape().decode(), hypervisors)
            measure(cost, prometheus.scrape, scrapes=scrapes, pid=exporter.process.pid)
    return cost


def check_up(text: str, hypervisors: int) -> None:
    """Check that so many hypervisors have all their numbers: else less would be measured than is said.

    :raises RuntimeError: when they have not
    """
    up = re.findall(r"^hypervisor_up\{.*\} 1\.0$", text, re.MULTILINE)
    if len(up) != hypervisors:
        raise RuntimeError(f"{len(up)} of {hypervisors} hypervisors are up:\n{text}")


def node_xml(images: list[Path]) -> str:
    """Return a host of the test driver with one running guest for each image: driver's own format."""
    guests = "".join(_guest_xml(number, image) for number, image in enumerate(images, start=1))
    return f"""<node>
      <cpu><mhz>2000</mhz><model>i686</model><active>16</active><nodes>2</nodes><sockets>1</sockets>
        <cores>4</cores><threads>2</threads></cpu>
      <memory>67108864</memory>
      {guests}
    </node>"""


def make_images(directory: Path, count: int) -> list[Path]:
    """Make so many qcow2 images: one, and its copies."""
    images = [directory / f"{number}.qcow2" for number in range(count)]
    for image in images:
        if image is images[0]:
            make_qcow2(image, GIB)
        else:
            shutil.copyfile(images[0], image)
    return images


def _guest_xml(number: int, image: Path) -> str:
    return f"""<domain type='test'>
      <name>instance-{number:08x}</name>
      <memory unit='MiB'>32</memory>
      <vcpu>1</vcpu>
      <os><type>hvm</type></os>
      <devices>{file_disk(image)}</devices>
    </domain>"""

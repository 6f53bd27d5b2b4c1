"""A thousand guests of one hypervisor, what they are called, and ten thousand that come and go.

libvirt and the control groups are played, and all that is the exporter's is real, down to the text.
"""

from __future__ import annotations

import gc
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from exporter.collectors.guests.rows import MAX_DEVICES
from exporter.config.settings import GuestsConfig
from exporter.label import MAX_LABEL_LENGTH
from exporter.model import Snapshot
from exporter.scrape import collect_families
from exporter.web.exposition import render_text
from tests.support.cgroup_trees import Tree, Use
from tests.support.driver_bench import Bench
from tests.support.guests import nova_metadata
from tests.support.records import make_uuid, make_view

GUESTS = 1000
COLLECTOR = next(each for each in COLLECTORS if each.name == "guests")
PREFIX = "hypervisor_guest_"

# Series of a guest beside those of its devices, and of each of its devices; with two limits of a disk.
MOST_OF_A_GUEST, MOST_OF_A_DEVICE = 30, 15

HOSTILE = {
    "quotes": 'quo"te\\',
    "line feed": "line\nfeed",
    "markup": "<script>alert(1)</script>",
    "right to left": "\u202egnp.exe",
    "one of the formats": "{}=,} 1\n# EOF",
    "not ASCII": "\u9999\U0001f4a9",
    "long": "n" * 255,
    "empty": " ",
}

Samples = Mapping[str, list[Mapping[str, str]]]


class Host:
    """A driver whose guests have control groups."""

    def __init__(self, folder: Path, **guests: Any) -> None:
        self.tree = Tree(folder)
        self.tree.use(Use())
        self.bench = Bench(needs=None, sandbox=self.tree.sandbox, guests=GuestsConfig(**guests))

    def add(
        self,
        number: int,
        *,
        name: str = "",
        disks: int = 1,
        interfaces: int = 1,
        metadata: str = "",
        has_files: bool = True,
    ) -> None:
        """Start a guest with so many disks and interfaces."""
        devices = "".join(_disk(each) for each in range(disks))
        devices += "".join(_interface(number, each) for each in range(interfaces))
        name = name or f"guest{number}"
        self.bench.add_guest(number, name=name, disks=devices, metadata=metadata)
        uuid = make_uuid(number)
        xml = self.bench.libvirt.xml[uuid]
        assert isinstance(xml, str)
        self.bench.libvirt.xml[uuid] = xml.replace(f"<name>{name}</name>", f"<name>{escape(name)}</name>")
        self.bench.libvirt.statistics[uuid] = _statistics(disks)
        for each in range(interfaces if has_files else 0):
            self.tree.add_device(f"tap{number}-{each}", range(16))
        if has_files:
            self.tree.add_guest(number, f"guest{number}")

    def end(self, *numbers: int) -> None:
        """End these guests: libvirt lists them no longer."""
        ended = {make_uuid(number) for number in numbers}
        self.bench.libvirt.domains = tuple(
            each for each in self.bench.libvirt.domains if each.uuid not in ended
        )
        for number in numbers:
            self.bench.libvirt.xml.pop(make_uuid(number))
            self.bench.libvirt.statistics.pop(make_uuid(number))
            if number in self.tree.tids:
                self.tree.end_guest(number, f"guest{number}")

    def scrape(self) -> str:
        """Let a refresh come, and what follows it; return the text of the next one."""
        for _ in range(2):
            self.bench.clock.now += 30
            resources = self.bench.read()
            self.bench.do_what_is_due()
        snapshot = Snapshot(target="kvm01", resources=resources, timestamp_seconds=0)
        return render_text(collect_families([make_view(snapshot=snapshot)], [COLLECTOR])).decode()


def test_a_thousand_guests_are_bounded_and_the_others_counted(tmp_path: Path) -> None:
    """Those that were started first are shown. Each has a bounded number of series, with any devices."""
    host = Host(tmp_path)
    for number in range(1, GUESTS + 1):
        many = 40 if number % 100 == 1 else 1
        host.add(number, disks=many, interfaces=many, has_files=number % 100 in (1, 2))
    samples = read(host.scrape())
    assert {each["domain"] for each in samples["hypervisor_guest_info"]} == {
        f"guest{number}" for number in range(1, 501)
    }
    of_guest = Counter(
        each["domain"]
        for name, rows in samples.items()
        if name.startswith(PREFIX)
        for each in rows
        if "domain" in each
    )
    devices = 2 * (MAX_DEVICES + 1)
    assert max(of_guest.values()) <= MOST_OF_A_GUEST + devices * MOST_OF_A_DEVICE
    assert of_guest["guest2"] <= MOST_OF_A_GUEST + 2 * MOST_OF_A_DEVICE
    for name in ("hypervisor_guest_disk_written_bytes_total", "hypervisor_guest_network_receive_bytes_total"):
        shown = [each["device"] for each in samples[name] if each["domain"] == "guest1"]
        assert len(shown) == MAX_DEVICES + 1, name
        assert "other" in shown
    check(host.scrape())


def test_a_thousand_guests_are_shown_where_that_is_wanted(tmp_path: Path) -> None:
    """With `max`, and without the devices beyond their bound nothing is left out."""
    host = Host(tmp_path, max=GUESTS)
    for number in range(1, GUESTS + 1):
        host.add(number)
    text = host.scrape()
    samples = read(text)
    for name in ("cpu_seconds_total", "disk_written_bytes_total", "stats_timestamp_seconds", "info"):
        assert len(samples[PREFIX + name]) == GUESTS, name
    assert 'hypervisor_guests_omitted{hypervisor_hostname="kvm01.example"} 0.0' in text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_guests_name_is_shown_as_it_is_and_what_its_owner_wrote_is_cleaned(
    name: str, tmp_path: Path
) -> None:
    """libvirt's name is what boards join on. Metadata are cut, and have no character that cannot be seen."""
    host = Host(tmp_path, series_labels=("flavor",))
    metadata = nova_metadata("FLAVOR", vcpus=1, memory=16, disk=1).replace(
        "FLAVOR", escape(name * 3, {"'": "&apos;"})
    )
    host.add(1, name=name, metadata=metadata)
    text = host.scrape()
    check(text)
    for sample, rows in read(text).items():
        for labels in rows:
            if sample.startswith(PREFIX) and "domain" in labels:
                assert labels["domain"] == name, sample
                assert len(labels["flavor"]) <= MAX_LABEL_LENGTH
                assert labels["flavor"].isprintable()


def test_ten_thousand_guests_that_came_and_went_leave_nothing(tmp_path: Path) -> None:
    """Neither memory nor a descriptor nor a thread: a hundred at a time, some of them with control groups."""
    host = Host(tmp_path)

    def pass_through(first: int, last: int) -> tuple[int, int, int]:
        for start in range(first, last, 100):
            numbers = range(start, start + 100)
            for number in numbers:
                host.add(number, interfaces=0, has_files=number % 10 == 0)
            text = host.scrape()
            assert text.count("\nhypervisor_guest_info{") == 100
            assert text.count("\nhypervisor_guest_cpu_seconds_total{") == 10
            host.end(*numbers)
        assert "hypervisor_guest_info{" not in host.scrape()
        host.bench.libvirt.take_asked()
        gc.collect()
        return len(gc.get_objects()), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = pass_through(1, 1001)
    after = pass_through(1001, 11_001)
    objects, descriptors, threads = (more - less for more, less in zip(after, before, strict=True))
    assert objects < 1000, "a tenth of an object for each guest would be as many"
    assert descriptors <= 0
    assert threads <= 0


def read(text: str) -> Samples:
    """Return the labels of all samples, by name."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def check(text: str) -> None:
    """Check that Prometheus takes it, and that no series is there twice."""
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert "error while linting" not in result.stderr, result.stderr
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def _disk(number: int) -> str:
    return (
        f"<disk type='block' device='disk'><source dev='/dev/vg0/{number}'/>"
        f"<target dev='vd{number}' bus='virtio'/>"
        "<iotune><read_bytes_sec>1</read_bytes_sec><total_iops_sec>1</total_iops_sec></iotune></disk>"
    )


def _interface(guest: int, number: int) -> str:
    return f"<interface type='bridge'><target dev='tap{guest}-{number}'/></interface>"


def _statistics(disks: int) -> dict[str, object]:
    fields = {"rd.bytes": 1, "wr.bytes": 2, "rd.reqs": 3, "wr.reqs": 4, "rd.times": 5, "wr.times": 6}
    fields |= {"fl.reqs": 7, "fl.times": 8, "capacity": 9, "physical": 10}
    told: dict[str, object] = {"balloon.current": 1, "balloon.last-update": 2, "balloon.available": 3}
    for number in range(disks):
        told[f"block.{number}.name"] = f"vd{number}"
        told |= {f"block.{number}.{field}": value for field, value in fields.items()}
    return told

"""What guests' owners choose, through a real libvirtd and a whole scrape: names, metadata, flavors."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.sax.saxutils import quoteattr

from prometheus_client.parser import text_string_to_metric_families

from exporter.label import MAX_LABEL_LENGTH
from exporter.placement.flavors import MAX_LEARNT_FLAVORS
from tests.support.exporter_process import serve
from tests.support.guests import file_disk, guest_xml, nova_metadata
from tests.support.libvirtd import LibvirtDaemon

HOSTILE = (
    "line\nfeed",
    "\u001b[31mred".replace("\u001b", "\u009b"),  # XML holds no escape, but its one-character form
    'quo"te\\',
    "<script>alert(1)</script>",
    "n" * 10_000,
    "\u202egnp.exe",
    "{}=,} 1\n# EOF",
)


def test_what_guests_are_called_is_shown_as_text_and_bounded(libvirtd: LibvirtDaemon, tmp_path: Path) -> None:
    """/metrics is valid for promtool, labels are short, logs and debug answers have no control character."""
    # The last ones are there to be too many: of flavors with as many guests, the first by name are kept.
    for number, text in enumerate([*HOSTILE, *(f"\u9999{each}" for each in range(MAX_LEARNT_FLAVORS))]):
        metadata = nova_metadata("FLAVOR", vcpus=1, memory=16, disk=1)
        metadata = metadata.replace("'FLAVOR'", quoteattr(text).replace("\n", "&#10;"))
        missing = file_disk(tmp_path / "gone")
        name = text[:100].replace("\n", " ").replace("/", "_")
        xml = guest_xml("NAME", disks=[missing], metadata=metadata)
        libvirtd.define(xml.replace("<name>NAME", f"<name>{escape(name)}{number}"))
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    with serve({"hypervisors": [hypervisor], "flavors_from_guests": True}) as exporter:
        text = exporter.get("/metrics")
        debug = exporter.get("/metrics?debug=true")
        log = exporter.log
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert "error while linting" not in result.stderr, result.stderr
    flavors = {
        sample.labels["flavor"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "hypervisor_flavor_slots"
    }
    assert len(flavors) == MAX_LEARNT_FLAVORS
    assert max(map(len, flavors)) <= MAX_LABEL_LENGTH
    assert any("\ufffd" in flavor for flavor in flavors)
    assert not any(character for flavor in flavors for character in flavor if not character.isprintable())
    lines = log.splitlines()
    assert sum("left out of the over-commit" in line for line in lines) == len(HOSTILE) + MAX_LEARNT_FLAVORS
    assert all(re.match(r"time=\S+ level=\w+ ", line) for line in lines)
    assert log.replace("\n", "").isprintable()
    assert "<script>alert(1)<_script>" in debug, "it is text/plain, and names are as they are"
    assert debug.replace("\n", "").isprintable()


def escape(name: str) -> str:
    """Write a name as the content of an element."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""Documents made to cost much, each in a process of its own: its memory, its end, its one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MORE_MEMORY_MIB = 64

# Reads the document from standard input, as libvirt-python would hand it over, and tells how it was answered.
READ = """
import resource, sys
from tests.fuzz import targets
target, text = getattr(targets, sys.argv[1]), sys.stdin.buffer.read()
targets._text(text)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
target(text)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
HEAD = "<domain><name>guest</name><uuid>u</uuid><memory>1</memory>"
DOMAIN = f"{HEAD}<vcpu>1</vcpu>"
MIB = 2**20


def fill(unit: str, before: str, after: str, *, size: int = MIB) -> str:
    """Repeat a piece of XML until the document is as long as it may be to be read."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


BOMBS = {
    "domain_xml small elements": fill("<a/>", DOMAIN, "</domain>"),
    "domain_xml attributes": fill("<a b=''/>", DOMAIN, "</domain>"),
    "domain_xml nested": DOMAIN + "<a>" * (MIB // 8) + "</a>" * (MIB // 8) + "</domain>",
    "domain_xml 50 MB": fill("<a/>", DOMAIN, "</domain>", size=50 * MIB),
    "domain_xml entities": '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + f"]>{DOMAIN}<a>&i;</a></domain>",
    "domain_xml vCPUs": f"{HEAD}<vcpu>900000000</vcpu><memoryBacking><hugepages/></memoryBacking></domain>",
    "domain_xml pins": f"{DOMAIN}<cputune>"
    + "".join(f"<vcpupin vcpu='{each}' cpuset='0-{65535 - each}'/>" for each in range(5000))
    + "</cputune></domain>",
    "domain_xml exclusions": f"{DOMAIN}<cputune>"
    + "".join(f"<vcpupin vcpu='{each}' cpuset='0-65535,^{each}-65534'/>" for each in range(5000))
    + "</cputune></domain>",
    "domain_xml one set": f"{DOMAIN}<cputune><emulatorpin cpuset='"
    + ",".join(f"0-{65535 - each}" for each in range(60_000))
    + "'/></cputune></domain>",
    "domain_xml cells": f"{DOMAIN}<numatune>"
    + "<memnode cellid='0' nodeset='0'/>" * 10_000
    + "</numatune><cpu><numa>"
    + "<cell cpus='0' memory='1'/>" * 10_000
    + "</numa></cpu></domain>",
    "domain_xml digits": f"{HEAD}<vcpu>{'9' * 4000}</vcpu></domain>",
    "capabilities siblings": "<capabilities><host><topology><cells><cell id='0'><cpus>"
    + "".join(f"<cpu id='{each}' siblings='0-{65535 - each}'/>" for each in range(5000))
    + "</cpus></cell></cells></topology></host></capabilities>",
    "capabilities cells": "<capabilities><host><topology><cells>"
    + "".join(f"<cell id='{each}'/>" for each in range(5000))
    + "</cells></topology></host></capabilities>",
    "capabilities nested": "<capabilities><host><cpu><model>m</model>"
    + "<a>" * 50_000
    + "</a>" * 50_000
    + "</cpu></host></capabilities>",
    "node_device vital product data": fill("<capability type='vpd'><name>&", "<device>", "", size=MIB - 20),
    "node_device 50 MB": fill("<a/>", "<device>", "</device>", size=50 * MIB),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_document_costs_more_than_64_mib(bomb: str) -> None:
    """It is read, or refused in one line, at once; the memory is that of a fresh process."""
    target = bomb.partition(" ")[0]
    result = subprocess.run(
        [sys.executable, "-c", READ, target],
        cwd=CHECKOUT,
        input=BOMBS[bomb].encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    assert int(result.stdout) <= MORE_MEMORY_MIB

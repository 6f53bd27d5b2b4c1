"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target
from exporter.log import BURST_LINES, LINES_PER_SECOND
from exporter.web.connection import ServerLimits
from exporter.web.passwords import MAX_WAITING
from exporter.web.reload import MAX_WAITING_FOR_RELOAD, RELOAD_TIMEOUT_SECONDS
from exporter.web.streams import KERNEL_BUFFER_BYTES
from exporter.web.viewers import MAX_VIEWERS
from scripts.generate_docs import PAGE, render_page
from scripts.generate_manual import COMPLETION, MANUAL, render_completion, render_manual

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md")])

DECLARED = {
    metric.name: metric
    for metrics in (target.METRICS, scrape.METRICS, own.METRICS, *(each.metrics for each in COLLECTORS))
    for metric in metrics
}


def test_the_page_of_metrics_is_what_make_docs_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page()


def test_the_source_of_a_metric_is_no_module() -> None:
    """Shows that a file may move without the manual."""
    assert [name for name, metric in DECLARED.items() if "exporter." in metric.source] == []


def test_man_page_and_completion_are_what_make_docs_writes() -> None:
    assert MANUAL.read_text(encoding="utf-8") == render_manual()
    assert COMPLETION.read_text(encoding="utf-8") == render_completion()


def test_every_runtime_dependency_has_its_reason() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert block is not None
    dependencies = set(re.findall(r'"([\w-]+)', block[1]))
    decisions = (CHECKOUT / "docs" / "decisions.md").read_text()
    section = decisions.partition("## Runtime dependencies")[2].partition("\n\n**")[0]
    assert set(re.findall(r"^\| ([\w-]+) \| \w", section, re.MULTILINE)) - {"package"} == dependencies


def test_the_oldest_python_and_libvirt_are_those_that_the_package_asks_for() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    python = re.search(r'^requires-python = ">=([\d.]+)"', project, re.MULTILINE)
    libvirt = re.search(r'^ +"libvirt-python>=([\d.]+)"', project, re.MULTILINE)
    assert python is not None
    assert libvirt is not None
    stated = f"It needs Linux, Python {python[1]} or later, and libvirt {libvirt[1]} or later."
    assert stated in (CHECKOUT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_a_page_names_is_declared(page: Path) -> None:
    named = set(re.findall(r"`(hypervisor_[a-z_]+)[`{]", page.read_text()))
    names_of_labels = {"hypervisor_hostname", "hypervisor_type", "hypervisor_version"}
    assert named - names_of_labels <= DECLARED.keys()


def test_the_security_page_has_the_limits_that_the_code_has() -> None:
    text = (CHECKOUT / "SECURITY.md").read_text()
    table = text.partition("## What clients can use")[2].partition("\n## ")[0]
    limits = ServerLimits()
    stated = [
        f"| connections, and requests at the same time | {limits.connections} |",
        f"| {limits.request_timeout:g} s, {limits.idle_timeout:g} s, {limits.write_timeout:g} s |",
        f"| {limits.header_bytes // 1024} KiB, {limits.body_bytes // 1024} KiB |",
        f"| memory of responses that clients do not take | {limits.unsent_bytes // 2**20} MiB |",
        f"| viewers of the page | {MAX_VIEWERS}, ",
        f"; {MAX_WAITING_FOR_RELOAD} wait, {RELOAD_TIMEOUT_SECONDS:g} s at most",
        f"| passwords that are not in the cache | {MAX_WAITING} wait",
        f"| log lines | {BURST_LINES:,} at once, then {LINES_PER_SECOND:g} a second",
        f"| kernel's memory of a connection | {2 * KERNEL_BUFFER_BYTES // 1024} KiB in each direction |",
    ]
    assert [each for each in stated if each not in table] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []

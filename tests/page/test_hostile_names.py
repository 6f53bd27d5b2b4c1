"""Whatever hosts and guests are called, the page and the table show it as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser

from exporter.model import NovaFlavor, NovaInstance, Problem, Severity
from exporter.page.fleet import make_fleet
from exporter.page.table import render_table
from exporter.page.text_table import Medium
from tests.support.browser import visit
from tests.support.exporter_process import Scrape, serve
from tests.support.guests import file_disk, guest_xml, make_qcow2
from tests.support.hostile_names import HOSTILE
from tests.support.libvirtd import LibvirtDaemon
from tests.support.records import make_domain, make_domains_reading, make_guest, make_snapshot, make_view
from tests.support.served_fleet import ServedFleet, serve_fleet
from tests.support.simulated_hypervisors import make_hypervisor


@pytest.fixture(scope="module")
def hostile_fleet() -> Iterator[ServedFleet]:
    """Hypervisors with such names, each with a guest of that name that has something amiss."""
    answers = {
        f"{name}": make_hypervisor(
            text,
            problems=(
                Problem(severity=Severity.NOTE, reason="image", subject=text, message=f"domain {text}: gone"),
            ),
        )
        for name, text in HOSTILE.items()
    }
    with serve_fleet(answers) as served:
        yield served


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_shown_as_text(browser: Browser, hostile_fleet: ServedFleet, width: int) -> None:
    """No script runs, no element is made, nothing is asked for or overflows; each character is seen."""
    with visit(browser, hostile_fleet.url, width=width) as visited:
        page = visited.page
        names = page.locator("tbody th a").all_text_contents()
        assert HOSTILE["script"] in names
        assert HOSTILE["template"] in names
        assert HOSTILE["entity"] in names
        assert r"first\nsecond\r\nthird" in names
        assert r"\x1b[2J\x1b]0;owned\x07" in names
        assert r"abc\u202egnp.exe" in names
        assert r"caf\udce9" in names
        assert "x" * 119 + "…" in names
        assert page.title() == "All 12 hypervisors answer · hypervisor-exporter"
        assert page.locator("main img, main script, [onmouseover], [onerror]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert visited.errors == []
        assert [url for url in visited.requests if not url.startswith(("data:", hostile_fleet.url))] == []


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_guests_are_shown_as_text(browser: Browser, width: int) -> None:
    """Whoever owns a guest chooses its name, and an administrator those of its flavor and project."""
    guests = [
        make_guest(
            number,
            name=text,
            nova_flavor=NovaFlavor(
                name=text, vcpus=1, memory_mb=1, root_gb=0, ephemeral_gb=0, swap_mb=0, resources={}
            ),
            nova_instance=NovaInstance(instance_name=text, project_id=text, project_name=text),
        )
        for number, text in enumerate(HOSTILE.values(), 1)
    ]
    records = [make_domain(number, name=text) for number, text in enumerate(HOSTILE.values(), 1)]
    hypervisor = replace(make_hypervisor("kvm01"), domains=make_domains_reading(guests, domains=records))
    with (
        serve_fleet({"kvm01": hypervisor}) as served,
        visit(browser, f"{served.url}guests?target=kvm01", width=width) as visited,
    ):
        page = visited.page
        for column in ("th", "td:nth-child(3)", "td:nth-child(4)", "td:nth-child(5)"):
            texts = "\n".join(page.locator(f"tbody {column}").all_text_contents())
            for shown in (HOSTILE["script"], HOSTILE["template"], HOSTILE["entity"], r"caf\udce9"):
                assert shown in texts
            assert r"first\nsecond\r\nthird" in texts
            assert r"\x1b[2J\x1b]0;owned\x07" in texts
            assert r"abc\u202egnp.exe" in texts
            assert "x" * 119 + "…" in texts
        assert page.title() == "12 guests, 12 active · hypervisor-exporter"
        assert page.locator("main img, main script, [onmouseover], [onerror]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert visited.errors == []
        assert [url for url in visited.requests if not url.startswith(("data:", served.url))] == []


def test_the_link_of_a_hypervisor_leads_to_its_probe() -> None:
    """Whatever its target is called in the configuration."""
    targets = [text for name, text in HOSTILE.items() if name != "not UTF-8"]
    answers = {text: make_hypervisor(f"kvm{number:02}") for number, text in enumerate(targets)}
    with serve_fleet(answers) as served:
        page, _ = served.get()
        paths = re.findall(r'<th scope="row"[^>]*><a href="/(probe[^"]*)"', page.decode())
        hostnames = {
            labels["hypervisor_hostname"]
            for path in paths
            for labels, _ in Scrape(text=served.get(path)[0].decode()).series("hypervisor_vcpus")
        }
    assert hostnames == {f"kvm{number:02}" for number in range(len(targets))}


def test_a_hostile_host_header_is_not_repeated(hostile_fleet: ServedFleet) -> None:
    """What the browser calls this exporter is shown only if it could be a host."""
    body, _ = hostile_fleet.get(headers={"Host": "<script>alert(1)</script>"})
    assert b"HOST:9177" in body
    body, _ = hostile_fleet.get(headers={"Host": "kvm01.example:9177"})
    assert b"kvm01.example:9177" in body


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_terminal_gets_no_control_characters(text: str) -> None:
    """The table of a hypervisor with such a name commands the terminal nothing, and keeps its lines."""
    problem = Problem(severity=Severity.NOTE, reason="image", subject=text, message=f"domain {text}: gone")
    view = make_view(
        snapshot=replace(make_snapshot(hypervisor_hostname=text)), problems=(problem,), age_seconds=3.0
    )
    table = render_table(make_fleet([view]), Medium(width=100))
    assert all(line.isprintable() and len(line) <= 100 for line in table.splitlines())
    assert len(table.encode()) == len(table.encode("utf-8", "strict"))


def test_a_real_guest_with_a_hostile_name_is_shown_as_text(browser: Browser, libvirtd: LibvirtDaemon) -> None:
    """libvirt takes such a name; its image is gone, so the page speaks of it."""
    name = "<img src=x onerror=alert(1)>'\"&"
    image = make_qcow2(libvirtd.images / "gone.qcow2", 2**20)
    xml = guest_xml("placeholder", disks=[file_disk(image)])
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    libvirtd.define(xml.replace("<name>placeholder</name>", f"<name>{escaped}</name>"))
    image.unlink()
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}
    with (
        serve({"hypervisors": [hypervisor]}) as exporter,
        visit(browser, f"http://{exporter.address}/") as visited,
    ):
        page = visited.page
        page.get_by_text("A disk image cannot be read").wait_for()
        assert f"domain {name}: left out of the over-commit" in page.locator("#notes").inner_text()
        assert page.get_by_text("The hypervisor answers").is_visible()
        assert page.locator("main img").count() == 0
        assert visited.errors == []

"""The page as a response: in time, small, without disturbing what it shows, and nothing else let in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import Browser

from exporter.errors import ConnectError
from tests.support.browser import visit
from tests.support.exporter_process import Scrape, serve
from tests.support.served_fleet import ServedFleet, serve_fleet
from tests.support.simulated_hypervisors import make_hypervisor, many_hypervisors

MAX_BYTES = 1_000_000
GENEROUS_SECONDS = 10  # a busy machine is no failure; docs/page.md has what was measured


def test_five_hundred_hypervisors_under_load(browser: Browser) -> None:
    """Under a megabyte, all rows there, while scrapers and viewers ask at once; each is read only once."""
    with serve_fleet(many_hypervisors(500), cache_ttl=600.0) as served:
        with ThreadPoolExecutor(max_workers=4) as pool:
            answers = list(pool.map(served.get, ["", "metrics"] * 4))
        for body, headers in answers[::2]:
            assert len(body) < MAX_BYTES
            assert "content-encoding" not in headers
        with visit(browser, served.url) as visited:
            page = visited.page
            assert page.locator("tbody tr").count() == 500
            assert page.locator("h1").is_visible()
            page.get_by_label("Filter").fill("rack07")
            assert page.locator("tbody tr:visible").count() == 25
            assert visited.errors == []
        assert {driver.reads for driver in served.drivers.values()} == {1}


def test_viewers_at_once_share_one_refresh() -> None:
    """However many look, a hypervisor is read once for all of them."""
    with serve_fleet({"kvm01": make_hypervisor("kvm01")}, cache_ttl=0.0) as served:
        driver = served.drivers["kvm01"]
        with ThreadPoolExecutor(max_workers=8) as pool:
            with driver.held():
                asked = [pool.submit(served.get) for _ in range(8)]
                bodies = [each.result(timeout=GENEROUS_SECONDS * 2)[0] for each in asked]
            assert driver.reads == 1
        assert all(b"answered so far" in body for body in bodies)


def test_a_hypervisor_that_hangs_does_not_hold_up_the_page() -> None:
    """It comes with what is known, long before a scrape's deadline, and calls nothing late that is not."""
    answers = {"kvm01": make_hypervisor("kvm01"), "kvm02": make_hypervisor("kvm02")}
    with serve_fleet(answers, cache_ttl=0.0, scrape_timeout=60.0) as served:
        served.get("metrics")
        with served.drivers["kvm02"].held():
            started = time.monotonic()
            body, _ = served.get()
            assert time.monotonic() - started < 30
            assert b"All 2 hypervisors answer" in body
        body, _ = served.get("metrics")
        timeouts = Scrape(text=body.decode()).value(
            "hypervisor_refresh_errors_total", target="kvm02", reason="timeout"
        )
        assert timeouts == 0


def test_the_policy_lets_in_only_what_is_in_the_page(fleet: ServedFleet) -> None:
    """The hashes are those of the one style and the one script; everything else is refused."""
    body, headers = fleet.get()
    text = body.decode()
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == _hash(style)
    assert policy["script-src"] == _hash(script)
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert 'style="' not in text
    assert re.findall(r"\son[a-z]+=", text.replace(script, "")) == []


def test_it_is_compressed_for_who_takes_that(fleet: ServedFleet) -> None:
    plain, _ = fleet.get()
    body, headers = fleet.get(headers={"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "accept-encoding"
    assert gzip.decompress(body).startswith(plain[:1000])


def test_a_hypervisor_that_fails_is_told_in_words_with_what_to_do() -> None:
    """Down with its reason and remedy; stale while its last numbers are shown; well again by itself."""
    with serve_fleet({"kvm01": make_hypervisor("kvm01.example")}) as served:
        body, _ = served.get()
        assert b"The hypervisor answers" in body
        driver = served.drivers["kvm01"]
        driver.error = ConnectError("Failed to connect socket: Connection refused")
        served.pass_time(30)
        body, _ = served.get()
        assert b"The hypervisor does not answer" in body
        assert b"libvirt cannot be reached" in body
        assert b"systemctl status libvirtd" in body
        assert b"Failed to connect socket: Connection refused" in body
        assert b'<span class="s stale">stale</span> <small>read 30 s ago</small>' in body
        served.pass_time(300)
        body, _ = served.get()
        assert b'<span class="s down">down</span> <small>for 5 min</small>' in body
        driver.error = None
        body, _ = served.get()
        assert b"The hypervisor answers" in body
        assert b"cannot be reached" not in body


def test_a_newcomer_sees_that_it_works(browser: Browser) -> None:
    """The exporter as `make run` starts it: the page says that it works, and each link on it is answered."""
    with (
        serve({"hypervisors": [{"uri": "test:///default"}]}) as exporter,
        visit(browser, f"http://{exporter.address}/") as visited,
    ):
        page = visited.page
        assert page.get_by_text("The hypervisor answers").is_visible()
        # Even of libvirt's own toy, whose guest is larger than its host, it says nothing that cannot be.
        assert re.findall(r"-\d[\d.]* [KMGT]iB|\d{4,} %", page.locator("main").inner_text()) == []
        assert f'targets: ["{exporter.address}"]' in page.locator("pre").inner_text()
        links = {each.get_attribute("href") or "" for each in page.locator("a").all()}
        assert {"/metrics", "/sd", "/-/healthy"} < links
        for link in links:
            if link.startswith("#"):
                assert page.locator(link).count() == 1
            else:
                assert page.request.get(f"http://{exporter.address}{link}").ok
        assert visited.errors == []


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""The page in a real Chromium: in every width and both schemes, by keyboard, for a screen reader, printed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import visit
from tests.support.served_fleet import ServedFleet, serve_fleet
from tests.support.simulated_guests import add_guests
from tests.support.simulated_hypervisors import mixed_fleet

WIDTHS = (360, 768, 1280, 1600)
SCHEMES = ("light", "dark")
PATHS = ("", "guests?target=kvm01")

# Elements that reach beyond the window, and such whose content is cut off by their own edge. Bars end where
# they do on purpose, and the example of a configuration can be scrolled.
_CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((each) => {
  if (each.closest(".bar, pre") || !each.checkVisibility()) return false;
  const box = each.getBoundingClientRect(), style = getComputedStyle(each);
  if (style.clipPath !== "none") return false;
  const isOutside = box.right > innerWidth + 1 || box.left < -1;
  const isCut = style.overflowX !== "visible" && each.scrollWidth > each.clientWidth + 1;
  return isOutside || isCut;
}).map((each) => each.outerHTML.slice(0, 120))"""

# WCAG 2.2: relative luminance, and contrast of each piece of text with the nearest opaque background.
_POOR_CONTRAST = """() => {
  const parse = (text) => text.match(/[0-9.]+/g).map(Number);
  const luminance = (color) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const background = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const note = (what, got, wanted) => { if (got < wanted) found.push(`${what}: ${got.toFixed(2)}`); };
  let measured = 0;
  for (const each of document.querySelectorAll("body *")) {
    if (!each.checkVisibility() || each.closest("script")) continue;
    const isText = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (isText) {
      measured += 1;
      note(each.outerHTML.slice(0, 80), ratio(parse(getComputedStyle(each).color), background(each)), 4.5);
    }
    if (each.matches(".bar .u")) {
      measured += 1;
      note(each.parentElement.outerHTML, ratio(background(each), background(each.parentElement)), 3);
    }
  }
  return {found, measured};
}"""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_fits_and_can_be_read(
    browser: Browser, fleet: ServedFleet, width: int, scheme: str, path: str
) -> None:
    """Nothing is cut off, every text and bar has WCAG's contrast, and nothing was wrong or asked outside."""
    with visit(browser, fleet.url + path, width=width, scheme=scheme) as visited:
        page = visited.page
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(_CUT_OFF) == []
        contrast = page.evaluate(_POOR_CONTRAST)
        assert contrast["measured"] > 100
        assert contrast["found"] == []
        assert visited.errors == []
        assert [url for url in visited.requests if not url.startswith(("data:", fleet.url))] == []


def test_both_schemes_are_what_they_say(browser: Browser, fleet: ServedFleet) -> None:
    backgrounds = []
    for scheme in SCHEMES:
        with visit(browser, fleet.url, scheme=scheme) as visited:
            backgrounds.append(visited.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(244, 246, 249)", "rgb(14, 19, 26)"]


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screen_reader_finds_a_table_with_caption_and_headers(
    browser: Browser, fleet: ServedFleet, width: int
) -> None:
    """Chromium's accessibility tree keeps the table one, even where it looks like cards; bars are text."""
    with visit(browser, fleet.url, width=width) as visited:
        nodes = _accessibility_tree(visited.page)
    roles = Counter(role for role, _ in nodes)
    assert roles["columnheader"] == 6
    assert roles["rowheader"] == 6
    assert roles["cell"] == 30
    assert roles["main"] == roles["navigation"] == roles["table"] == roles["search"] == 1
    names = dict(nodes)
    assert names["table"].startswith("Hypervisors, the fullest first.")
    cells = [name for role, name in nodes if role == "cell"]
    assert any(
        "78 % used" in name and "402 of 512 GiB" in name and "70 % claimed" in name for name in cells
    ), cells


@pytest.mark.parametrize("path", PATHS)
def test_headings_go_down_one_step_at_a_time(browser: Browser, fleet: ServedFleet, path: str) -> None:
    with visit(browser, fleet.url + path) as visited:
        levels = visited.page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.localName[1]))"
        )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_without_scripts_the_page_says_the_same(browser: Browser, fleet: ServedFleet) -> None:
    """All of the content is there, in the same order; the controls that would do nothing are not."""
    texts = []
    for scripts in (True, False):
        with visit(browser, fleet.url, scripts=scripts) as visited:
            page = visited.page
            texts.append([cell.split("\n")[0] for cell in page.locator("tbody th").all_inner_texts()])
            assert page.locator("#controls").is_visible() is scripts
            assert page.locator("thead button").count() == (6 if scripts else 0)
            assert page.get_by_text("libvirt cannot be reached").is_visible()
            assert visited.errors == []
    assert texts[0] == texts[1]
    assert texts[0][0] == "kvm02.example.net"  # the fullest: its disk is promised to the last byte
    assert texts[0][-1] == "qemu+tls://kvm05.example.net/system"


def test_the_keyboard_alone_sorts_and_filters(browser: Browser, fleet: ServedFleet) -> None:
    """Every control is reached by Tab with an outline to be seen, and does its work by Enter and Space."""
    with visit(browser, fleet.url) as visited:
        page = visited.page
        _press_until(page, "document.activeElement.id === 'filter'")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.type("KVM03")
        assert page.locator("tbody tr:visible").count() == 1
        assert page.locator("#shown-count").inner_text() == "1 of 6"
        for _ in "KVM03":
            page.keyboard.press("Backspace")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.locator("tbody tr:visible th").all_inner_texts() == [
            "qemu+tls://kvm05.example.net/system"
        ]
        page.keyboard.press("Space")
        _press_until(page, "document.activeElement.textContent === 'CPU'")
        page.keyboard.press("Enter")
        assert page.locator("thead th").nth(2).get_attribute("aria-sort") == "descending"
        shares = page.locator("tbody .cpu").evaluate_all("(cells) => cells.map((c) => Number(c.dataset.v))")
        assert shares == sorted(shares, reverse=True)
        page.keyboard.press("Enter")
        shares = page.locator("tbody .cpu").evaluate_all("(cells) => cells.map((c) => Number(c.dataset.v))")
        assert shares == sorted(shares)


def test_it_refreshes_itself_and_keeps_what_was_chosen(browser: Browser, fleet: ServedFleet) -> None:
    """A new answer replaces the numbers; order, filter, focus and the place on the page stay."""
    driver = fleet.drivers["kvm03"]
    before = driver.resources
    try:
        with visit(browser, fleet.url) as visited:
            page = visited.page
            page.get_by_role("button", name="Hypervisor").click()
            page.get_by_label("Filter").fill("example")
            page.locator("tbody a").first.focus()
            page.evaluate("window.isTheSameDocument = true")
            driver.resources = replace(before, vcpus_used=61)
            fleet.pass_time(6)
            page.locator("#auto").uncheck()
            page.locator("#auto").check()  # refreshes at once
            page.get_by_text("61 of 64").first.wait_for()
            assert page.evaluate("window.isTheSameDocument") is True
            names = page.locator("tbody tr:visible th a").all_inner_texts()
            assert names == sorted(names)
            assert page.locator("#filter").input_value() == "example"
            assert visited.errors == []
    finally:
        driver.resources = before
        fleet.pass_time(6)


def test_a_hypervisors_guests_are_one_link_away_and_found_by_any_of_their_names(
    browser: Browser, fleet: ServedFleet
) -> None:
    """By libvirt's name, Nova's, the flavor, the project or the state; those with a fault stand first."""
    with visit(browser, fleet.url) as visited:
        page = visited.page
        page.locator("tbody tr", has_text="kvm01.example.net").get_by_role("link", name="21 active").click()
        page.get_by_role("heading", name="Guests of kvm01.example.net").wait_for()
        assert page.locator("tbody .fault").all_inner_texts() == [
            "paused by an I/O error",
            "shut off by a crash",
        ]
        for text, count in (("0000000E", 1), ("billing-6", 1), ("r1.huge", 5), ("platform", 7), ("user", 1)):
            page.get_by_label("Filter").fill(text)
            assert page.locator("tbody tr:visible").count() == count, text
        page.get_by_label("Filter").fill("")
        page.get_by_label("only those with a fault").check()
        assert page.locator("tbody tr:visible").count() == 2
        page.get_by_label("only those with a fault").uncheck()
        page.get_by_role("button", name="vCPUs").click()
        vcpus = page.locator("tbody td:nth-child(6)").all_inner_texts()
        assert vcpus[0] == "16"
        assert vcpus[-1] == "\N{EN DASH}", "it is not known"
        page.get_by_role("button", name="Project").click()
        assert page.locator("tbody td:nth-child(5)").first.inner_text() == "\N{EN DASH}"
        assert visited.errors == []


def test_the_page_of_guests_refreshes_itself(browser: Browser, fleet: ServedFleet) -> None:
    """It asks for the same hypervisor again."""
    driver = fleet.drivers["kvm01"]
    before = driver.resources
    try:
        with visit(browser, f"{fleet.url}guests?target=kvm01") as visited:
            page = visited.page
            assert page.get_by_text("24 guests, 21 active").is_visible()
            driver.resources = add_guests(before, 25)
            fleet.pass_time(6)
            page.locator("#auto").uncheck()
            page.locator("#auto").check()
            page.get_by_text("25 guests, 22 active").wait_for()
            assert page.locator("tbody tr").count() == 25
            assert visited.errors == []
    finally:
        driver.resources = before
        fleet.pass_time(6)


def test_it_says_when_the_exporter_is_gone(browser: Browser) -> None:
    with serve_fleet(mixed_fleet()) as served, visit(browser, served.url) as visited:
        page = visited.page
        served.close()
        page.locator("#auto").uncheck()
        page.locator("#auto").check()
        page.get_by_text("The exporter does not answer.").wait_for()
        assert page.get_by_role("status").filter(has_text="does not answer").count() == 1


def test_on_paper_the_controls_are_left_out_and_the_bars_are_not(
    browser: Browser, fleet: ServedFleet
) -> None:
    with visit(browser, fleet.url, scheme="dark") as visited:
        page = visited.page
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("nav").is_visible()
        assert not page.locator("#controls").is_visible()
        assert page.locator(".bar .u").first.is_visible()
        assert page.evaluate("getComputedStyle(document.querySelector('.bar')).printColorAdjust") == "exact"
        assert page.pdf(format="A4").startswith(b"%PDF")


def _accessibility_tree(page: Page) -> list[tuple[str, str]]:
    """Return role and name of each node that Chromium tells a screen reader of; a cell's is its text."""
    session = page.context.new_cdp_session(page)
    nodes: dict[str, dict[str, Any]] = {
        node["nodeId"]: node for node in session.send("Accessibility.getFullAXTree")["nodes"]
    }

    def text(node: dict[str, Any]) -> str:
        if node.get("role", {}).get("value") == "StaticText":
            return str(node["name"]["value"])
        return " ".join(filter(None, (text(nodes[child]) for child in node.get("childIds", ()))))

    found = []
    for node in nodes.values():
        if not node.get("ignored"):
            role, name = str(node["role"]["value"]), str(node.get("name", {}).get("value", ""))
            found.append((role, text(node) if role == "cell" else name))
    return [(("cell" if role == "gridcell" else role), name) for role, name in found]


def _press_until(page: Page, condition: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    raise AssertionError(f"never reached by Tab: {condition}")

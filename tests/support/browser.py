"""Debian's Chromium without a window, driven by playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_FLAGS = (
    "--no-sandbox",  # of Chromium's own, which root may not use
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Return the path of the machine's Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Run Chromium with a new profile until the block ends."""
    program = find_browser()
    assert program is not None, "Chromium is missing: scripts/install-packages test installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is looked at, and everything that went wrong or out meanwhile."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: str = "light",
    scripts: bool = True,
) -> Iterator[Visit]:
    """Open the page in a window of this size until the block ends.

    :param scheme: "light" or "dark"
    """
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    visited = Visit(context.new_page())
    page = visited.page
    page.on("console", lambda message: visited.errors.append(message.text))
    page.on("pageerror", lambda error: visited.errors.append(str(error)))
    page.on("request", lambda request: visited.requests.append(request.url))
    page.on("dialog", lambda dialog: visited.errors.append(f"dialog {dialog.message}"))
    page.goto(url)
    try:
        yield visited
    finally:
        context.close()

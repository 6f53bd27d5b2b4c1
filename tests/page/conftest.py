"""A real Chromium, and fleets for it to look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import find_browser, open_browser
from tests.support.served_fleet import ServedFleet, serve_fleet
from tests.support.simulated_hypervisors import mixed_fleet


# Not the session's: playwright keeps an event loop running in the main thread while it is open, and the
# tests after these start loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; `make test` installs it where the distribution has a package of it."""
    if find_browser() is None:
        pytest.skip("Chromium is missing, and the distribution has no package of it that make could install")
    with open_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def fleet() -> Iterator[ServedFleet]:
    """Six hypervisors, of which one does not answer and one has something amiss."""
    with serve_fleet(mixed_fleet()) as served:
        yield served

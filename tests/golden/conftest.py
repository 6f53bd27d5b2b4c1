"""The order of the tests: the golden files are written before any test reads them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let `make golden` write the files first: the other tests are about the new ones."""
    if config.getoption("--update-golden"):
        items.sort(key=lambda item: not item.name.startswith("test_it_is_as_it_was"))

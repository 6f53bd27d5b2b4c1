"""Nova's driver, once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.oracle import NovaOracle, OracleError


@pytest.fixture(scope="session")
def nova() -> Iterator[NovaOracle]:
    """Nova's LibvirtDriver in a process of its own."""
    try:
        with NovaOracle() as oracle:
            yield oracle
    except OracleError as error:
        pytest.fail(str(error), pytrace=False)

"""How `pytest -n` spreads the tests over its workers, and what each of these does besides testing.

A unit is what one worker runs from beginning to end: a file, unless one of the two lists below says
otherwise. Units are handed out in the order of `FIRST`; whoever is about to end one gets the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Files that share what takes minutes to make: the fleet of tests/fleet/conftest.py, and buildah's store.
TOGETHER = (
    ("tests/fleet/test_alerts.py", "tests/fleet/test_scale_out.py", "tests/fleet/test_shards.py"),
    (
        "tests/packaging/test_deb.py",
        "tests/packaging/test_ansible.py",
        "tests/packaging/test_image.py",
        "tests/packaging/test_ssh.py",
    ),
)

# Files whose tests share nothing, and take so long that each is a unit.
APART = (
    "tests/faults/test_clients.py",
    "tests/faults/test_frozen_guests.py",
    "tests/faults/test_guest_statistics.py",
    "tests/faults/test_guest_statistics_while_frozen.py",
    "tests/faults/test_guest_values.py",
    "tests/faults/test_guests.py",
    "tests/faults/test_images.py",
    "tests/faults/test_libvirtd.py",
    "tests/faults/test_modular_daemons.py",
    "tests/faults/test_network.py",
    "tests/faults/test_reload.py",
)

# What is handed out first. Frozen guests: no scrape may take longer than half a second beside them, and their
# tests wait rather than work, so that they disturb each other little. Then what takes longest by itself, so
# that nobody waits for it in the end, and then the other faults, which have seconds.
FIRST = (
    "tests/faults/test_which_calls_wait.py",
    "tests/faults/test_frozen_guests.py",
    "tests/packaging/test_deb.py",
    "tests/fleet/test_alerts.py",
    "tests/faults/",
    "tests/engines/",
    "tests/packaging/",
)


def unit_of(test: str) -> str:
    """Return the unit that a test belongs to, by its node ID."""
    path = test.partition("::")[0]
    for files in TOGETHER:
        if path in files:
            return files[0]
    return test if path in APART else path


def rank_of(test: str) -> int:
    """Return the place of a test's unit among the others: the lowest comes first."""
    unit = unit_of(test)
    return next((rank for rank, prefix in enumerate(FIRST) if unit.startswith(prefix)), len(FIRST))


class Spreading:
    """A plugin of the process that hands out the tests."""

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Units | None:
        """Spread as this module says, unless `--dist` says otherwise."""
        return Units(config, log) if config.getoption("dist") == "load" else None


class Units(LoadScopeScheduling):  # type: ignore[misc] # xdist is not there in every environment
    """Hands out units, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # that order would be: most tests first

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


class Worker:
    """A plugin of a process that tests."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the units in their order. Within one the tests stay in theirs."""
        items.sort(key=lambda item: rank_of(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Iterator[Any]:
        """Have nothing in a report that is no UTF-8: a worker that has to send such a thing ends."""
        return printable((yield))


def printable(value: Any) -> Any:
    r"""Return a report's content with each character that UTF-8 lacks written out: "\udce9"."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return type(value)(printable(each) for each in value)
    return value

"""A test that takes long is named while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# Time passes for these tests when they say so, so that none takes long because the machine is busy.
CONFTEST = """
import pytest
from tests.support.heartbeat import Heartbeat
from tests.support.hosts import Clock

CLOCK = Clock()

def pytest_configure(config):
    config.pluginmanager.register(Heartbeat(seconds=0.25, clock=CLOCK))

@pytest.fixture
def clock():
    return CLOCK
"""

TESTS = """
from pathlib import Path
from tests.support.waiting import wait_until

def test_quick(clock):
    clock.now += 0.2

def test_slow(clock):
    clock.now += 0.3
    wait_until(lambda: "at it for" in Path(__file__).with_name("said").read_text(), "a sign of life")

def test_quick_again(clock):
    clock.now += 0.2
"""


def test_a_test_that_takes_long_is_named_and_a_quick_one_is_not(tmp_path: Path) -> None:
    """Shows that nobody who watches the run is left without a word."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    with (tmp_path / "said").open("w") as said:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
            cwd=CHECKOUT,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # to load all takes long
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
    lines = (tmp_path / "said").read_text().splitlines()
    assert run.returncode == 0, lines
    (named,) = [line for line in lines if line.startswith("    at it for ")]
    assert named.endswith("test_slow")

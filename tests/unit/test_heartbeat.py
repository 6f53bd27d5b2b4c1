"""A test that takes long is named while it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

CONFTEST = """
from tests.support.heartbeat import Heartbeat

def pytest_configure(config):
    config.pluginmanager.register(Heartbeat(seconds=0.2))
"""


def test_a_test_that_takes_long_is_named_and_a_quick_one_is_not(tmp_path: Path) -> None:
    """Shows that nobody who watches the run is left without a word."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_quick(): pass\ndef test_slow(): time.sleep(1)\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    named = [line for line in run.stdout.splitlines() if line.startswith("    at it for ")]
    assert named
    assert all(line.endswith("test_slow") for line in named)

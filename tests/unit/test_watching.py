"""A promise of seconds is held beside others that keep the machine busy, and means something there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.watching import Stopwatch

PRESSURE = Path("/proc/pressure/cpu")


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """More that wants a CPU than there are CPUs."""
    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        time.sleep(0.3)
        yield


@pytest.mark.usefixtures("busy_machine")
def test_that_others_want_the_cpus_excuses_nobody_who_waits_for_something_else() -> None:
    """Shows that a second of sleep counts, though for all of it some task waited for a CPU."""
    watch = Stopwatch(os.getpid())
    time.sleep(1)
    assert watch.undisturbed > 0.7


@pytest.mark.skipif(not PRESSURE.exists(), reason="this kernel does not tell pressure (CONFIG_PSI)")
@pytest.mark.usefixtures("busy_machine")
def test_what_had_to_wait_for_a_cpu_is_excused() -> None:
    """Shows that work that gets a part of a CPU only is not taken for slow."""
    watch = Stopwatch(os.getpid())
    worked = time.process_time()
    while time.process_time() - worked < 0.3:
        pass
    assert watch.undisturbed < watch.seconds
    assert watch.undisturbed < 0.6

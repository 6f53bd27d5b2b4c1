"""scripts/install-packages, and how it keeps whoever waits informed; apt is played."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import path_with, write_program
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
QUIETLY = CHECKOUT / "scripts/quietly"


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """A directory of programs: a distribution that has installed nothing and offers all but Chromium.

    What apt-get is told stands in its file "told".
    """
    write_program(tmp_path, "dpkg-query", "exit 1")
    write_program(tmp_path, "sudo", '[ "$1" = --non-interactive ] && shift; exec "$@"')
    write_program(tmp_path, "apt-get", f'echo "$*" >> {tmp_path}/told')
    write_program(tmp_path, "apt-cache", '[ "$2" = chromium ] || printf "$2:\\n  Candidate: 1.0-1\\n"')
    return tmp_path


def install(apt: Path, *sets: str) -> str:
    """Return what the script says."""
    done = subprocess.run(
        [CHECKOUT / "scripts/install-packages", *sets],
        env={"PATH": path_with(apt)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_browser_that_the_distribution_lacks_is_left_out_and_named(apt: Path) -> None:
    """Shows that Ubuntu, which has no deb of Chromium, gets all else."""
    said = install(apt, "test")
    assert "==> Left out, since apt here has no such package: chromium\n" in said
    installed = (apt / "told").read_text().splitlines()[-1].split()
    assert {"install", "libvirt-daemon-system", "python3-nova"} <= set(installed)
    assert "chromium" not in installed


def test_what_nothing_works_without_is_not_left_out(apt: Path) -> None:
    """Shows that apt is asked for a compiler although it offers none: its answer is better than silence."""
    write_program(apt, "apt-cache", "exit 1")
    assert "Left out" not in install(apt, "run")
    assert "gcc" in (apt / "told").read_text().splitlines()[-1].split()


def test_what_is_there_is_not_installed_again(apt: Path) -> None:
    """Shows that the second make asks apt for nothing."""
    write_program(apt, "dpkg-query", "printf installed")
    assert install(apt, "test", "lint") == ""
    assert not (apt / "told").exists()


def test_a_command_that_takes_long_says_what_it_is_at() -> None:
    """Shows that the last line is shown while the command runs, and no other."""
    quick = QUIETLY.read_text().replace("first=5", "first=1")
    said = subprocess.run(
        ["bash", "-c", quick, QUIETLY, "sh", "-c", "printf 'old\\nUnpacking libvirt\\n'; sleep 2.5"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search(r"^    [12] s: Unpacking libvirt$", said.stdout, re.MULTILINE)
    assert "old" not in said.stdout


def test_how_long_it_takes_is_told_by_the_clock(tmp_path: Path) -> None:
    """Shows it with a sleep that takes six times as long, as on a busy machine: a line comes all the same."""
    write_program(tmp_path, "sleep", "exec sleep 6")
    said = subprocess.run(
        [QUIETLY, "/bin/sleep", "7.5"],
        env={"PATH": path_with(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.fullmatch(r"    [67] s: it has said nothing so far\n", said.stdout)


def test_a_command_that_is_interrupted_says_nothing(tmp_path: Path) -> None:
    """Shows that what pip says to Ctrl-C is not called a failure, and that the caller sees what ended it."""
    begun = tmp_path / "begun"
    script = f"""
import pathlib, sys, time
try:
    pathlib.Path({str(begun)!r}).touch()
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit("cancelled")
"""
    # A shell without job control has what runs in the background ignore SIGINT, which may be these tests.
    with subprocess.Popen(
        ["env", "--default-signal=INT", QUIETLY, sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(begun.exists, "the command to run")
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_a_command_that_fails_is_heard_whole() -> None:
    """Shows that all that it said is there, what it was, and its status."""
    failed = subprocess.run(
        [QUIETLY, "sh", "-c", "echo one; echo two >&2; exit 7"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert failed.returncode == 7
    assert failed.stderr.splitlines()[:2] == ["one", "two"]
    assert failed.stderr.splitlines()[2].startswith("Failed: sh -c ")

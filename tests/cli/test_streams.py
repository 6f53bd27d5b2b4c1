"""Standard input, output and error that are closed, full, or a pipe without a reader."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
PRINTING = {
    "once": ["--once", "--libvirt.uri=test:///default", "--log.level=error"],
    "table": ["--once", "--libvirt.uri=test:///default", "--log.level=error", "--format=table"],
    "help": ["--help"],
    "version": ["--version"],
    "check": ["--config.check"],
}
WRONG = {"flag": ["--bad"], "file": ["--config.file=/nonexistent"]}


def run(flags: list[str], redirections: str) -> subprocess.CompletedProcess[str]:
    """Run the command by a shell, which can close what it hands over."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-m", "exporter", *flags],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirections", "reason"),
    [
        (">&-", "Bad file descriptor"),
        ("<&- >&-", "Bad file descriptor"),
        (">/dev/full", "No space left on device"),
    ],
)
@pytest.mark.parametrize("flags", PRINTING.values(), ids=PRINTING.keys())
def test_an_output_that_is_lost_is_one_line_and_a_failure(
    flags: list[str], redirections: str, reason: str
) -> None:
    result = run(flags, redirections)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"cannot write to standard output: {reason}\n"


@pytest.mark.parametrize("flags", PRINTING.values(), ids=PRINTING.keys())
def test_a_pipe_without_a_reader_is_one_line_and_a_failure(flags: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "exporter", *flags],
        cwd=CHECKOUT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "cannot write to standard output: Broken pipe\n")


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", ">&- 2>/dev/full"])
@pytest.mark.parametrize("flags", PRINTING.values(), ids=PRINTING.keys())
def test_an_output_that_is_lost_is_a_failure_where_no_line_can_say_so(
    flags: list[str], redirections: str
) -> None:
    result = run(flags, redirections)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


@pytest.mark.parametrize("redirections", ["<&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("flags", PRINTING.values(), ids=PRINTING.keys())
def test_an_output_that_is_there_is_complete(flags: list[str], redirections: str) -> None:
    """Whatever else is closed: nothing for standard error gets into it."""
    result = run(flags, redirections)
    whole = run(flags, "")
    assert (result.returncode, whole.returncode) == (0, 0)

    def shape(text: str) -> str:
        return re.sub(r"[\d.e+-]+", "0", text)

    assert shape(result.stdout) == shape(whole.stdout)
    assert (result.stderr, whole.stderr) == ("", "")


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("flags", WRONG.values(), ids=WRONG.keys())
def test_a_mistake_that_cannot_be_told_is_a_failure(flags: list[str], redirections: str) -> None:
    """Above all, it is not told on standard output."""
    result = run(flags, redirections)
    assert (result.returncode, result.stdout) == (2 if flags == ["--bad"] else 1, "")


def test_it_serves_without_any_of_them_and_its_log_gets_into_no_socket() -> None:
    """A socket would get the number 2, to which libraries write, and the log too."""
    port = find_free_port()
    flags = ["--libvirt.uri=test:///default", f"--web.listen-address=127.0.0.1:{port}"]
    shell = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "exporter"]
    process = subprocess.Popen([*shell, *flags], cwd=CHECKOUT)

    def scrape() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
                text: str = response.read().decode()
                return text
        except OSError:
            assert process.poll() is None
            return ""

    try:
        assert 'hypervisor_up{target="test:///default"} 1.0' in wait_until(scrape, "a scrape")
        opened = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
        assert opened == 3 * [Path("/dev/null")]
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0

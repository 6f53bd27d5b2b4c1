"""A storage command that hangs: it ends with the exporter, or when its hypervisor is removed.

A shell script stands in for `ceph`. It starts children in groups and sessions of their own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter_process import serve
from tests.support.programs import find_marked, path_with, write_program
from tests.support.waiting import wait_until

MARK = "HX_TEST_MARK"
CHECKOUT = Path(__file__).resolve().parents[2]
HANGS = "touch {}/started; timeout 1000 sleep 1000 & setsid --wait sleep 1000"
RBD = {"images_type": "rbd", "images_rbd_pool": "vms"}
# The test driver's hypervisor has no storage pool.
HYPERVISOR = {"name": "kvm", "uri": "test:///default", **RBD}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a `ceph` that hangs."""
    write_program(tmp_path, "ceph", HANGS.format(tmp_path))
    monkeypatch.setenv("PATH", path_with(tmp_path))
    monkeypatch.setenv(MARK, str(tmp_path))
    yield tmp_path
    for process in find_marked(MARK, str(tmp_path)):
        os.kill(process, signal.SIGKILL)


def list_commands(programs: Path, *, but: int) -> list[int]:
    return [each for each in find_marked(MARK, str(programs)) if each != but]


def wait_until_gone(programs: Path, *, but: int = 0) -> None:
    wait_until(lambda: not list_commands(programs, but=but), "the command to end", seconds=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_ends_with_the_exporter(programs: Path, number: signal.Signals) -> None:
    with serve({"hypervisors": [HYPERVISOR]}) as exporter:
        exporter.scrape()
        pid = exporter.process.pid
        assert len(list_commands(programs, but=pid)) == 4, "the script, timeout, and each one's sleep"
        exporter.process.send_signal(number)
        assert exporter.process.wait(timeout=20) == 0
        wait_until_gone(programs)


@pytest.mark.parametrize(
    "changed",
    [{"uri": "test:///default"}, {"name": "other", "uri": f"test://{CHECKOUT}/deploy/demo/hypervisor.xml"}],
    ids=["another-storage", "another-hypervisor"],
)
def test_a_command_ends_when_a_reload_takes_its_hypervisor_away(
    programs: Path, changed: dict[str, Any]
) -> None:
    with serve({"hypervisors": [HYPERVISOR], "cache_ttl": "0s"}) as exporter:
        exporter.scrape()
        pid = exporter.process.pid
        assert list_commands(programs, but=pid)
        exporter.reload({"hypervisors": [changed]})
        exporter.scrape()
        wait_until_gone(programs, but=pid)


# A shell starts a program in the background with SIGINT ignored, and all that it starts inherits that.
NOTHING_IGNORED = ["env", "--default-signal=INT,HUP,TERM"]


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_command_ends_with_once(programs: Path, number: int) -> None:
    """Shows that an interrupted `--once` ends by that signal, as other programs do, and leaves nothing."""
    config = programs / "config.yaml"
    config.write_text(f"hypervisors: [{HYPERVISOR}]")
    process = subprocess.Popen(
        [*NOTHING_IGNORED, sys.executable, "-m", "exporter", "--once", "--config.file", str(config)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((programs / "started").exists, "the command to run")
    if number:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (-number if number else 1)
    assert "Traceback" not in stderr
    wait_until_gone(programs)


def test_a_command_ends_with_an_exporter_that_cannot_listen(programs: Path) -> None:
    """Another program began to listen on the port during the first audit."""
    config = programs / "config.yaml"
    config.write_text(f"hypervisors: [{HYPERVISOR}]")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        address = f"--web.listen-address=127.0.0.1:{other.getsockname()[1]}"
        command = [sys.executable, "-m", "exporter", "--config.file", str(config), address]
        with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
            wait_until((programs / "started").exists, "the command to run")
            other.listen()
            _, log = process.communicate(timeout=60)
    assert (process.returncode, "cannot listen: Address already in use" in log) == (1, True)
    wait_until_gone(programs)


def test_once_ignores_what_its_caller_ignores(programs: Path) -> None:
    """As under nohup."""
    write_program(programs, "ceph", 'kill -HUP "$PPID"; echo no answer >&2; exit 1')
    config = programs / "config.yaml"
    config.write_text(f"hypervisors: [{HYPERVISOR}]")
    command = [sys.executable, "-m", "exporter", "--once", "--config.file", str(config)]
    shell = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    result = subprocess.run(
        [*shell, *command], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert 'hypervisor_up{target="kvm"} 0.0' in result.stdout

"""Addresses to listen on that someone else has, or that are none."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.web.served import start

_CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_path_whose_owner_accepts_nobody_does_not_hang_the_start(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as owner, socket.socket(socket.AF_UNIX) as waits:
        owner.bind(str(path))
        owner.listen(0)
        waits.connect(str(path))  # now nobody else can, without waiting
        process = start(
            tmp_path / "log", "--libvirt.uri=test:///default", f"--web.listen-address=unix:{path}"
        )
        try:
            assert process.wait(timeout=30) == 1
        finally:
            process.kill()
            process.wait(timeout=10)
    assert "cannot listen" in (tmp_path / "log").read_text()
    assert path.exists()


def test_the_group_may_connect_whatever_the_umask(tmp_path: Path) -> None:
    """The packaged unit's is 0077."""
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "exporter", "--libvirt.uri=test:///default"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=unix:{path}"],
        cwd=_CHECKOUT,
        stderr=subprocess.DEVNULL,
        umask=0o077,
    )
    try:
        wait_until(path.exists, "the socket")
        wait_until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o660, "its mode", seconds=10)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".a", f"a.{'b' * 64}.c"])
def test_a_host_name_that_can_be_none_is_a_mistake(host: str) -> None:
    command = [sys.executable, "-m", "exporter", f"--web.listen-address={host}:9177"]
    for check in ([], ["--config.check"]):
        result = subprocess.run(
            [*command, *check],
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert "between its dots" in result.stderr

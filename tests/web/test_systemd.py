"""What systemd hands over and is told: sockets, readiness, the watchdog."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.loopback import find_free_port
from tests.web.served import start

CHECKOUT = Path(__file__).resolve().parents[2]


def test_it_serves_on_the_socket_that_systemd_hands_over(tmp_path: Path) -> None:
    """systemd's own stand-in for a socket unit starts the exporter with the first connection."""
    port = find_free_port()
    command = [
        "systemd-socket-activate",
        f"--listen=127.0.0.1:{port}",
        f"--setenv=PYTHONPATH={CHECKOUT}",
        *(sys.executable, "-m", "exporter", "--libvirt.uri=test:///default", "--web.systemd-socket"),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/-/healthy"
        curl = ["curl", "--silent", "--max-time", "15", "--retry", "5", "--retry-connrefused", url]
        answer = subprocess.run(curl, capture_output=True, text=True, check=False, timeout=60)
        assert answer.stdout == "Healthy\n", (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait(timeout=10)


def test_without_a_handed_over_socket_it_says_what_is_missing(tmp_path: Path) -> None:
    """One line, and not a port that nobody asked for."""
    log = tmp_path / "log"
    process = start(log, "--libvirt.uri=test:///default", "--web.systemd-socket")
    assert process.wait(timeout=20) == 1
    assert "systemd passed no socket" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_service_manager_is_told_of_start_life_and_end(tmp_path: Path) -> None:
    """READY comes after the port is open, WATCHDOG while it lives, STOPPING when it is told to stop."""
    address = str(tmp_path / "notify")
    port = find_free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        command = [sys.executable, "-m", "exporter", "--libvirt.uri=test:///default"]
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"],
            cwd=CHECKOUT,
            env={**os.environ, "NOTIFY_SOCKET": address},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                pass
            assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            process.send_signal(signal.SIGTERM)
            heard = b""
            while heard != b"STOPPING=1":
                heard = manager.recv(100)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()
            process.wait(timeout=10)


def test_it_serves_on_a_unix_socket_and_takes_over_one_that_was_left(tmp_path: Path) -> None:
    """A path that a killed exporter left behind does not keep the next one from starting."""
    path = tmp_path / "exporter.sock"
    for _ in range(2):
        process = start(
            tmp_path / "log", "--libvirt.uri=test:///default", f"--web.listen-address=unix:{path}"
        )
        try:
            curl = ["curl", "--silent", "--max-time", "10", "--retry", "20", "--retry-all-errors"]
            command = [*curl, "--retry-delay", "1", "--unix-socket", path, "http://localhost/-/healthy"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert answer.stdout == "Healthy\n", (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait(timeout=10)
    assert path.is_socket()

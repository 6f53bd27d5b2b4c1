"""A log that nobody reads: the other end of its pipe is open, and full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

_CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_log_that_nobody_reads_stops_neither_scrapes_nor_the_end() -> None:
    """Each SIGHUP is a line that cannot be written. When somebody reads again, the lines come."""
    port = find_free_port()
    reads, writes = os.pipe()
    flags = ["--libvirt.uri=test:///default", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen([sys.executable, "-m", "exporter", *flags], cwd=_CHECKOUT, stderr=writes)
    try:
        wait_until(lambda: get(port, "/-/ready"), "the exporter to listen")
        fill(writes)
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            for path in ("/-/healthy", "/metrics", "/"):
                assert get(port, path)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not get(port, "/-/ready"), "the end to begin", seconds=10)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait(timeout=10)
        os.close(reads)
        os.close(writes)


def fill(pipe: int) -> None:
    """Write until the pipe takes no more."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, b"x" * 512):
            pass
    os.set_blocking(pipe, True)


def get(port: int, path: str) -> bytes:
    """Return what is answered, or nothing where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            body: bytes = response.read()
            return body
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            return b""
        raise
    except ConnectionError:
        return b""

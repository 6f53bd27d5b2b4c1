"""Reloads that are asked for without end, on a configuration that hangs, and by a foreign page."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

from tests.attacks.clients import TEST_DRIVER, get_port, many_connections
from tests.support.exporter_process import serve
from tests.support.waiting import wait_until

RELOAD = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def test_reloads_of_a_configuration_that_hangs_keep_nobody_out() -> None:
    """A dead mount looks like a pipe without a writer: whoever opens it waits. SIGHUP and 400 clients do."""
    with serve({"hypervisors": TEST_DRIVER}) as exporter:
        settings = exporter.config.read_text()
        exporter.config.unlink()
        os.mkfifo(exporter.config)
        threads = count_threads(exporter.process.pid)
        for _ in range(20):
            exporter.process.send_signal(signal.SIGHUP)
        with many_connections(get_port(exporter), 400, RELOAD):
            for _ in range(5):
                assert exporter.get("/-/healthy", seconds=10) == "Healthy\n"
                assert exporter.scrape(seconds=10).value("hypervisor_up") == 1
            assert count_threads(exporter.process.pid) <= threads + 4
            # The mount is back: one that was under way and one that waited, for all who asked.
            for count in (1, 2):
                write_to_pipe(exporter.config, settings)
                wait_until(lambda n=count: exporter.log.count("configuration reloaded") == n, "a reload")
        assert exporter.scrape(seconds=10).value("hypervisor_exporter_config_last_reload_successful") == 1


def test_a_configuration_that_hangs_for_ever_does_not_stop_later_reloads() -> None:
    """It takes 30 s until the first read is given up."""
    with serve({"hypervisors": TEST_DRIVER}) as exporter:
        settings = exporter.config.read_text()
        exporter.config.unlink()
        os.mkfifo(exporter.config)
        exporter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "it is still being read since" in exporter.log, "the error", seconds=50)
        assert "level=error" in exporter.log
        assert exporter.scrape().value("hypervisor_exporter_config_last_reload_successful") == 0
        exporter.config.unlink()
        exporter.config.write_text(settings)
        assert post(get_port(exporter), b"X-Curl: yes") == 200
        assert exporter.scrape().value("hypervisor_exporter_config_last_reload_successful") == 1
        # On a busy machine the hypervisor may be late at first; that is an error of another module.
        errors = re.findall(".*level=error source=exporter.reload .*", exporter.log)
        assert ["it is still being read since" in line for line in errors] == [True], exporter.log


def test_a_foreign_page_cannot_have_it_reload() -> None:
    with serve({"hypervisors": TEST_DRIVER}) as exporter:
        port = get_port(exporter)
        own = f"http://x:{port}".encode()
        assert post(port, b"Sec-Fetch-Site: cross-site") == 403
        assert post(port, b"Sec-Fetch-Site: same-site") == 403
        assert post(port, b"Origin: http://evil.example") == 403
        assert post(port, b"Origin: null") == 403
        assert "configuration reloaded" not in exporter.log
        assert post(port, b"Origin: " + own) == 200
        assert post(port, b"Sec-Fetch-Site: same-origin\r\nOrigin: " + own) == 200
        assert post(port, b"X-Curl: yes") == 200


def post(port: int, header: bytes) -> int:
    """Return the status of a reload that is asked for with this header."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        host = b"Host: x:%d\r\n" % port
        client.sendall(RELOAD.replace(b"Host: x\r\n", host + header + b"\r\n"))
        return int(client.recv(1000).split()[1])


def write_to_pipe(path: Path, text: str) -> None:
    """Give one reader what it waits for."""
    with contextlib.suppress(BrokenPipeError):
        path.write_text(text)


def count_threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))

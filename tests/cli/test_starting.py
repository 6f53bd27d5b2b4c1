"""How it starts, in Nova's order: the first audit, with a deadline, and only then the open port."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.test_command import CHECKOUT
from tests.support.exporter_process import Scrape
from tests.support.hung_mount import hung_mount, needs_hung_mount
from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class SilentDaemon:
    """Somebody who takes connections to libvirt and says nothing on them."""

    listener: socket.socket
    path: Path

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.path}"

    def accept(self) -> socket.socket:
        """Return the next connection, once there is one."""
        self.listener.settimeout(20)
        connection, _ = self.listener.accept()
        return connection


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[SilentDaemon]:
    with socket.socket(socket.AF_UNIX) as listener:
        path = tmp_path / "s"
        listener.bind(str(path))
        listener.listen()
        yield SilentDaemon(listener, path)


@dataclass(frozen=True)
class Started:
    """An exporter that may not listen yet."""

    port: int
    log: Path

    def listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def scrape(self) -> Scrape:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as response:
            return Scrape(text=response.read().decode())


@contextlib.contextmanager
def started(folder: Path, *uris: str, scrape_timeout: str) -> Iterator[Started]:
    """Run an exporter, and do not wait for anything."""
    port = find_free_port()
    config, log = folder / "config.yaml", folder / "log"
    hypervisors = [{"name": f"kvm0{number}", "uri": uri} for number, uri in enumerate(uris, start=1)]
    # On a busy machine, the first scrape may come long after the audit.
    settings = {"scrape_timeout": scrape_timeout, "cache_ttl": "1m", "hypervisors": hypervisors}
    config.write_text(json.dumps(settings))
    flags = ["--config.file", str(config), "--web.listen-address", f"127.0.0.1:{port}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "exporter", *flags], cwd=CHECKOUT, stderr=stderr)
    try:
        yield Started(port, log)
    finally:
        process.kill()
        process.wait(timeout=20)


def test_the_port_opens_when_the_first_audit_is_over(silent: SilentDaemon, tmp_path: Path) -> None:
    """While a hypervisor has not answered nobody gets in; once it has, the first scrape finds its numbers."""
    with started(tmp_path, "test:///default", silent.uri, scrape_timeout="1h") as exporter:
        connection = silent.accept()  # the audit is under way
        assert not exporter.listens()
        connection.close()
        silent.listener.close()
        wait_until(exporter.listens, "the port to open")
        scrape = exporter.scrape()
    log = exporter.log.read_text()
    assert log.index("hypervisor resource view") < log.index("msg=listening")
    assert scrape.value("hypervisor_up", target="kvm01") == 1
    assert scrape.value("hypervisor_cache_hits_total", target="kvm01") == 1
    assert scrape.value("hypervisor_up", target="kvm02") == 0


def test_the_first_scrape_has_what_scrapes_do_not_wait_for(tmp_path: Path) -> None:
    """Shows that the disk numbers do not change a few seconds after the start: libvirt knows these images."""
    uri = f"test://{CHECKOUT}/deploy/demo/hypervisor.xml"
    with started(tmp_path, uri, scrape_timeout="1h") as exporter:
        wait_until(exporter.listens, "the port to open")
        scrape = exporter.scrape()
    assert scrape.value("hypervisor_unsized_disks") == 0
    assert scrape.value("hypervisor_disk_available_least") == 28


def test_the_first_audit_has_a_deadline(silent: SilentDaemon, tmp_path: Path) -> None:
    """A libvirtd that takes connections and answers nothing keeps no port closed."""
    with (
        started(tmp_path, "test:///default", silent.uri, scrape_timeout="1s") as exporter,
        silent.accept(),
    ):
        wait_until(exporter.listens, "the port to open")
        scrape = exporter.scrape()
    assert scrape.value("hypervisor_up", target="kvm01") == 1
    assert scrape.value("hypervisor_up", target="kvm02") == 0
    assert scrape.value("hypervisor_refresh_errors_total", target="kvm02", reason="timeout") == 1


def test_the_first_audit_is_not_waited_for_to_its_end(silent: SilentDaemon, tmp_path: Path) -> None:
    """Shows that the port opens within seconds, whatever scrape_timeout is and whoever does not answer."""
    with (
        started(tmp_path, "test:///default", silent.uri, scrape_timeout="1h") as exporter,
        silent.accept(),
    ):
        wait_until(exporter.listens, "the port to open")
        wait_until(lambda: "hypervisor resource view" in exporter.log.read_text(), "the other one's numbers")


def test_an_absent_libvirtd_delays_nothing(tmp_path: Path) -> None:
    """The deadline of an hour is not waited for: that nobody is there is known at once."""
    absent = f"qemu:///system?socket={tmp_path}/absent"
    with started(tmp_path, absent, "test:///default", scrape_timeout="1h") as exporter:
        wait_until(exporter.listens, "the port to open")
        scrape = exporter.scrape()
    assert scrape.value("hypervisor_up", target="kvm01") == 0
    assert scrape.value("hypervisor_refresh_errors_total", target="kvm01", reason="connect") >= 1
    assert scrape.value("hypervisor_up", target="kvm02") == 1


def test_a_remote_hypervisor_that_is_down_is_not_tried_by_each_scrape(tmp_path: Path) -> None:
    """Shows that a local one is: to try its socket costs almost nothing."""
    remote, local = f"qemu+tcp://127.0.0.1:{find_free_port()}/system", "qemu:///system?socket=/nonexistent/s"
    with started(tmp_path, remote, local, scrape_timeout="1h") as exporter:
        wait_until(exporter.listens, "the port to open")
        for _ in range(20):
            scrape = exporter.scrape()
    assert scrape.value("hypervisor_refresh_errors_total", target="kvm01", reason="connect") < 10
    assert scrape.value("hypervisor_refresh_errors_total", target="kvm02", reason="connect") >= 20


@needs_hung_mount
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped_while_an_address_is_being_opened(tmp_path: Path, number: signal.Signals) -> None:
    """A name server that does not answer would do the same; here it is the file system of a path."""
    with hung_mount(tmp_path):
        address = f"--web.listen-address=unix:{tmp_path}/socket"
        command = [sys.executable, "-m", "exporter", "--libvirt.uri=test:///default", address]
        with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(
                    lambda: is_caught(signal.SIGTERM, process.pid), "it to be about to open the address"
                )
                process.send_signal(number)
                _, log = process.communicate(timeout=20)
            finally:
                process.kill()
        assert (process.returncode, "stopping" in log, "listening" in log) == (0, True, False)


def is_caught(number: signal.Signals, process: int) -> bool:
    """Whether a process has a handler for the signal."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], base=16)
    return bool(caught >> (number - 1) & 1)

"""The exporter under attack: what it watches, who may ask it, its unread log, and its changing files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from bench.attackers import INSIDER
from bench.many_hypervisors import node_xml
from tests.support.loopback import find_free_port
from tests.web.authority import Authority

_CHECKOUT = Path(__file__).resolve().parent.parent
USER, PASSWORD = "prometheus", "the right password"
_BCRYPT_COST = 10  # htpasswd's default is 5; exporter-toolkit's documentation has 10
WELL, HUNG, REFUSING = 50, 50, 10
_START_SECONDS = 60.0
_DRAIN_SECONDS = 3.0


@dataclass(frozen=True)
class Look:
    """The exporter's process at one moment.

    :ivar at: seconds since the beginning
    """

    at: float
    descriptors: int
    threads: int
    memory_mib: float


@dataclass(frozen=True)
class LeftLog:
    """What was still waiting for a reader of the log.

    :ivar dropped: how many lines were counted instead of written
    """

    read_bytes: int
    dropped: int


class AttackedExporter:
    """A running exporter whose log nobody reads.

    :ivar port: of 127.0.0.1
    :ivar authority: the file with the certificate that a client needs
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, authority: Path, log: int) -> None:
        self.process = process
        self.port = port
        self.authority = authority
        self._log = log

    def look(self, at: float) -> Look:
        """Return what the process uses now."""
        process = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Look(
            at=at,
            descriptors=len(list((process / "fd").iterdir())),
            threads=int(status["Threads"]),
            memory_mib=int(status["VmRSS"].split()[0]) / 1024,
        )

    def read_log(self) -> LeftLog:
        """Read at last what waits to be read. Lines that come meanwhile are few: 20 a second."""
        text, over = b"", time.monotonic() + _DRAIN_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._log, selectors.EVENT_READ)
            while selector.select(max(0.0, over - time.monotonic())):
                if not (read := os.read(self._log, 65536)):
                    break
                text += read
        lines = text.lstrip(b"#")
        dropped = sum(map(int, re.findall(rb"dropped.* lines=(\d+)", lines)))
        return LeftLog(read_bytes=len(lines), dropped=dropped)


@contextlib.contextmanager
def serve_attacked(directory: Path) -> Iterator[AttackedExporter]:
    """Run an exporter with TLS and two users until the block ends; its configuration changes all the time."""
    authority = Authority(directory)
    authority.issue("server", "localhost")
    web, config = directory / "web.yml", directory / "config.yaml"
    _write_web(web)
    with _hung_port() as hung, contextlib.ExitStack() as stack:
        settings = _make_settings(directory, hung)
        config.write_text(json.dumps(settings))
        port, (log, stderr) = find_free_port(), os.pipe()
        stack.callback(os.close, log)
        flags = [f"--config.file={config}", f"--web.config.file={web}"]
        command = [sys.executable, "-m", "bench.named_exporter", *flags]
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=_CHECKOUT, stderr=stderr
        )
        try:
            _wait_until_it_listens(log)
            _fill(stderr)
            os.close(stderr)
            with _reloads(process, config, web, settings):
                yield AttackedExporter(process, port, authority.certificate, log)
        finally:
            process.kill()
            process.wait(timeout=10)


def _write_web(path: Path) -> None:
    """Write a web configuration with TLS, a user for Prometheus and one whose password the attackers have."""
    users = {
        user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()
        for user, password in ((USER, PASSWORD), INSIDER)
    }
    tls = {"cert_file": "server.crt", "key_file": "server.key"}
    path.write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": users}))


def _make_settings(directory: Path, hung: int) -> dict[str, Any]:
    """Return a configuration with hypervisors that are well, hung and down, and with modules for any number.

    :param hung: a port whose listener never says anything
    """
    hypervisors = []
    for number in range(WELL):
        file = directory / f"well{number:02d}.xml"
        file.write_text(node_xml([]))
        hypervisors.append({"name": file.stem, "uri": f"test://{file}", "instances_path": str(directory)})
    down = find_free_port()
    for name, count, port in (("hung", HUNG, hung), ("down", REFUSING, down)):
        hypervisors += [
            {"name": f"{name}{number:02d}", "uri": f"qemu+tcp://127.0.1.{number + 1}:{port}/system"}
            for number in range(count)
        ]
    modules = {
        name: {"uri": f"qemu+tcp://{{target}}:{port}/system", "target": r"127\.[0-9.]+"}
        for name, port in (("hung", hung), ("down", down))
    }
    return {"hypervisors": hypervisors, "modules": modules}


@contextlib.contextmanager
def _hung_port() -> Iterator[int]:
    """Accept all connections to a port, of every address of this machine, and say nothing to anybody."""
    listener = socket.create_server(("", 0), backlog=1024)
    accepted: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # until it is shut down
            while True:
                accepted.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in (listener, *accepted):
            each.close()


def _wait_until_it_listens(log: int) -> None:
    text, over = b"", time.monotonic() + _START_SECONDS
    while b"msg=listening" not in text:
        read = os.read(log, 65536)
        text += read
        if not read or time.monotonic() > over:
            raise RuntimeError(f"the exporter does not listen: {text.decode()}")


def _fill(pipe: int) -> None:
    """Write until the pipe takes no more."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, b"#" * 512):
            pass
    os.set_blocking(pipe, True)


@contextlib.contextmanager
def _reloads(
    process: subprocess.Popen[bytes], config: Path, web: Path, settings: dict[str, Any]
) -> Iterator[None]:
    """Change the files and send SIGHUP all the time. Every second configuration has a mistake."""
    is_over = threading.Event()

    def reload() -> None:
        for text in itertools.cycle(_make_variants(settings)):
            for _ in range(random.randint(1, 5)):
                process.send_signal(signal.SIGHUP)
            if is_over.wait(random.uniform(0.2, 2)):
                return
            new = config.with_suffix(".new")
            new.write_text(text)
            new.replace(config)
            os.utime(web)  # it is read again when its time changes

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _make_variants(settings: dict[str, Any]) -> Sequence[str]:
    """Return files for reloads: one hypervisor's settings and the cache's time change; the others are bad."""
    first, *others = settings["hypervisors"]
    changed = {
        **settings,
        "cache_ttl": "4s",
        "hypervisors": [{**first, "reserved_host_cpus": 1}, *others],
    }
    return [
        json.dumps(changed),
        "hypervisors: [",
        json.dumps(settings),
        json.dumps({**settings, "hypervisors": [first, first], "cache": "1s"}),
    ]

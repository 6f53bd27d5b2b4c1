"""A fleet: one real exporter for each of several hypervisors, and the target file for Prometheus.

libvirt's test driver reports the machine's host name. So each exporter runs in its own UTS namespace with
another host name.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.exporter_process import Scrape
from tests.support.guests import file_disk, guest_xml, nova_metadata
from tests.support.loopback import answers, find_free_port
from tests.support.waiting import wait_until

_CHECKOUT = Path(__file__).resolve().parents[2]
_ENTER_AS = 'hostname "$1" && shift && exec "$@"'
_POOL = "<pool type='dir'><name>vms</name><target><path>/vms</path></target></pool>"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A hypervisor and the settings of its exporter.

    :param uri: a real hypervisor; without one it is libvirt's test driver, of this size
    :param guests: of the test driver, by name: running ones, with vCPUs and MiB
    :param disks: of these guests, by name: a disk of so many GiB, which Nova made
    :param labels: that Prometheus adds: its groups
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    uri: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cpus: int = 16
    memory_mib: int = 32768
    guests: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    disks: Mapping[str, int] = field(default_factory=dict)

    def node_xml(self) -> str:
        """Return it as a file for libvirt's test driver. The driver starts all guests."""
        domains = "".join(
            guest_xml(name, domain_type="test", vcpus=vcpus, memory_mib=memory_mib, **self._disk(name))
            for name, (vcpus, memory_mib) in self.guests.items()
        )
        cpu = f"<active>{self.cpus}</active><nodes>1</nodes><sockets>1</sockets><cores>{self.cpus}</cores>"
        return (
            f"<node><cpu><mhz>2000</mhz><model>x86_64</model>{cpu}<threads>1</threads></cpu>"
            f"<memory>{self.memory_mib * 1024}</memory>{domains}{_POOL}</node>"
        )

    def _disk(self, guest: str) -> dict[str, Any]:
        if guest not in self.disks:
            return {}
        vcpus, memory = self.guests[guest]
        flavor = nova_metadata("disk", vcpus=vcpus, memory=memory, disk=self.disks[guest])
        return {"disks": [file_disk(Path(f"/vms/{guest}"))], "metadata": flavor}


class HostExporter:
    """The exporter of one host; it can be stopped and started again at the same address."""

    def __init__(self, host: Host, directory: Path, settings: Mapping[str, Any]) -> None:
        self.host = host
        self.address = f"127.0.0.1:{find_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "log"
        node = directory / "node.xml"
        node.write_text(host.node_xml())
        pool = {} if host.uri else {"storage_pool": "vms"}
        hypervisor = {"uri": host.uri or f"test://{node}", **pool, **host.options}
        self._config = directory / "config.yaml"
        self._config.write_text(json.dumps({"hypervisors": [hypervisor], "cache_ttl": "0s", **settings}))

    def start(self) -> None:
        """Start it and wait until it listens."""
        exporter = [sys.executable, "-m", "exporter", f"--config.file={self._config}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--uts", "sh", "-ec", _ENTER_AS, "sh", self.host.name),
                    *(*exporter, f"--web.listen-address={self.address}"),
                ],
                cwd=_CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_healthy, f"the exporter of {self.host.name} to listen")

    def stop(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def restart(self) -> None:
        """End it and start it again."""
        self.stop()
        self.start()

    def scrape(self) -> Scrape:
        """Scrape it as Prometheus does."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=20) as response:
            return Scrape(text=response.read().decode(), log=self._log.read_text())

    def _is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return answers(f"http://{self.address}/-/healthy")


class Fleet:
    """Exporters that come and go, as a context manager; nothing of them is left in the end.

    :param settings: of every exporter, beside its hypervisor
    :ivar targets: the file for Prometheus' file_sd_configs, always as the fleet is
    """

    def __init__(self, *, settings: Mapping[str, Any] | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hx-fleet-", dir="/tmp")
        self._root = Path(self._directory.name)
        self._settings = settings or {}
        self._count = 0
        self.exporters: list[HostExporter] = []
        self.targets = self._root / "targets.json"
        self._write_targets()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for exporter in self.exporters:
            exporter.stop()
        self._directory.cleanup()

    @property
    def scrape_config(self) -> dict[str, Any]:
        """What makes Prometheus scrape the fleet, as prometheus/scrape/file.yaml does."""
        discovery = {"files": [str(self.targets)], "refresh_interval": "1s"}
        return {"job_name": "hypervisors", "file_sd_configs": [discovery]}

    def add(self, host: Host) -> HostExporter:
        """Start an exporter for this host and add it to Prometheus' targets."""
        self._count += 1
        directory = self._root / f"{self._count}-{host.name}"
        directory.mkdir()
        exporter = HostExporter(host, directory, self._settings)
        self.exporters.append(exporter)
        exporter.start()
        self._write_targets()
        return exporter

    def remove(self, exporter: HostExporter) -> None:
        """Have Prometheus forget an exporter, and end it."""
        self.exporters.remove(exporter)
        self._write_targets()
        exporter.stop()

    def _write_targets(self) -> None:
        groups = [
            {"targets": [exporter.address], "labels": dict(exporter.host.labels)}
            for exporter in self.exporters
        ]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.rename(self.targets)

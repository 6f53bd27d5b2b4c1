"""The exporter as its users run it: a process with a configuration file, and the scrape that it answers."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import read_settled, wait_until

_CHECKOUT = Path(__file__).resolve().parents[2]
_AS_NOBODY = Path(__file__).with_name("as_nobody.py")

_CONFIG_NAME = "config.yaml"

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Scrape:
    """One scrape, and what else the exporter left behind."""

    text: str
    exit_status: int = 0
    log: str = ""
    _values: dict[str, dict[tuple[tuple[str, str], ...], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                series = self._values.setdefault(sample.name, {})
                labels = tuple(sorted(sample.labels.items()))
                assert labels not in series, f"{sample.name}{sample.labels} is there twice"
                series[labels] = sample.value

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return set(self._values)

    def series(self, name: str) -> list[tuple[Labels, float]]:
        """Return every sample of that name with its labels."""
        return [(dict(labels), value) for labels, value in self._values.get(name, {}).items()]

    def get(self, name: str, **labels: str) -> float | None:
        """Return the value of the one sample that has at least these labels; None where there is none."""
        found = [value for have, value in self.series(name) if labels.items() <= have.items()]
        assert len(found) < 2, f"{name}{labels} is there {len(found)} times"
        return found[0] if found else None

    def value(self, name: str, **labels: str) -> float:
        """Return that value; it has to be there."""
        value = self.get(name, **labels)
        assert value is not None, f"{name}{labels} is missing; the exporter's log:\n{self.log}"
        return value


def scrape_once(
    hypervisors: Sequence[Mapping[str, Any]],
    *,
    as_nobody: bool = False,
    prefix: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Scrape:
    """Return the scrape that `hypervisor-exporter --once` prints of these hypervisors."""
    result = run_once(hypervisors, as_nobody=as_nobody, prefix=prefix, flags=flags)
    return Scrape(text=result.stdout, exit_status=result.returncode, log=result.stderr)


def run_once(
    hypervisors: Sequence[Mapping[str, Any]],
    *,
    as_nobody: bool = False,
    prefix: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `hypervisor-exporter --once` on these hypervisors.

    :param hypervisors: entries of the configuration file's list of that name
    :param as_nobody: whether to run it as an unprivileged user
    :param prefix: a command to run it with, such as nsenter's
    :param flags: more flags, such as --collector.guests
    """
    with _config_file({"hypervisors": hypervisors}) as config:
        result = subprocess.run(
            [*prefix, *_command(as_nobody), "--once", "--config.file", str(config), *flags],
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in result.stderr, result.stderr
    return result


class RunningExporter:
    """An exporter that serves.

    :ivar config: its configuration file
    """

    def __init__(self, process: subprocess.Popen[bytes], config: Path, log: Path) -> None:
        self.process = process
        self.config = config
        self._log = log

    @property
    def address(self) -> str:
        """Its address, empty before it listens. The kernel chose the port, so no other program has it."""
        log = self._read_log()
        assert self.process.poll() is None, f"the exporter ended: {log}"
        listening = re.search(r"addresses=(127\.0\.0\.1:\d+)", log)
        return listening[1] if listening else ""

    @property
    def log(self) -> str:
        """What it has logged so far. A thread writes it, so this waits until no more lines come."""
        return read_settled(self._log)

    def scrape(self, path: str = "/metrics", *, seconds: float = 20) -> Scrape:
        """Scrape it as Prometheus does."""
        return Scrape(text=self.get(path, seconds=seconds), log=self._read_log())

    def get(self, path: str, *, accept: str = "", seconds: float = 20) -> str:
        """Return what it answers, in one of the formats that the client accepts."""
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"accept": accept})
        with urllib.request.urlopen(request, timeout=seconds) as response:
            text: str = response.read().decode()
            return text

    def _read_log(self) -> str:
        return self._log.read_text(errors="replace")

    def reload(self, settings: Mapping[str, Any]) -> None:
        """Put another configuration in force, which must be without a mistake."""
        self._log.with_name(_CONFIG_NAME).write_text(json.dumps(settings))
        request = urllib.request.Request(f"http://{self.address}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def serve(
    settings: Mapping[str, Any],
    *,
    as_nobody: bool = False,
    command: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Iterator[RunningExporter]:
    """Run the exporter as a server with these settings until the block ends.

    :param settings: the configuration file's content
    :param command: what to run instead of the exporter's own command; it is given the same flags
    :param flags: more flags, such as --collector.guests
    """
    with _config_file(settings) as config:
        log = config.with_name("log")
        all_flags = ["--config.file", str(config), "--web.listen-address", "127.0.0.1:0", *flags]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*(command or _command(as_nobody)), *all_flags],
                cwd=_CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            exporter = RunningExporter(process, config, log)
            wait_until(lambda: exporter.address, "the exporter to listen")
            yield exporter
        finally:
            process.kill()
            process.communicate(timeout=10)


@contextlib.contextmanager
def _config_file(settings: Mapping[str, Any]) -> Iterator[Path]:
    """Write a configuration file where an unprivileged user can read it; JSON is YAML."""
    with tempfile.TemporaryDirectory(prefix="hx-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        config = Path(directory, _CONFIG_NAME)
        config.write_text(json.dumps(settings))
        config.chmod(0o644)
        yield config


def _command(as_nobody: bool) -> list[str]:
    return [sys.executable, str(_AS_NOBODY)] if as_nobody else [sys.executable, "-m", "exporter"]

"""A record of a run of the tests: on what machine, with which programs, and what was left out and why."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import libvirt
import pytest

# What each program's version is read from; the first thing in it that looks like one.
_COMMANDS: dict[str, Sequence[str]] = {
    "QEMU": ("qemu-system-x86_64", "--version"),
    "Nova": ("dpkg-query", "--show", "--showformat", "${source:Upstream-Version}", "python3-nova"),
    "Prometheus": ("promtool", "--version"),
}
_VERSION = re.compile(r"\d+(?:\.\d+)+")


class Recorder:
    """A plugin of pytest's that writes the record when all tests have ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._outcomes: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: when it was called, or else when something else decided about it."""
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[report.outcome] += 1
        if report.outcome == "skipped":
            self._left_out[_reason(report)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a module that was skipped as one."""
        if report.outcome == "skipped":
            self._outcomes["skipped"] += 1
            self._left_out[_reason(report)] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the record."""
        for path in session.config.getoption("ignore") or ():
            self._left_out[f"{path} (--ignore)"] += 0
        record = {
            "machine": read_machine(Path("/etc/os-release").read_text(encoding="utf-8")),
            "versions": {
                "Python": platform.python_version(),
                "libvirt": _format_libvirt(libvirt.getVersion()),
                **read_versions(),
            },
            "passed": self._outcomes["passed"],
            "failed": self._outcomes["failed"],
            "stopped": session.exitstatus == pytest.ExitCode.INTERRUPTED,
            "left_out": dict(self._left_out),
            "minutes": round((time.monotonic() - self._started) / 60),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_machine(os_release: str) -> str:
    """Return what os-release(5) calls the system: "Debian 13 (trixie)"."""
    name = re.search(r'^PRETTY_NAME="?(.*?)"?$', os_release, re.MULTILINE)
    assert name is not None
    return name[1].replace(" GNU/Linux", "")


def read_versions() -> dict[str, str]:
    """Return each program's version; one that is not here has none."""
    versions = {}
    for program, command in _COMMANDS.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        version = _VERSION.search(said.stdout + said.stderr)
        if version is not None:
            versions[program] = version[0]
    return versions


def _format_libvirt(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    assert isinstance(report.longrepr, tuple)
    return report.longrepr[2].removeprefix("Skipped: ")

"""The settings of a service unit together with its drop-ins, as systemd reads them."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

# Settings that add to what stands above them; the others replace it. An empty value begins anew.
_LISTS = {"SystemCallFilter", "RestrictAddressFamilies", "ReadWritePaths", "SupplementaryGroups"}


def read_settings(files: Iterable[Path]) -> Mapping[str, str]:
    """Return the settings of [Service]; of SystemCallFilter, the names of the calls that are allowed."""
    settings: dict[str, str] = {}
    calls: set[str] = set()
    for name, value in _read_lines(files):
        if name == "SystemCallFilter":
            calls = _filter(calls, value)
        elif name in _LISTS and value:
            settings[name] = f"{settings.get(name, '')} {value}".strip()
        else:
            settings[name] = value
    return {**settings, "SystemCallFilter": " ".join(sorted(calls))}


def _read_lines(files: Iterable[Path]) -> Iterable[tuple[str, str]]:
    for file in files:
        section = ""
        for line in file.read_text().splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and (found := re.match(r"(\w+)=(.*)", line)):
                yield found[1], found[2]


def _filter(calls: set[str], value: str) -> set[str]:
    """Apply one line of SystemCallFilter. The unit's first one is a list of what is allowed."""
    if not value:
        return set()
    named = set().union(*(_expand(name) for name in value.lstrip("~").split()))
    return calls - named if value.startswith("~") else calls | named


@functools.cache
def _expand(name: str) -> frozenset[str]:
    """Return the calls in a set of systemd's, such as @system-service."""
    if not name.startswith("@"):
        return frozenset({name})
    command = ["systemd-analyze", "--no-pager", "syscall-filter", name]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    lines = [line.strip() for line in printed.splitlines()[1:]]
    return frozenset().union(*(_expand(line) for line in lines if line and not line.startswith("#")))

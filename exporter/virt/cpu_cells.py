"""Which NUMA cell each CPU of this machine is in, offline CPUs too. libvirt may list online CPUs only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

NODE_FOLDER = Path("/sys/devices/system/node")

_NODE = re.compile(r"node([0-9]{1,4})", re.ASCII)
_CPU = re.compile(r"cpu([0-9]{1,5})", re.ASCII)


def read_cpu_cells(folder: Path = NODE_FOLDER) -> dict[int, frozenset[int]]:
    """Return the CPUs of each cell, by its number; nothing where the kernel does not tell."""
    return {
        number: frozenset(_list_numbered(folder / name, _CPU))
        for number, name in _list_numbered(folder, _NODE).items()
    }


def _list_numbered(folder: Path, pattern: re.Pattern[str]) -> Mapping[int, str]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return {}
    return {int(match[1]): name for name in names if (match := pattern.fullmatch(name)) is not None}

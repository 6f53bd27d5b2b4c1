"""Where the control groups are mounted, and whether all of the host's are there.

Version 2 is one tree. Version 1 is a tree for each controller. A hybrid has version 1, and beside it a tree
of version 2 without controllers, which still counts CPU time and pressure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from exporter.virt.masks import Sandbox
from exporter.virt.mounts import list_file_systems
from exporter.virt.small_files import exists

UNIFIED = "unified"  # version 2
CPUACCT = "cpuacct"
CPU = "cpu"
MEMORY = "memory"
_CONTROLLERS = (CPUACCT, CPU, MEMORY)
TREES = (UNIFIED, *_CONTROLLERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """The trees that this process sees: the folders in which each is mounted.

    :ivar folders: by UNIFIED or the controller of version 1; a container may have two: its own, the host's
    """

    folders: Mapping[str, tuple[str, ...]]

    def get(self, tree: str) -> tuple[str, ...]:
        """Return the folders in which a tree is mounted."""
        return self.folders.get(tree, ())

    def has_hosts(self, tree: str) -> bool:
        """Whether one of them is the root of the host's groups, and not a part of them."""
        return any(_is_hosts(folder, tree) for folder in self.get(tree))


def read_roots(root: Path) -> Roots:
    """Return the trees that are mounted.

    :param root: where /proc and /sys are
    """
    try:
        mountinfo = (root / "proc/self/mountinfo").read_bytes()
    except OSError:
        mountinfo = b""
    return _find_roots(root, mountinfo)


@lru_cache(maxsize=1)
def _find_roots(root: Path, mountinfo: bytes) -> Roots:
    """Return the trees. Mounts rarely change from one refresh to the next, and there may be thousands."""
    folders: dict[str, list[str]] = {}
    for mount in list_file_systems(os.fsdecode(mountinfo)):
        folder = str(root / mount.point.lstrip("/"))
        if mount.type == "cgroup2":
            folders.setdefault(UNIFIED, []).append(folder)
        elif mount.type == "cgroup":
            for controller in _CONTROLLERS:
                if controller in mount.options:
                    folders.setdefault(controller, []).append(folder)
    return Roots(folders={tree: tuple(found) for tree, found in folders.items()})


def explain_missing(roots: Roots, sandbox: Sandbox, *, active: int) -> tuple[str, str]:
    """Return why guests have no groups here, and the cure: libvirt made none, or they are not seen.

    :param active: how many guests are active
    """
    if any(map(roots.has_hosts, TREES)):
        message = f"the guests' control groups are not there, though {active} guests are active"
        return message, "See cgroup_controllers in /etc/libvirt/qemu.conf"
    return explain_hidden(sandbox)


def explain_hidden(sandbox: Sandbox) -> tuple[str, str]:
    """Return that the host's groups are not seen, and the cure."""
    message = "the host's control groups are not seen here, so that it is not known what guests use"
    if sandbox.is_service:
        return message, "Set ProtectControlGroups=yes in the unit, not private or strict"
    if sandbox.is_container:
        return message, "Mount the host's /sys/fs/cgroup into the container, read-only"
    return message, "Mount /sys/fs/cgroup"


def _is_hosts(folder: str, tree: str) -> bool:
    """Whether a folder is the root of the host's tree: only that one lacks or has certain files.

    A folder that this process may not enter is none: nothing can be read there.
    """
    if tree == UNIFIED:
        return exists(f"{folder}/cgroup.controllers") and not exists(f"{folder}/cgroup.type")
    return exists(f"{folder}/release_agent")

"""The threads of a guest's vCPUs, by the control groups that libvirt makes for them, or by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from exporter.virt.cgroups.contents import parse_number
from exporter.virt.small_files import read_file, read_lines

_VCPU = re.compile(r"vcpu(\d{1,5})", re.ASCII)
# QEMU calls its threads so, as libvirt asks it to (-name debug-threads=on): "CPU 0/KVM", "CPU 1/TCG".
_THREAD = re.compile(rb"CPU (\d{1,5})/[A-Z]+\n?", re.ASCII)
_PARTS = re.compile(r"vcpu\d+|emulator|iothread\d+", re.ASCII)
# Of version 2, and of version 1.
_THREAD_LISTS = ("cgroup.threads", "tasks")


class Threads(NamedTuple):
    """What was found.

    :ivar tids: the thread of each vCPU, by its number
    :ivar are_hidden: whether the kernel tells this process no numbers of the threads, as in a container
    :ivar have_no_names: whether it tells their numbers, and no name of a vCPU, where one is needed
    """

    tids: dict[int, int]
    are_hidden: bool
    have_no_names: bool = False


def find_below(group: str) -> str:
    """Return the folder of the groups of a guest's threads: version 2 with systemd has one in between."""
    nested = f"{group}/libvirt"
    return nested if os.path.isdir(nested) else group  # noqa: PTH112 # a Path costs as much as the call


def list_parts(group: str) -> list[str]:
    """Return the groups in which a quota may hold a guest back: its own, and those of its threads."""
    below = find_below(group)
    parts = [f"{below}/{name}" for name in _list(below) if _PARTS.fullmatch(name)]
    return [group, *([] if below == group else [below]), *parts]


def find_threads(group: str, proc: str) -> Threads:
    """Return the threads of a guest's vCPUs.

    :param group: its control group, in a tree in which it has one
    :param proc: /proc
    """
    below = find_below(group)
    groups = [(name, found[1]) for name in _list(below) if (found := _VCPU.fullmatch(name)) is not None]
    if not groups:
        listed = [tid for folder in {group, below, f"{below}/emulator"} for tid in _list_threads(folder)]
        named = dict(_find_named(listed, proc))
        return Threads(named, bool(listed) and not any(listed), any(listed) and not named)
    threads = {int(number): _list_threads(f"{below}/{name}") for name, number in groups}
    tids = {vcpu: found[0] for vcpu, found in threads.items() if found and found[0]}
    return Threads(tids, not tids)


def _find_named(tids: list[int], proc: str) -> Iterator[tuple[int, int]]:
    for tid in tids:
        name = _THREAD.fullmatch(read_file(f"{proc}/{tid}", "comm")) if tid else None
        if name is not None:
            yield int(name[1]), tid


def _list_threads(folder: str) -> list[int]:
    """Return the threads of a group; 0 for one of which this process does not know the number."""
    for name in _THREAD_LISTS:
        lines = read_lines(folder, name)
        if lines:
            return [tid for line in lines if (tid := parse_number(line)) is not None]
    return []


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 # Path.iterdir() takes three times as long
    except OSError:
        return []

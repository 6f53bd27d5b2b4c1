r"""The names of guests' control groups, as libvirt gives them.

With systemd-machined, a guest has /machine.slice/machine-qemu\x2d1\x2dinstance\x2d0000002a.scope. Without, it
has /machine/qemu-1-instance-0000002a.libvirt-qemu. The number is libvirt's id of the guest. The name is cut,
and loses what a host name may not have (virDomainGenerateMachineName). So a group is found by its driver and
id: each driver counts its guests from 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from exporter.model import DomainRecord
from exporter.virt.cgroups.roots import TREES, Roots

# The partition that a guest is in, unless its XML says another one (virDomainResourceDef).
DEFAULT_PARTITION = "/machine"

_WITH_MACHINED = re.compile(r"machine-(qemu|lxc|ch)\\x2d(\d+)(?:\\x2d(.*))?\.scope", re.ASCII | re.DOTALL)
_WITHOUT = re.compile(r"(qemu|lxc|ch)-(\d+)(?:-(.*))?\.libvirt-\1", re.ASCII | re.DOTALL)
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_NOT_KEPT = re.compile("[^0-9A-Za-z]")
# Units of others in machine.slice: containers of podman and systemd-nspawn.
_UNITS = (".scope", ".service")
_PODS = "machine-libpod"
_TOP_PARTITIONS = ("machine", "user", "system")


@dataclass(frozen=True, slots=True)
class GuestGroup:
    """A guest's group, as its folder is called."""

    folder: str  # its name in its partition
    driver: str  # as in the URI: "qemu"
    guest_id: int
    name: str  # what it has of the guest's name

    def is_of(self, name: str) -> bool:
        """Whether a guest of this name may have it. After its restart, libvirt gives ids anew."""
        return _NOT_KEPT.sub("", name).startswith(_NOT_KEPT.sub("", self.name))


@dataclass(frozen=True, slots=True)
class Partition:
    """What is in a partition's folder, as one driver of libvirt sees it.

    :ivar guests: those of the driver
    :ivar foreign: a unit or pod in it that is none of them; empty if there is none
    """

    folder: str
    guests: tuple[GuestGroup, ...]
    foreign: str


def list_partition_folders(partition: str) -> tuple[str, ...]:
    """Return the folders that a partition may have, below a root: with systemd-machined, and without.

    >>> list_partition_folders("/machine/prod")
    ('machine.slice/machine-prod.slice', 'machine/prod.partition')
    """
    parts = [part for part in partition.split("/") if part not in ("", ".", "..")]
    escaped = [_escape(part) for part in parts]
    slices = ["-".join(escaped[: index + 1]) + ".slice" for index in range(len(parts))]
    # libvirt adds the suffix, but for the folders that it takes to be there (virCgroupSetPartitionSuffix).
    plain = [
        part if "." in part or (index == 0 and part in _TOP_PARTITIONS) else f"{part}.partition"
        for index, part in enumerate(parts)
    ]
    return "/".join(slices), "/".join(plain)


def read_partition(folder: str, driver: str) -> Partition | None:
    """List a partition's folder; None if there is none, or it may not be read."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 # Path.iterdir() takes three times as long
    except OSError:
        return None
    return _make_partition(folder, driver, tuple(names))


@lru_cache(maxsize=len(TREES))
def _make_partition(folder: str, driver: str, names: tuple[str, ...]) -> Partition:
    """Return what these names are. They are rarely others than in the last refresh."""
    guests, foreign = [], ""
    for name in names:
        group = parse_group(name)
        if group is not None and group.driver == driver:
            guests.append(group)
        elif group is not None or name.endswith(_UNITS) or name.startswith(_PODS):
            foreign = name
    return Partition(folder, tuple(guests), foreign)


def parse_group(folder: str) -> GuestGroup | None:
    """Return the guest of a group by its name; None if it is no guest's."""
    if (found := _WITH_MACHINED.fullmatch(folder)) is not None:
        return GuestGroup(folder, found[1], int(found[2]), _unescape(found[3] or ""))
    if (found := _WITHOUT.fullmatch(folder)) is not None:
        return GuestGroup(folder, found[1], int(found[2]), found[3] or "")
    return None


class GroupFinder:
    """Finds the groups of guests. Each partition is listed once, so it is for one refresh.

    :param roots: the trees
    :param driver: whose guests they are
    """

    def __init__(self, roots: Roots, driver: str) -> None:
        self._roots, self._driver = roots, driver
        self._listed: dict[str, Mapping[int, GuestGroup]] = {}

    def find(self, record: DomainRecord, partition: str) -> Mapping[str, str]:
        """Return a guest's groups by tree; none if libvirt made none, or they are not seen."""
        below = list_partition_folders(partition or DEFAULT_PARTITION)
        found: dict[str, str] = {}
        for tree in TREES:
            for folder in (f"{root}/{each}" for root in self._roots.get(tree) for each in below):
                group = self._list(folder).get(record.id)
                if group is not None and group.is_of(record.name):
                    found[tree] = f"{folder}/{group.folder}"
                    break
        return found

    def _list(self, folder: str) -> Mapping[int, GuestGroup]:
        if folder not in self._listed:
            partition = read_partition(folder, self._driver)
            groups = () if partition is None else partition.guests
            self._listed[folder] = {group.guest_id: group for group in groups}
        return self._listed[folder]


def list_partitions(roots: tuple[str, ...], driver: str) -> Iterator[Partition]:
    """Yield the groups that the default partition has below these roots.

    The same tree may be mounted twice.
    """
    seen: set[tuple[int, int]] = set()
    for root in roots:
        for below in list_partition_folders(DEFAULT_PARTITION):
            folder = Path(root, below)
            try:
                status = folder.stat()
            except OSError:
                continue
            found = read_partition(str(folder), driver)
            if found is not None and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield found


def is_in_default(partition: str) -> bool:
    """Whether a guest's partition is the default one, or in it."""
    return not partition or f"{partition}/".startswith(f"{DEFAULT_PARTITION}/")


def _escape(part: str) -> str:
    """Escape a part of a slice's name as libvirt does (virSystemdEscapeName)."""
    text = re.sub(
        r"[^0-9A-Za-z:_.]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), part
    )
    return re.sub(r"^\.", r"\\x2e", text)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)

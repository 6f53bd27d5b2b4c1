"""Reads which file system a path lies on, and what mountinfo does not say of it. Each read may hang."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.virt.mounts import FileSystem, Mounts, find_file_system

MAX_READ_BYTES = 2**20
_ROOT = Path("/")
_DM_UUID = re.compile(r"LVM-(\w{32})\w{32}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mounted:
    """The file system that holds a path.

    :ivar details: see `read_details`
    """

    path: str
    file_system: FileSystem
    details: Mapping[str, str]


def read_mounted(path: str, *, root: Path = _ROOT) -> Mounted | None:
    """Return the file system that holds a path; None if it is not known. May hang as the path does.

    The kernel says on which mount the path lies. So links on the way, automounts and mounts that hide others
    are as they are for those who open a file there.

    :param root: where /proc, /sys, /run and /etc are
    """
    try:
        mountinfo = os.fsdecode((root / "proc/self/mountinfo").read_bytes())
        number = _read_mount_number(path) or Mounts(mountinfo).find(os.path.realpath(path)).number
    except OSError:
        return None
    file_system = find_file_system(mountinfo, number)
    if file_system is None:
        return None
    return Mounted(path=path, file_system=file_system, details=read_details(file_system, path, root=root))


def find_mounted(path: str, *, root: Path = _ROOT) -> Mounted | None:
    """Return what is mounted at a path; None if it is not known.

    It does not touch the path. So it cannot hang.
    """
    try:
        mountinfo = os.fsdecode((root / "proc/self/mountinfo").read_bytes())
    except OSError:
        return None
    file_system = find_file_system(mountinfo, Mounts(mountinfo).find(path).number)
    return None if file_system is None else Mounted(path=path, file_system=file_system, details={})


def read_volume_group(name: str, *, root: Path = _ROOT) -> str | None:
    """Return the UUID of a volume group on this machine; None if none of its volumes is active.

    The kernel calls a volume "GROUP-VOLUME", with each hyphen of a name doubled, and knows it by "LVM-", the
    group's UUID and the volume's. Anybody may read that.
    """
    beginning = name.replace("-", "--") + "-"
    for folder in sorted((root / "sys/block").glob("dm-*/dm")):
        group, _, volume = _read(folder / "name").partition(beginning)
        if group or not volume or volume.startswith("-"):
            continue
        if (uuid := _DM_UUID.match(_read(folder / "uuid"))) is not None:
            return uuid[1]
    return None


def read_details(file_system: FileSystem, path: str, *, root: Path = _ROOT) -> Mapping[str, str]:
    """Return what identifies a file system and is not in mountinfo. Anybody may read all of it.

    For Ceph the cluster's "fsid", for GFS2 and OCFS2 the "uuid", for BeeGFS "sysMgmtdHost" and its "port".
    """
    if file_system.type == "ceph":
        with suppress(OSError):
            return {"fsid": os.getxattr(path, "ceph.cluster_fsid").decode("ascii", "replace").strip("\0\n ")}
    if file_system.type in ("gfs2", "ocfs2"):
        uuid = next(_list_uuids(file_system.device, root), None)
        return {} if uuid is None else {"uuid": uuid}
    if file_system.type == "beegfs":
        return _read_beegfs(root / file_system.options.get("cfgFile", "").lstrip("/"))
    return {}


def _read_mount_number(path: str) -> str | None:
    """Return the number of the mount that a path lies on, from its open file's /proc/self/fdinfo."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = re.search(r"^mnt_id:\s*(\d+)$", _read(Path(f"/proc/self/fdinfo/{descriptor}")), re.MULTILINE)
    finally:
        os.close(descriptor)
    return None if found is None else found[1]


def _list_uuids(device: str, root: Path) -> Iterator[str]:
    """Yield the UUID of the file system on a block device, as udev, GFS2 and the links in /dev say it."""
    for line in _read(root / f"run/udev/data/b{device}").splitlines():
        name, _, value = line.partition("=")
        if name == "E:ID_FS_UUID" and value:
            yield value
    for folder in sorted((root / "sys/fs/gfs2").glob("*")):
        if _read(folder / "id").strip() == device and (uuid := _read(folder / "uuid").strip()):
            yield uuid
    major, _, minor = device.partition(":")
    for link in sorted((root / "dev/disk/by-uuid").glob("*")):
        with suppress(OSError, ValueError):
            if link.stat().st_rdev == os.makedev(int(major), int(minor)):
                yield link.name


def _read_beegfs(path: Path) -> Mapping[str, str]:
    """Return the management server of a client's configuration: "sysMgmtdHost = mgmt01"."""
    pairs = (line.partition("=") for line in _read(path).splitlines())
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    port = settings.get("connMgmtdPort") or settings.get("connMgmtdPortTCP", "")
    return {"sysMgmtdHost": settings.get("sysMgmtdHost", ""), "port": port}


def _read(path: Path) -> str:
    """Return a file's text; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(MAX_READ_BYTES))
    except OSError:
        return ""

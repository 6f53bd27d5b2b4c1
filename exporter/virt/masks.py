"""Paths at which this process sees something else than the host: hidden by systemd, or in a container.

A sandbox replaces folders without a word: by an empty one, by a private one, by the container's own file
system. What is measured there is a number of nothing. So it is recognised by its mount.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.virt.mounts import FileSystem, find_file_system_at
from exporter.virt.small_files import exists

_ROOT = Path("/")

# systemd mounts these of its own in place of a folder (systemd's src/core/namespace.c).
_INACCESSIBLE = re.compile(r"/systemd/inaccessible(?:/|$)")
_PRIVATE_TMP = re.compile(r"/systemd-private-[0-9a-f]{32}-")
_HOMES = ("/home", "/root", "/run/user")
_TMPS = ("/tmp", "/var/tmp")
_OVERLAYS = ("overlay", "aufs", "fuse.fuse-overlayfs")
# The folders, data sets (zfs) and devices in which engines keep the file systems of their containers, if they
# are no overlays. An engine's own folder may be anywhere.
_ENGINES = re.compile(
    r"(?:^|[/@])(?:docker|containers/storage|containerd|cri-o|buildah)/|^/dev/mapper/docker-"
    r"|/(?:btrfs/subvolumes|vfs/dir)/[0-9a-f]{64}"
)
_EMPTY_DIR = "/kubernetes.io~empty-dir/"

_HIDDEN = (
    "the unit of this service hides {} (ProtectHome=, InaccessiblePaths=, TemporaryFileSystem=)."
    " For ProtectHome=, read-only suffices"
)
_PRIVATE = "this service has a {} of its own. Set PrivateTmp=no in its unit"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """What is known of the surroundings of this process.

    :ivar root: where /proc, /run and the marks of container engines are
    :ivar environment: its variables
    :ivar pid: its number as it sees it
    """

    root: Path = _ROOT
    environment: Mapping[str, str] | None = None
    pid: int | None = None

    @property
    def is_service(self) -> bool:
        """Whether systemd started this process."""
        return "INVOCATION_ID" in self._variables

    @property
    def _variables(self) -> Mapping[str, str]:
        return os.environ if self.environment is None else self.environment

    @property
    def is_container(self) -> bool:
        """Whether a container engine says that it started this process."""
        environment = self._variables
        marks = (".dockerenv", "run/.containerenv")
        return (
            bool(environment.get("container") or environment.get("KUBERNETES_SERVICE_HOST"))
            or any(exists(f"{self.root}/{mark}") for mark in marks)
            or (os.getpid() if self.pid is None else self.pid) == 1
        )

    def find_mount(self, process: str, path: str) -> FileSystem | None:
        """Return what a process has mounted at a path; None where that cannot be read."""
        return find_file_system_at(self._read_mountinfo(process), path)

    def is_own_tmpfs(self, mount: FileSystem) -> bool | None:
        """Return whether a tmpfs was made for this process; None if that is not known.

        Process 1 has all tmpfs of the host, but only root may look. What the host mounted is passed on to
        systemd's services, and says so ("master:2"; systemd's src/core/namespace.c). What systemd makes for a
        service does not.
        """
        hosts = self._read_mountinfo("1")
        if hosts:
            return all(line.split(" ")[2:3] != [mount.device] for line in hosts.split("\n"))
        if _is_passed_on(mount):
            return False
        top = self.find_mount("self", "/")
        if top is None or not top.tags:
            return None
        if _is_passed_on(top):
            return True
        return None if not mount.tags else False  # the host's own mounts, without a sandbox

    def _read_mountinfo(self, process: str) -> str:
        try:
            return os.fsdecode((self.root / f"proc/{process}/mountinfo").read_bytes())
        except OSError:
            return ""


def _is_passed_on(mount: FileSystem) -> bool:
    return any(tag.startswith("master:") for tag in mount.tags)


_SANDBOX = Sandbox()


def find_mask(
    path: str, *, sandbox: Sandbox = _SANDBOX, resolve: Callable[[str], str] = os.path.realpath
) -> str | None:
    """Return what hides the host's folder or file at a path from this process; None if nothing does.

    The path need not exist. May hang as the path does.
    """
    resolved = resolve(path)
    mount = sandbox.find_mount("self", resolved)
    if mount is None:
        return None
    if mount.type == "tmpfs":
        return _recognise_tmpfs(mount, resolved, sandbox)
    return _recognise(mount, sandbox)


def _recognise_tmpfs(mount: FileSystem, path: str, sandbox: Sandbox) -> str | None:
    """Recognise a tmpfs: also a folder of the host's /run, with which systemd hides others."""
    if (found := _recognise(mount, sandbox)) is not None:
        return found
    is_own = sandbox.is_own_tmpfs(mount)
    if mount.point in _HOMES and is_own is not False:
        return _HIDDEN.format(mount.point)
    if not is_own or not sandbox.is_service:
        return None
    if mount.point in _TMPS:
        return _PRIVATE.format(mount.point)
    hosts = sandbox.find_mount("1", path)
    if hosts is None:
        return _HIDDEN.format(mount.point)
    return f"the host has {hosts.type} of {hosts.source} there, and this process a tmpfs of its own"


def _recognise(mount: FileSystem, sandbox: Sandbox) -> str | None:
    if _INACCESSIBLE.search(mount.root):
        return _HIDDEN.format(mount.point)
    if _PRIVATE_TMP.search(mount.root):
        return _PRIVATE.format(mount.point)
    if _EMPTY_DIR in mount.root:
        return f"{mount.point} is an empty folder of the pod (emptyDir). Mount the host's folder (hostPath)"
    places = (mount.root, mount.source, *mount.options.values())
    is_own = mount.type in _OVERLAYS or any(map(_ENGINES.search, places))
    # A service of systemd in a container has a system of its own there: libvirt runs in the same container.
    if mount.point == "/" and is_own and sandbox.is_container and not sandbox.is_service:
        return "it is on the container's own file system. Mount the host's folder into the container"
    return None

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

_ROOT = Path("/")

# systemd mounts these of its own in place of a folder (systemd's src/core/namespace.c).
_INACCESSIBLE = re.compile(r"/systemd/inaccessible(?:/|$)")
_PRIVATE_TMP = re.compile(r"/systemd-private-[0-9a-f]{32}-")
_HOMES = ("/home", "/root", "/run/user")
_OVERLAYS = ("overlay", "aufs", "fuse.fuse-overlayfs")
# The folders in which engines keep the file systems of their containers, if these are no overlays.
_ENGINES = re.compile(r"/(?:docker|containers/storage|containerd|cri-o|buildah)/")
_EMPTY_DIR = "/kubernetes.io~empty-dir/"


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
            or any((self.root / mark).exists() for mark in marks)
            or (os.getpid() if self.pid is None else self.pid) == 1
        )

    def find_mount(self, process: str, path: str) -> FileSystem | None:
        """Return what a process has mounted at a path; None where that cannot be read."""
        try:
            mountinfo = os.fsdecode((self.root / f"proc/{process}/mountinfo").read_bytes())
        except OSError:
            return None
        return find_file_system_at(mountinfo, path)


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
    found = _recognise(mount, sandbox)
    if found is None and mount.type == "tmpfs" and sandbox.is_service:
        hosts = sandbox.find_mount("1", resolved)
        if hosts is not None and hosts.device != mount.device:
            found = f"the host has {hosts.type} of {hosts.source} there, and this process a tmpfs of its own"
    return found


def _recognise(mount: FileSystem, sandbox: Sandbox) -> str | None:
    if _INACCESSIBLE.search(mount.root) or (mount.type == "tmpfs" and mount.point in _HOMES):
        return (
            f"the unit of this service hides {mount.point} (ProtectHome=, InaccessiblePaths=,"
            " TemporaryFileSystem=). For ProtectHome=, read-only suffices"
        )
    if _PRIVATE_TMP.search(mount.root):
        return f"this service has a {mount.point} of its own. Set PrivateTmp=no in its unit"
    if _EMPTY_DIR in mount.root:
        return f"{mount.point} is an empty folder of the pod (emptyDir). Mount the host's folder (hostPath)"
    is_own = mount.type in _OVERLAYS or any(map(_ENGINES.search, (mount.root, *mount.options.values())))
    if mount.point == "/" and is_own and sandbox.is_container:
        return "it is on the container's own file system. Mount the host's folder into the container"
    return None

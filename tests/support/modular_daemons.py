"""libvirt's modular daemons, each a process with its own sockets, and the faults that befall each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import libvirt

from tests.support.sandbox import GIB, Sandbox, SandboxError
from tests.support.waiting import wait_until

Name = Literal["virtqemud", "virtstoraged", "virtnodedevd", "virtproxyd"]

BUILD_COMMAND = "scripts/build-modular-daemons"
_BUILT = Path(__file__).resolve().parents[2] / ".cache" / "modular"
_REAPER = Path(__file__).with_name("reaper.py")
_CONF = """
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""


def why_not() -> str | None:
    """Return why there are no such daemons on this machine, and what makes them; None if there are."""
    if _find_directory() is None:
        return f"libvirt's modular daemons are not built here; this builds them: {BUILD_COMMAND}"
    return None


class ModularDaemons:
    """These daemons in a sandbox. As a context manager it starts them; in the end all is gone.

    Each is started, ended, killed and frozen by itself; all others run on. virtproxyd listens where libvirtd
    would, for clients that know no other place, and asks virtqemud.

    :ivar uri_read_only: virtqemud's address, by the socket that may not change things
    :ivar images: where disk images go, a small file system of their own

    :param started: the daemons that run at first; the others are absent, as if they were not installed
    """

    def __init__(
        self,
        *,
        started: Iterable[Name] = ("virtqemud", "virtstoraged", "virtnodedevd"),
        cache: Path | None = None,
    ) -> None:
        directory = _find_directory()
        if directory is None:
            raise SandboxError(why_not())
        self._directory = directory
        self._started = tuple(started)
        self.sandbox = Sandbox(images_bytes=15 * GIB // 2, cache=cache)
        self.images = self.sandbox.images
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connection: Any = None
        self.uri_read_only = f"qemu:///system?socket={self.socket('virtqemud', '-ro')}"

    def __enter__(self) -> ModularDaemons:
        try:
            for name in self._started:
                self.start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def socket(self, name: Name, suffix: Literal["", "-ro"] = "") -> Path:
        """Return the path of a daemon's socket, as it is seen outside the sandbox."""
        prefix = "libvirt" if name == "virtproxyd" else name
        return self.sandbox.root / "run" / f"{prefix}-sock{suffix}"

    def start(self, name: Name, *, settings: str = "", prefix: Sequence[str] = ()) -> None:
        """Start a daemon and wait until it takes connections.

        :param settings: more lines of its configuration file
        :param prefix: a command to run it with, such as setpriv's
        """
        conf = self.sandbox.root / "etc" / f"{name}.conf"
        conf.write_text(_CONF + settings)
        self._pid_file(name).unlink(missing_ok=True)
        with self._log(name).open("ab") as log:
            command = (
                sys.executable,
                _REAPER,
                *prefix,
                self._directory / name,
                "-f",
                conf,
                "-p",
                self._pid_file(name),
            )
            process = subprocess.Popen(
                self.sandbox.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        wait_until(lambda: self._listens(name, process), f"{name} to listen")

    def terminate(self, name: Name) -> None:
        """End a daemon as a package upgrade does; its socket goes with it."""
        self._end(name, signal.SIGTERM)

    def kill(self, name: Name) -> None:
        """Kill a daemon like a crash. Its socket stays without a listener."""
        self._end(name, signal.SIGKILL)

    def restart(self, name: Name) -> None:
        """End a daemon in good order and start it again."""
        self.terminate(name)
        self.start(name)

    def freeze(self, name: Name) -> None:
        """Stop a daemon where it stands: its connections stay open, new ones too, and nothing answers."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: Name) -> None:
        """Let it go on."""
        os.kill(self.pid(name), signal.SIGCONT)

    def pid(self, name: Name) -> int:
        """Return a daemon's process."""
        return int(self._pid_file(name).read_text())

    def is_running(self, name: Name) -> bool:
        """Whether a daemon that was started has not ended meanwhile."""
        return Path(f"/proc/{self.pid(name)}").exists()

    def read_log(self, name: Name) -> str:
        """Return what a daemon has logged."""
        return self._log(name).read_text(errors="replace")

    def close(self) -> None:
        """End all daemons and their guests and remove every trace of them."""
        self.sandbox.close()
        for process in self._processes:
            process.wait(timeout=10)

    @property
    def connection(self) -> Any:
        """A connection to virtqemud that may change things, opened anew after that was away.

        It stays open to the end: virtqemud tells the daemons that it asked for a client when that one leaves,
        and does nothing else while such a daemon is frozen.
        """
        if self._connection is None or not self._connection.isAlive():
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            self._connection = libvirt.open(f"qemu:///system?socket={self.socket('virtqemud')}")
        return self._connection

    def has_found_qemu(self) -> bool:
        """Return whether virtqemud knows a QEMU for this machine."""
        try:
            libvirt.openReadOnly(self.uri_read_only).getVersion()
        except libvirt.libvirtError:
            return False
        return True

    def start_guest(self, xml: str) -> None:
        """Define a domain and start it."""
        self.connection.defineXML(xml).create()

    def define_pool(self, name: str) -> None:
        """Define and start a storage pool of the images' directory; virtstoraged has to be there for it."""
        xml = f"<pool type='dir'><name>{name}</name><target><path>{self.images}</path></target></pool>"
        pool = self.connection.storagePoolDefineXML(xml)
        pool.setAutostart(True)
        pool.create()

    def _end(self, name: Name, how: signal.Signals) -> None:
        pid = self.pid(name)
        os.kill(pid, how)
        # At its end, it first lets its workers answer open calls, and waits 30 s for them.
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"{name} to end", seconds=40)

    def _listens(self, name: Name, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            last = self._log(name).read_text(errors="replace").strip().rpartition("\n")[2]
            raise SandboxError(f"{name} ended at once: {last}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket(name))) == 0

    def _log(self, name: Name) -> Path:
        return self.sandbox.root / f"{name}.log"

    def _pid_file(self, name: Name) -> Path:
        return self.sandbox.root / f"{name}.pid"


def _find_directory() -> Path | None:
    """Return where the daemons of the installed libvirt lie; one of another version would refuse to run."""
    version = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${source:Version}", "libvirt0"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    directory = _BUILT / version
    return directory if version and (directory / "virtqemud").exists() else None

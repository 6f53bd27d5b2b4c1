"""A private real libvirtd for tests, with real QEMU guests, and the faults of both."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import libvirt

from tests.support.loopback import find_free_port
from tests.support.sandbox import GIB, Sandbox, SandboxError
from tests.support.waiting import wait_until

# Everyone may connect: who is allowed to is not what is tested. The socket for TCP is the loopback's alone.
_LIBVIRTD_CONF = """
unix_sock_dir = "{sockets}"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0777"
auth_unix_ro = "{auth_unix_ro}"
auth_unix_rw = "none"
auth_tcp = "none"
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "{port}"
"""
_ENTER_AS = 'hostname "$1" && shift && exec "$@"'
_REAPER = Path(__file__).with_name("reaper.py")
_STATE_FLAGS = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA


class LibvirtDaemon:
    """A libvirtd in a sandbox. As a context manager it starts, and in the end everything of it is gone.

    :ivar uri: its address for the machine's root, by the socket that may change things
    :ivar uri_read_only: the same for an unprivileged user, by the socket that may not
    :ivar uri_tcp: the same as if it were another machine's
    :ivar images: where disk images go, a small file system of their own

    :param settings: more lines of libvirtd.conf; by default it has no TLS, which needs certificates
    :param auth_unix_ro: who may use the read-only socket: none for everybody, or polkit
    :param environment: variables that the daemon has beside this process's
    :param hostname: its host name, instead of the machine's
    :param cgroups: the version of the control groups that it makes for its guests; without one it makes none
    """

    def __init__(
        self,
        *,
        images_bytes: int = 15 * GIB // 2,
        cache: Path | None = None,
        settings: str = "listen_tls = 0\n",
        auth_unix_ro: str = "none",
        environment: Mapping[str, str] | None = None,
        hostname: str | None = None,
        cgroups: str | None = None,
    ) -> None:
        self._prefix = (
            [] if hostname is None else ["unshare", "--uts", "sh", "-ec", _ENTER_AS, "sh", hostname]
        )
        self._environment = {**os.environ, **(environment or {})}
        self.sandbox = Sandbox(images_bytes=images_bytes, cache=cache, cgroups=cgroups)
        self.images = self.sandbox.images
        self._root = self.sandbox.root
        self._log = self._root / "libvirtd.log"
        self._pid_file = self._root / "libvirtd.pid"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connection: Any = None
        port = find_free_port()
        sockets = self._root / "sock"
        (self._root / "etc/libvirtd.conf").write_text(
            _LIBVIRTD_CONF.format(sockets=sockets, port=port, auth_unix_ro=auth_unix_ro) + settings
        )
        self._socket = sockets / "libvirt-sock"
        self.uri = f"qemu:///system?socket={self._socket}"
        self.uri_read_only = f"qemu:///system?socket={self._socket}-ro"
        self.uri_tcp = f"qemu+tcp://127.0.0.1:{port}/system"

    def __enter__(self) -> LibvirtDaemon:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The daemon.

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int(self._pid_file.read_text())

    @property
    def connection(self) -> Any:
        """A connection that may change things, opened anew after the daemon was away.

        It blocks while the daemon is frozen.
        """
        if self._connection is None or not self._connection.isAlive():
            self._connection = _open(self.uri)
        return self._connection

    def start(self) -> None:
        """Start the daemon and wait until it answers. Guests that outlived another one are then its."""
        self._pid_file.unlink(missing_ok=True)
        arguments = ("libvirtd", "--listen", "-f", self._root / "etc/libvirtd.conf", "-p", self._pid_file)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.sandbox.command(*self._prefix, sys.executable, _REAPER, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
            )
        self._processes.append(process)
        wait_until(self._answers, "libvirtd to answer")

    def terminate(self) -> None:
        """End the daemon as a package upgrade does: the guests run on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon as a crash does: the guests run on."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End the daemon in good order and start it again."""
        self.terminate()
        self.start()

    def freeze(self) -> None:
        """Stop the daemon where it stands: its connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the daemon and its guests and remove every trace of both."""
        self._forget_connection()
        self.sandbox.close()
        for process in self._processes:
            process.wait(timeout=10)

    def _answers(self) -> bool:
        if self._processes[-1].poll() is not None:
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise SandboxError(f"libvirtd ended at once: {last}")
        if not self._socket.exists():
            return False
        try:
            return bool(self.connection.getHostname())
        except libvirt.libvirtError:
            return False

    def _end(self, how: signal.Signals) -> None:
        pid = self.pid
        self._forget_connection()
        os.kill(pid, how)
        # At its end, libvirtd first lets its workers answer open calls, and waits 30 s for them.
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "libvirtd to end", seconds=40)

    def _forget_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        self._connection = None

    # Its guests.

    def define(self, xml: str) -> Any:
        """Define a domain; it stays shut off."""
        return self.connection.defineXML(xml)

    def start_guest(self, xml: str, *, paused: bool = False) -> Any:
        """Define a domain and start it."""
        domain = self.define(xml)
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        return domain

    def freeze_guest(self, name: str) -> None:
        """Stop a guest's QEMU where it stands: its monitor answers nothing any more."""
        os.kill(self.guest_pid(name), signal.SIGSTOP)

    def thaw_guest(self, name: str) -> None:
        """Let it go on."""
        os.kill(self.guest_pid(name), signal.SIGCONT)

    def guest_pid(self, name: str) -> int:
        """Return a running guest's QEMU process."""
        return int((self._root / "run/qemu" / f"{name}.pid").read_text())

    def define_pool(self, name: str, path: Path) -> Any:
        """Define and start a storage pool of a directory."""
        xml = f"<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"
        pool = self.connection.storagePoolDefineXML(xml)
        pool.create()
        return pool

    def clear(self) -> None:
        """Remove all domains, pools and images: the daemon is as it was when it started."""
        for domain in self.connection.listAllDomains():
            is_persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if is_persistent:
                domain.undefineFlags(_STATE_FLAGS)
        for pool in self.connection.listAllStoragePools():
            if pool.isActive():
                pool.destroy()
            pool.undefine()
        for image in self.images.iterdir():
            image.unlink()


def _open(uri: str) -> Any:
    # libvirt prints every error to standard error otherwise; they are raised anyway.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt.open(uri)

"""A real Ceph cluster on this machine, of one monitor, one manager and three OSDs on files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

OSDS = 3
OSD_BYTES = 10 * 2**30  # of each one's sparse file
FULL_RATIO = 0.95  # Ceph's own: an OSD that is fuller takes nothing

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-mgr", "ceph-osd", "monmaptool", "rados", "setpriv")

# Statistics come each second. Everybody has a key, as in a real cluster: without any, monitors refuse now and
# then what is asked while the connection is still being made ("wrong fsid").
_CONF = """[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{port}
keyring = {root}/$name.keyring
run_dir = {root}
pid_file = {root}/$name.pid
admin_socket = {root}/$name.$pid.asok
log_file = {root}/$name.log
crash_dir = {root}/crash
mon_data = {root}/mon
mgr_data = {root}/mgr
osd_data = {root}/osd-$id
public_addr = 127.0.0.1
osd_objectstore = bluestore
bluestore_block_size = {osd_bytes}
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 3
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
mon_data_avail_crit = 1
mgr_initial_modules =
mgr_stats_period = 1
mgr_tick_period = 1
"""


class CephError(Exception):
    """The cluster does not do what it should; the message is one line."""


class CephMissingError(Exception):
    """The machine cannot have a cluster; the message is one line that says what to do."""


class CephCluster:
    """A cluster. As a context manager it starts, and in the end nothing is left of it.

    :ivar fsid: its id
    :ivar conf: its configuration file
    :ivar monitor: its monitor's address and port
    """

    def __init__(self) -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            programs = ", ".join(missing)
            raise CephMissingError(f"needs {programs}: `make test` installs them where there are packages")
        self.fsid = str(uuid.uuid4())
        self._root = Path(tempfile.mkdtemp(prefix="hx-ceph-", dir="/tmp"))
        self._root.chmod(0o755)
        self.conf = self._root / "ceph.conf"
        port = find_free_port()
        self.monitor = ("127.0.0.1", str(port))
        self.conf.write_text(_CONF.format(fsid=self.fsid, port=port, root=self._root, osd_bytes=OSD_BYTES))
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> CephCluster:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the daemons and remove all that they wrote."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait(timeout=10)
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which Ceph's programs find this cluster."""
        return {**os.environ, "CEPH_CONF": str(self.conf)}

    def run(self, *command: str, timeout: float = 30) -> str:
        """Run one of Ceph's programs and return what it printed.

        :raises CephError: with what it said, when it failed
        """
        result = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            raise CephError(f"{' '.join(command)}: {result.stderr.strip()}")
        return result.stdout

    def add_client(self, name: str, **capabilities: str) -> str:
        """Make a key of a client or daemon with these capabilities, for who uses `conf`, and return it."""
        caps = [word for pair in capabilities.items() for word in pair]
        keyring = self._root / f"{name}.keyring"
        keyring.write_text(self.run("ceph", "auth", "get-or-create", name, *caps))
        return self.run("ceph", "auth", "print-key", name).strip()

    def create_pool(self, name: str, *, replicas: int) -> None:
        """Create a pool for block devices, and wait until `ceph df` has its size."""
        self.run("ceph", "osd", "pool", "create", name, "8")
        self.run("ceph", "osd", "pool", "set", name, "size", str(replicas), "--yes-i-really-mean-it")
        wait_until(lambda: self.get_usage(name).get("max_avail", 0) > 0, f"the size of pool {name}")

    def write(self, pool: str, *, mebibytes: int) -> None:
        """Write an object, and wait until `ceph df` has them."""
        before = self.get_usage(pool)["stored"]
        file = self._root / "data"
        file.write_bytes(os.urandom(mebibytes * 2**20))
        self.run("rados", "--pool", pool, "put", "object", str(file))
        file.unlink()
        wait_until(
            lambda: self.get_usage(pool)["stored"] - before >= mebibytes * 2**20,
            f"{mebibytes} MiB in pool {pool}",
        )

    def settle(self, pool: str) -> None:
        """Wait until `ceph df` says the same of a pool for a while: the OSDs still write for themselves."""
        said = [self.get_usage(pool)]

        def is_settled() -> bool:
            time.sleep(1)
            said.append(self.get_usage(pool))
            return said[-4:] == [said[-1]] * 4

        wait_until(is_settled, f"numbers of pool {pool} that stay")

    def get_usage(self, pool: str) -> dict[str, Any]:
        """Return what `ceph df` says of a pool; empty if it does not know it."""
        usage = json.loads(self.run("ceph", "df", "--format=json"))
        return next((each["stats"] for each in usage["pools"] if each["name"] == pool), {})

    def _start(self) -> None:
        root = self._root
        for name in ("mon", "mgr", "crash"):
            (root / name).mkdir()
        monitor = f"[v1:{':'.join(self.monitor)}]"
        monmap, keys = str(root / "monmap"), str(root / "keys")
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", monitor, monmap)
        self.run(
            "ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        admin = str(root / "client.admin.keyring")
        caps = [word for daemon in ("mon", "osd", "mgr") for word in ("--cap", daemon, "allow *")]
        self.run("ceph-authtool", "--create-keyring", admin, "--gen-key", "-n", "client.admin", *caps)
        self.run("ceph-authtool", keys, "--import-keyring", admin)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keys)
        self._start_daemon("ceph-mon", "a")
        self.add_client("mgr.x", mon="allow profile mgr", osd="allow *")
        self._start_daemon("ceph-mgr", "x")
        numbers = [self.run("ceph", "osd", "create").strip() for _ in range(OSDS)]
        for number in numbers:
            self.add_client(f"osd.{number}", mon="allow profile osd", mgr="allow profile osd", osd="allow *")
            (root / f"osd-{number}").mkdir()
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda number: self.run("ceph-osd", "--mkfs", "-i", number), numbers))
        # By this thread: a daemon ends with the thread that started it.
        for number in numbers:
            self._start_daemon("ceph-osd", number)
        wait_until(self._has_size, "the cluster to have its OSDs")

    def _has_size(self) -> bool:
        self._check_daemons()
        try:
            usage = json.loads(self.run("ceph", "df", "--format=json"))
        except CephError:  # a monitor that is not ready yet refuses commands
            return False
        return int(usage["stats"]["total_bytes"]) == OSDS * OSD_BYTES

    def _check_daemons(self) -> None:
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                said = (self._root / f"{name}.out").read_text(errors="replace")
                raise CephError(f"{name} ended at once: {' '.join(said.split())[-500:]}")

    def _start_daemon(self, program: str, name: str) -> None:
        """Start a daemon that ends with this process, however that ends."""
        with (self._root / f"{program}-{name}.out").open("wb") as log:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "-f", "-i", name],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        self._daemons[f"{program}-{name}"] = daemon

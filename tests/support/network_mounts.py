"""Real network file systems on this machine: SSHFS without a server's daemon, and a GlusterFS volume."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.sandbox import run

SSHFS_PROGRAMS = ("sshfs", "mount", "umount")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
GLUSTER_PROGRAMS = ("glusterd", "gluster", "glusterfs", "ip", "unshare")
GLUSTER_HOST = "192.0.2.10"

# In a network of its own: its ports are nobody else's, and it refuses a loopback address. All of it ends when
# its input does, also if the tests were killed.
_GLUSTER = """
ip link set lo up
ip address add {host}/32 dev lo
glusterd -N -f {root}/glusterd.vol -l {root}/log/glusterd.log -p {root}/run/glusterd.pid &
command="gluster --mode=script --glusterd-sock={root}/run/glusterd.socket"
for _ in $(seq 100); do $command volume info >&2 && break; sleep 0.1; done
$command volume create vms {host}:{brick} force >&2
$command volume start vms >&2
for point in {points}; do
    glusterfs --volfile-server={host} --volfile-id=/vms -l {root}/log/mount.log "$point"
done
echo ready
cat
network=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
    number=${{process#/proc/}}
    [ "$(readlink "$process/ns/net")" = "$network" ] && [ "$number" != $$ ] && kill -9 "$number"
done
"""

_GLUSTERD = """
volume management
    type mgmt/glusterd
    option working-directory {root}/lib
    option run-directory {root}/run
    option glusterd-sockfile {root}/run/glusterd.socket
    option transport-type socket
    option max-port 60999
end-volume
"""


@contextlib.contextmanager
def mount_tmpfs(point: Path, *, mebibytes: int) -> Iterator[None]:
    """Mount a small file system, to which nothing else writes."""
    point.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}M,mode=0755", "hx-served", str(point)])
    try:
        yield
    finally:
        _unmount(point)


@contextlib.contextmanager
def mount_sshfs(source: str, point: Path) -> Iterator[None]:
    """Mount "user@host:/path" of this machine, whatever the host. Its ssh is the SFTP server itself."""
    point.mkdir(parents=True)
    connect = point.parent / f"{point.name}.ssh"
    connect.write_text(f"#!/bin/sh\nexec {SFTP_SERVER}\n")
    connect.chmod(0o755)
    run(["sshfs", source, str(point), "-o", f"ssh_command={connect},allow_other"])
    try:
        yield
    finally:
        _unmount(point)


@contextlib.contextmanager
def mount_gluster(root: Path, brick: Path, *points: Path) -> Iterator[None]:
    """Serve a folder as the volume "vms" of GLUSTER_HOST, and mount it."""
    for folder in (root / "lib", root / "run", root / "log", *points):
        folder.mkdir(parents=True)
    (root / "glusterd.vol").write_text(_GLUSTERD.format(root=root))
    script = _GLUSTER.format(root=root, host=GLUSTER_HOST, brick=brick, points=" ".join(map(str, points)))
    with (root / "out").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (root / "out").read_text()[-1000:]
        yield
    finally:
        for point in points:
            _unmount(point)
        process.communicate(timeout=10)


def _unmount(point: Path) -> None:
    subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False, timeout=30)

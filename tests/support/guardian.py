"""The process that owns a sandbox: it makes the sandbox, and removes it when its standard input ends.

usage: guardian.py ROOT IMAGES_BYTES [v1|v2]

The last argument gives it control groups of its own, of that version: libvirt then makes one for each guest.

Its input is a pipe from the test process. The input ends when a test closes the sandbox, and also when the
test process is killed. So nothing is left, whatever happens. All processes of the sandbox are in its mount
namespace, and no others are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# What is a group of its own for the sandbox, where the machine has version 1.
_V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "blkio")

# Without /run there is no D-Bus, so systemd-machined does not list the guests as the machine's own. Without
# cgroups, none is made for them. libvirt needs neither.
_MAKE_NAMESPACE = """
root=$1
shift
mount -t tmpfs -o mode=0755 none /run
mkdir -p "$root/cgroup"
mount -t tmpfs -o mode=0755 none "$root/cgroup"
for group; do # SOURCE=TARGET, the target empty for the whole tree
    mkdir -p "$root/cgroup/${group#*=}"
    mount --bind "${group%=*}" "$root/cgroup/${group#*=}"
done
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || true
[ $# = 0 ] || mount --rbind "$root/cgroup" /sys/fs/cgroup
while umount --recursive --lazy "$root/cgroup" 2>/dev/null; do :; done
bind() { mkdir -p "$2"; mount --bind "$root/$1" "$2"; }
bind etc /etc/libvirt
bind run /run/libvirt
bind lib /var/lib/libvirt
bind cache /var/cache/libvirt
bind log /var/log/libvirt
echo ready
exec sleep infinity
"""


def main(root: Path, images_bytes: int, cgroups: str = "") -> None:
    images = root / "images"
    groups = _own_groups(root.name, cgroups)
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={images_bytes},mode=0755", "sandbox", str(images))
        for group in groups:
            _make_group(group)
        with _namespace(root, groups) as holder:
            print(holder.pid, flush=True)
            namespace = Path(f"/proc/{holder.pid}/ns/mnt")
            # While it is open Linux gives its number to no other namespace: to that of another worker, say.
            with namespace.open("rb"):
                sys.stdin.read()
                _kill_all_in(_namespace_of(holder.pid))
    finally:
        subprocess.run(["umount", "--lazy", str(images)], stderr=subprocess.DEVNULL, check=False)
        for group in groups:
            _remove_group(group)
        shutil.rmtree(root, ignore_errors=True)


def _own_groups(name: str, cgroups: str) -> dict[Path, str]:
    """Return the groups of that name to be made, and where each is below the sandbox's /sys/fs/cgroup."""
    found: dict[Path, str] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and cgroups == "v2":
            found[Path(where, name)] = ""
        for controller in {*options.split(",")} & {*_V1_CONTROLLERS}:
            if kind == "cgroup" and cgroups == "v1":
                found[Path(where, name)] = controller
    if cgroups and not found:
        sys.exit(f"this machine has no control groups of {cgroups}")
    return found


def _make_group(group: Path) -> None:
    """Make a group. In version 2, libvirt wants at least one controller in it, of those that there are."""
    group.mkdir()
    controllers = group / "cgroup.controllers"
    if not controllers.exists() or controllers.read_text().strip():
        return
    for name in (group.parent / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (group.parent / "cgroup.subtree_control").write_text(f"+{name}")


def _remove_group(group: Path) -> None:
    """Remove a group and those in it. The kernel may take a moment to see that their processes are gone."""
    deadline = time.monotonic() + 5
    while group.exists() and time.monotonic() < deadline:
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        time.sleep(0.02)


@contextlib.contextmanager
def _namespace(root: Path, groups: Mapping[Path, str]) -> Iterator[subprocess.Popen[str]]:
    """Make the mount namespace; the process in it keeps it."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    mounts = [f"{group}={below}" for group, below in groups.items()]
    holder = subprocess.Popen(
        [*unshare, "sh", "-ec", _MAKE_NAMESPACE, "sh", str(root), *mounts],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            sys.exit("the mount namespace could not be made")
        yield holder
    finally:
        holder.kill()
        holder.wait()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr.strip())


def _kill_all_in(namespace: str) -> None:
    """Kill until none is left: a dying process may just have started another one."""
    deadline = time.monotonic() + 10
    while (pids := _pids_in(namespace)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _pids_in(namespace: str) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if _namespace_of(pid) == namespace]


def _namespace_of(pid: int) -> str | None:
    """Return the process's mount namespace; None once it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 # the link's target is no path
    except OSError:
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

"""The process that owns a sandbox: it makes the sandbox, and removes it when its standard input ends.

usage: guardian.py ROOT IMAGES_BYTES

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
from collections.abc import Iterator
from pathlib import Path

# Without /run there is no D-Bus, so systemd-machined does not list the guests as the machine's own. Without
# cgroups, none is made for them. libvirt needs neither.
_MAKE_NAMESPACE = """
root=$1
mount -t tmpfs -o mode=0755 none /run
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || true
bind() { mkdir -p "$2"; mount --bind "$root/$1" "$2"; }
bind etc /etc/libvirt
bind run /run/libvirt
bind lib /var/lib/libvirt
bind cache /var/cache/libvirt
bind log /var/log/libvirt
echo ready
exec sleep infinity
"""


def main(root: Path, images_bytes: int) -> None:
    images = root / "images"
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={images_bytes},mode=0755", "sandbox", str(images))
        with _namespace(root) as holder:
            print(holder.pid, flush=True)
            namespace = Path(f"/proc/{holder.pid}/ns/mnt")
            # While it is open Linux gives its number to no other namespace: to that of another worker, say.
            with namespace.open("rb"):
                sys.stdin.read()
                _kill_all_in(_namespace_of(holder.pid))
    finally:
        subprocess.run(["umount", "--lazy", str(images)], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _namespace(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Make the mount namespace; the process in it keeps it."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    holder = subprocess.Popen(
        [*unshare, "sh", "-ec", _MAKE_NAMESPACE, "sh", str(root)],
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
    main(Path(sys.argv[1]), int(sys.argv[2]))

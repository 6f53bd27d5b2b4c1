"""A sandbox: directories, a small file system and a mount namespace of their own, in which libvirt can run.

Nothing on the machine is touched, and nothing of it is needed beyond the installed programs: libvirt's own
directories are private ones in there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.loopback import find_free_port

GIB = 2**30

_PROGRAMS = ("libvirtd", "qemu-system-x86_64", "qemu-img", "unshare", "nsenter", "mount")
_GUARDIAN = Path(__file__).with_name("guardian.py")

# No security driver, no virtlogd, no ownership changed, no namespace of its own for a guest: as little
# machinery as QEMU can do with. A guest that arrives is waited for at a port that no other libvirtd takes: by
# itself each begins with the same one.
_QEMU_CONF = """
security_driver = "none"
user = "root"
group = "root"
stdio_handler = "file"
namespaces = []
dynamic_ownership = 0
remember_owner = 0
migration_port_min = {port}
migration_port_max = {next_port}
"""


class SandboxError(Exception):
    """The machine cannot have a sandbox; the message is one line that says what to do."""


class Sandbox:
    """A place where libvirt runs, and which ends with everything in it when it is closed.

    :ivar root: a directory with a short name, for a socket's path may have 107 characters
    :ivar images: a tmpfs for disk images. Nothing else writes to it, so its numbers do not change.

    :param images_bytes: the size of that file system; it takes only the memory that is used of it
    :param cache: a directory to keep what libvirt found out about QEMU in, which takes it 8 s
    :param cgroups: "v1" or "v2": it has control groups of that version, and libvirt makes one for each guest
    """

    def __init__(
        self, *, images_bytes: int = 15 * GIB // 2, cache: Path | None = None, cgroups: str | None = None
    ) -> None:
        _check_machine()
        self.root = Path(tempfile.mkdtemp(prefix="hx-", dir="/tmp"))
        self.images = self.root / "images"
        self._make_directories(cache)
        self._guardian = subprocess.Popen(
            [sys.executable, str(_GUARDIAN), str(self.root), str(images_bytes), *filter(None, [cgroups])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests; this one has to clean up after them
        )
        assert self._guardian.stdout is not None
        self._holder = self._guardian.stdout.readline().strip()
        if not self._holder:
            _, message = self._guardian.communicate()
            raise SandboxError(f"no sandbox can be made here: {' '.join(message.split())}")

    def close(self) -> None:
        """End everything that runs in here, guests too, and remove it."""
        self._guardian.communicate(timeout=30)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command that runs these arguments in here; its process is that of the arguments."""
        return ["nsenter", f"--mount=/proc/{self._holder}/ns/mnt", "--", *map(str, arguments)]

    def run(self, *arguments: str | Path) -> str:
        """Run something in here to its end and return what it printed."""
        return run(self.command(*arguments))

    def _make_directories(self, cache: Path | None) -> None:
        for name in ("images", "etc", "run", "lib", "log", "sock", "cache"):
            (self.root / name).mkdir()
        if cache is not None:
            (self.root / "cache").rmdir()
            (self.root / "cache").symlink_to(cache)
        port = find_free_port()
        conf = _QEMU_CONF.format(port=port, next_port=port + 1)  # libvirt wants two, and takes the first
        (self.root / "etc/qemu.conf").write_text(conf)
        for path in (self.root, *self.root.iterdir()):
            path.chmod(0o755)  # whatever the umask is: an unprivileged exporter has to reach the sockets


def run(command: Sequence[str]) -> str:
    """Run a command to its end and return what it printed.

    :raises RuntimeError: with what it said, when it failed
    """
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise SandboxError("a private libvirtd needs root: run the tests as root, as `sudo make test` does")
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise SandboxError(
            f"a private libvirtd needs {', '.join(missing)}: `make test` installs what it needs"
        )

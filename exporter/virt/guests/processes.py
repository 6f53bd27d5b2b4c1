"""Guests' QEMU processes: whether the kernel says that one is stopped, before anybody waits for it.

libvirtd writes each guest's process to a file that everybody may read. Its state is in /proc. A sandbox may
hide it there (ProtectProc=invisible in a unit); then nothing is known, and guests are asked anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_PIDS = Path("/run/libvirt/qemu")
_PROC = Path("/proc")
# proc(5): T is stopped by a signal, t by a debugger. D waits for a disk, as any process does now and then.
_STOPPED = ("T", "t")
_WAITS_FOR_A_DISK = "D"


class GuestProcesses:
    """Looks at guests' processes, and remembers which of them waited for a disk. Not thread-safe.

    :param pids: the folder of libvirtd's files NAME.pid
    :param proc: /proc
    """

    def __init__(self, *, pids: Path = _PIDS, proc: Path = _PROC) -> None:
        self._pids = pids
        self._proc = proc
        self._waiting_for_disks: frozenset[str] = frozenset()

    def find_stopped(self, names: Iterable[str]) -> frozenset[str]:
        """Return the guests whose process is stopped, or waits for a disk at the second look in a row.

        They would not answer. What cannot be read is left out.

        :param names: libvirt's names of all guests of interest
        """
        states = {name: self._read_state(name) for name in names}
        waiting = frozenset(name for name, state in states.items() if state == _WAITS_FOR_A_DISK)
        still_waiting, self._waiting_for_disks = waiting & self._waiting_for_disks, waiting
        return still_waiting | {name for name, state in states.items() if state in _STOPPED}

    def _read_state(self, name: str) -> str:
        """Return the state of a guest's process: "S"; empty if it cannot be read."""
        if "/" in name:
            return ""
        try:
            pid = int((self._pids / f"{name}.pid").read_bytes())
            stat = (self._proc / str(pid) / "stat").read_bytes()
        except (OSError, ValueError):
            return ""
        # The state comes after the program's name, which may itself have spaces and parentheses.
        return stat.rpartition(b")")[2].strip()[:1].decode("ascii", "replace")

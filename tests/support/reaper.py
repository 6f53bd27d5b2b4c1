"""Run a command as the parent of whatever it leaves behind, such as libvirtd's guests.

usage: reaper.py COMMAND [ARGUMENT...]

A guest's QEMU is a daemon. When it ends it is for the machine's first process to notice, which in a container
or a small virtual machine takes its time, and for so long libvirtd takes the guest for alive. Ends with the
last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def main(command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command)
    child.returncode = 0  # it is waited for below, with all the others
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])

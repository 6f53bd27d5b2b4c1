"""Run the exporter's command line as an unprivileged user.

The user changes only after the import: the checkout and Python may be in a folder that other users cannot
read, such as /root. Modules that Python would import later are also imported before.
"""

from __future__ import annotations

import codecs
import importlib
import os
import pwd
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exporter.cli import main  # found by the line before

_ENCODINGS = ("utf-8-sig", "idna", "latin-1")
_MODULES = ("concurrent.futures.thread",)


def become_nobody() -> None:
    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    for module in _MODULES:
        importlib.import_module(module)
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    os.chdir("/")


if __name__ == "__main__":
    become_nobody()
    sys.exit(main())

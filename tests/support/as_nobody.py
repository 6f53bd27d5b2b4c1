"""Run the exporter's command line as an unprivileged user.

The user changes only after the import: the checkout may lie where nobody else may look, such as /root.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exporter.cli import main  # found by the line before


def become_nobody() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    os.chdir("/")


if __name__ == "__main__":
    become_nobody()
    sys.exit(main())

"""Programs that stand in for others which are not here, or do what the real ones do only on a bad day."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# In the form of `ceph df --format=json` of Ceph 16; written by hand, as there is no cluster to record one of.
CEPH_DF = """{"stats": {"total_bytes": 322122547200, "total_avail_bytes": 290000000000, "num_osds": 3},
 "stats_by_class": {"hdd": {"total_bytes": 322122547200}},
 "pools": [
  {"name": "device_health_metrics", "id": 1,
   "stats": {"stored": 0, "bytes_used": 0, "max_avail": 91000000000}},
  {"name": "vms", "id": 2, "stats": {"stored": 5368709120, "objects": 1300, "kb_used": 15728640,
   "bytes_used": 16106127360, "percent_used": 0.05, "max_avail": 91268055040}}]}
"""


def write_program(directory: Path, name: str, script: str) -> None:
    """Write a shell script as a program with this name. It finds the usual tools."""
    program = directory / name
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)


def path_with(directory: Path) -> str:
    """Return a PATH on which these programs come first."""
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def find_marked(variable: str, value: str) -> list[int]:
    """Return the living processes, but for this one, that have the variable with this value.

    Whatever a program starts inherits its environment, in whichever group or session it is.
    """
    mark = os.fsencode(f"{variable}={value}")
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone, or a zombie
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return [each for each in found if each != os.getpid()]

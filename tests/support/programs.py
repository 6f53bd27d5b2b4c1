"""Programs that stand in for others which are not here, or do what the real ones do only on a bad day."""

from __future__ import annotations

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

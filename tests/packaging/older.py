"""A version before this one, made of this checkout: what upgrades begin with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from exporter import __version__

OLDER = "0.9.0"
OLDER_UNIT = "# as it was in 0.9.0\n"
GONE_MODULE = "gone_since_then"


def clone_as_older(checkout: Path, clone: Path) -> Path:
    """Clone what is committed, with a lower version, a module that is gone now and another unit."""
    subprocess.run(["git", "clone", "--quiet", checkout, clone], check=True)
    version = clone / "exporter/__init__.py"
    version.write_text(version.read_text().replace(f'"{__version__}"', f'"{OLDER}"'))
    module = clone / f"exporter/{GONE_MODULE}.py"
    module.write_text('"""A module of the older version."""\n')
    unit = clone / "deploy/hypervisor-exporter.service"
    unit.write_text(unit.read_text() + OLDER_UNIT)
    subprocess.run(["git", "-C", clone, "add", "--all"], check=True)
    return clone

"""Build hook: what is built knows the revision it was built from, as exporter/_revision.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RevisionHook(BuildHookInterface[Any]):
    """Adds the revision to wheels and source distributions; the files of a checkout stay as they are."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the revision beside the tree and include it.

        An editable install is of no one revision; a source distribution has no git, and has the file already.
        """
        revision = os.environ.get("SOURCE_REVISION") or read_git_revision(Path(self.root))
        if version == "editable" or not revision:
            return
        # Kept on the hook, since the folder goes when its object does.
        self._folder = TemporaryDirectory()
        written = Path(self._folder.name, "_revision.py")
        written.write_text(f'"""The revision that this was built from."""\n\nREVISION = "{revision}"\n')
        build_data["force_include"][str(written)] = "exporter/_revision.py"


def read_git_revision(root: Path) -> str:
    """Return the commit's short hash, with "-dirty" if files were changed; "" outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # A source tree unpacked inside another project's checkout is not of that project's revision.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    try:
        described = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()

"""A nova.conf with given options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_nova_conf(path: Path, options: Mapping[str, str]) -> Path:
    """Write it, and return its path.

    :param options: by "group.name" or, in the DEFAULT group, "name"; a value's lines are several settings
    """
    groups: dict[str, list[str]] = {}
    for name, value in options.items():
        group, _, option = name.rpartition(".")
        settings = groups.setdefault(group or "DEFAULT", [])
        settings += [f"{option} = {line}" for line in value.split("\n")]
    path.write_text("\n".join(line for group, lines in groups.items() for line in (f"[{group}]", *lines)))
    return path

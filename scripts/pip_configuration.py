#!/usr/bin/env python3
"""Print a pip.conf that says where this machine gets its packages from, for a build that does not see it.

usage: scripts/pip_configuration.py CERTIFICATES

pip itself is not asked: the Python of a bare Debian has none. As with pip, a file that is nearer to the user
wins over one further off, the section [install] over [global], and an environment variable over both. A
setting that names files of this machine is left out, since the build does not have them. CERTIFICATES
is where the build has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from pathlib import Path

WANTED = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
SECTIONS = ("global", "install")


def list_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files that pip reads, the one that wins last.

    Source: pip's user guide, "Location".
    """
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environment.get("HOME", "/"))
    for folder in reversed(environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(folder, "pip/pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip/pip.conf"
    yield Path(environment.get("XDG_CONFIG_HOME", home / ".config"), "pip/pip.conf")
    if named:
        yield Path(named)


def read_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the wanted settings, each on one line."""
    files = RawConfigParser()
    files.read(list_files(environment), encoding="utf-8")
    settings = {
        name: value
        for section in SECTIONS
        if files.has_section(section)
        for name, value in files.items(section)
    }
    settings = {name.replace("_", "-"): value for name, value in settings.items()}
    for name in (*WANTED, "default-timeout"):
        if value := environment.get(f"PIP_{name.upper().replace('-', '_')}"):
            settings[name.removeprefix("default-")] = value
    on_one_line = {
        name: " ".join(word for word in settings.get(name, "").split() if not word.startswith("file:"))
        for name in WANTED
    }
    return {name: value for name, value in on_one_line.items() if value}


def main() -> None:
    """Print the file."""
    settings = {**read_settings(os.environ), "cert": sys.argv[1]}
    print("[global]", *(f"{name} = {value}" for name, value in settings.items()), sep="\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Print a pip.conf with this machine's package index, for a build that does not see this machine's files.

usage: scripts/pip_configuration.py CERTIFICATES

This does not use pip: the Python of a bare Debian has none. The order is that of pip: the user's file
overrides the system's, the section [install] overrides [global], and an environment variable overrides both.
Settings that name files of this machine are left out, because the build does not have them. CERTIFICATES is
the path of the build's own certificates.
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
    """Yield the files that pip reads. Later files override earlier ones.

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

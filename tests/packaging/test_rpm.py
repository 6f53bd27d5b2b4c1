"""The RPM: built from the specification, on Debian, whose rpmbuild lacks Fedora's macros and dependencies."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from exporter import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = CHECKOUT / "deploy/rpm/hypervisor-exporter.spec"

# What the package systemd-rpm-macros defines on Fedora; installing is not tried here, only building.
MACROS = {
    "_unitdir": "/usr/lib/systemd/system",
    "_sysusersdir": "/usr/lib/sysusers.d",
    "_tmpfilesdir": "/usr/lib/tmpfiles.d",
    "systemd_post()": "%{nil}",
    "systemd_preun()": "%{nil}",
    "systemd_postun_with_restart()": "%{nil}",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The built package's files, each with its attributes."""
    top = tmp_path_factory.mktemp("rpm")
    source = top / f"hypervisor-exporter-{__version__}.tar.gz"
    archive = ["git", "archive", f"--prefix=hypervisor-exporter-{__version__}/", f"--output={source}", "HEAD"]
    subprocess.run(archive, cwd=CHECKOUT, check=True)
    defines = {"_topdir": str(top), "_sourcedir": str(top), **MACROS}
    arguments = [f"--define={name} {value}" for name, value in defines.items()]
    built = subprocess.run(
        ["rpmbuild", "-bb", "--nodeps", *arguments, SPEC],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (package,) = top.rglob("*.noarch.rpm")
    query = ["rpm", "-qp", "--queryformat", "[%{FILENAMES}\t%{FILEFLAGS:fflags}\n]", package]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return dict(line.split("\t") for line in listed.splitlines())


def test_its_files_are_where_a_fedora_user_looks_for_them(files: dict[str, str]) -> None:
    """Command, unit, configuration that upgrades keep, manual, completion."""
    assert {
        "/usr/bin/hypervisor-exporter",
        "/usr/lib/systemd/system/hypervisor-exporter.service",
        "/usr/share/man/man1/hypervisor-exporter.1.gz",
        "/usr/share/bash-completion/completions/hypervisor-exporter",
        "/usr/share/hypervisor-exporter/exporter/cli.py",
    } <= {re.sub(r"\.1$", ".1.gz", name) for name in files}
    for kept in ("/etc/hypervisor-exporter/config.yaml", "/etc/sysconfig/hypervisor-exporter"):
        assert files[kept] == "cn"


def test_its_version_is_the_exporters() -> None:
    """The specification moves with the code."""
    version = re.search(r"^Version: +(\S+)$", SPEC.read_text(), re.MULTILINE)
    assert version is not None
    assert version[1] == __version__

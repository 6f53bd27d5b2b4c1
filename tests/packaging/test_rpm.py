"""The RPM: built from the specification, on Debian, whose rpmbuild lacks Fedora's macros and dependencies."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from exporter import __version__
from tests.packaging.older import GONE_MODULE, OLDER, OLDER_UNIT, clone_as_older

CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = CHECKOUT / "deploy/rpm/hypervisor-exporter.spec"

# What the package systemd-rpm-macros defines on Fedora; its scripts are not run here.
MACROS = {
    "_unitdir": "/usr/lib/systemd/system",
    "_sysusersdir": "/usr/lib/sysusers.d",
    "_tmpfilesdir": "/usr/lib/tmpfiles.d",
    "systemd_post()": "%{nil}",
    "systemd_preun()": "%{nil}",
    "systemd_postun_with_restart()": "%{nil}",
}


def build(checkout: Path, top: Path, version: str, tree: str = "HEAD") -> Path:
    """Build the package of a commit or tree."""
    source = top / f"hypervisor-exporter-{version}.tar.gz"
    archive = ["git", "archive", f"--prefix=hypervisor-exporter-{version}/", f"--output={source}", tree]
    subprocess.run(archive, cwd=checkout, check=True)
    defines = {"_topdir": str(top), "_sourcedir": str(top), **MACROS}
    arguments = [f"--define={name} {value}" for name, value in defines.items()]
    built = subprocess.run(
        ["rpmbuild", "-bb", "--nodeps", *arguments, checkout / SPEC.relative_to(CHECKOUT)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (package,) = top.rglob("*.noarch.rpm")
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CHECKOUT, tmp_path_factory.mktemp("rpm"), __version__)


@pytest.fixture(scope="module")
def files(package: Path) -> dict[str, str]:
    """The built package's files, each with its attributes."""
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
        "/usr/share/hypervisor-exporter/guests/unit.conf",
        "/usr/share/hypervisor-exporter/ssh/ssh_config",
        "/usr/share/hypervisor-exporter/ssh/unit.conf",
    } <= {re.sub(r"\.1$", ".1.gz", name) for name in files}
    for kept in ("/etc/hypervisor-exporter/config.yaml", "/etc/sysconfig/hypervisor-exporter"):
        assert files[kept] == "cn"


def test_its_version_is_the_exporters() -> None:
    """The specification moves with the code."""
    version = re.search(r"^Version: +(\S+)$", SPEC.read_text(), re.MULTILINE)
    assert version is not None
    assert version[1] == __version__


def test_an_upgrade_keeps_the_configuration_and_nothing_of_the_version_before(
    package: Path, tmp_path: Path
) -> None:
    """Its files alone are installed, into a folder: the scripts need Fedora's systemd."""
    if os.geteuid() != 0:
        pytest.skip("only root can install packages")
    clone = clone_as_older(CHECKOUT, tmp_path / "clone")
    spec = clone / SPEC.relative_to(CHECKOUT)
    spec.write_text(re.sub(r"^(Version: +)\S+$", rf"\g<1>{OLDER}", spec.read_text(), flags=re.MULTILINE))
    tree = subprocess.run(["git", "-C", clone, "write-tree"], capture_output=True, text=True, check=True)
    (tmp_path / "top").mkdir()
    before = build(clone, tmp_path / "top", OLDER, tree.stdout.strip())

    root = tmp_path / "root"
    unit = root / "usr/lib/systemd/system/hypervisor-exporter.service"
    modules = root / "usr/share/hypervisor-exporter/exporter"
    conffiles = (root / "etc/hypervisor-exporter/config.yaml", root / "etc/sysconfig/hypervisor-exporter")
    run_rpm(root, "--install", str(before))
    assert unit.read_text().endswith(OLDER_UNIT)
    assert (modules / f"{GONE_MODULE}.py").exists()
    for file in conffiles:
        file.write_text("# mine\n")

    run_rpm(root, "--upgrade", str(package))
    assert run_rpm(root, "--query", "--queryformat=%{VERSION}", "hypervisor-exporter") == __version__
    assert f'"{__version__}"' in (modules / "__init__.py").read_text()
    assert not (modules / f"{GONE_MODULE}.py").exists()
    assert OLDER_UNIT not in unit.read_text()
    assert [file.read_text() for file in conffiles] == ["# mine\n"] * 2


def run_rpm(root: Path, *arguments: str) -> str:
    command = ["rpm", f"--root={root}", "--nodeps", "--noscripts", *arguments]
    if "--query" in arguments:
        command = ["rpm", f"--root={root}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout

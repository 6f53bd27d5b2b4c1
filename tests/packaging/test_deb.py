"""The Debian package: built, installed in a fresh Debian, run there, upgraded and purged."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.buildah import BASE, CHECKOUT, Container, make_container
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon

CONFFILE = "/etc/hypervisor-exporter/config.yaml"

# apt inside uses this machine's sources and certificates, which do not stay there.
APT = ("/etc/apt:/etc/apt:ro", "/etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = subprocess.run(
        [CHECKOUT / "scripts/build-deb"], capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    name = built.stdout.split()[-1]
    return shutil.copy(CHECKOUT / name, tmp_path_factory.mktemp("package") / "hypervisor-exporter.deb")


@pytest.fixture(scope="module")
def installed(images: None, package: Path) -> Iterator[Container]:
    """A fresh Debian with the package, as `apt install ./hypervisor-exporter_*.deb` leaves it."""
    with make_container(BASE) as container:
        _must(container, "apt-get", "update", "--quiet")
        _install(container, package)
        yield container


def test_the_same_tree_gives_the_same_package(package: Path) -> None:
    """Two builds, one hash."""
    again = subprocess.run([CHECKOUT / "scripts/build-deb"], capture_output=True, text=True, check=True)
    assert (CHECKOUT / again.stdout.split()[-1]).read_bytes() == package.read_bytes()


def test_lintian_finds_no_error(package: Path) -> None:
    """Debian's own linter; warnings may remain."""
    command = ["lintian", "--allow-root", "--fail-on=error", package]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout


def test_its_files_are_where_a_debian_user_looks_for_them(installed: Container) -> None:
    """Command, unit, configuration, manual, completion; and nothing where other programs of Python look."""
    files = set(_must(installed, "dpkg", "-L", "hypervisor-exporter").split())
    assert {
        "/usr/bin/hypervisor-exporter",
        "/lib/systemd/system/hypervisor-exporter.service",
        "/lib/systemd/system/hypervisor-exporter.socket",
        CONFFILE,
        "/etc/default/hypervisor-exporter",
        "/usr/share/man/man1/hypervisor-exporter.1.gz",
        "/usr/share/bash-completion/completions/hypervisor-exporter",
        "/usr/share/doc/hypervisor-exporter/config.example.yaml",
    } <= files
    assert not [path for path in files if "dist-packages" in path]
    conffiles = _must(installed, "dpkg-query", "--show", "--showformat=${Conffiles}", "hypervisor-exporter")
    assert CONFFILE in conffiles


def test_what_the_unit_starts_scrapes_with_nothing_else_to_do(
    installed: Container, libvirtd: LibvirtDaemon
) -> None:
    """On a host with a libvirtd, what the unit starts answers with that hypervisor's numbers."""
    unit = (CHECKOUT / "deploy/hypervisor-exporter.service").read_text()
    start = re.search(r"^ExecStart=(.*) \$ARGS$", unit, re.MULTILINE)
    assert start is not None
    socket_path = libvirtd.uri_read_only.partition("socket=")[2]
    mounts = (
        f"{socket_path}:/run/libvirt/libvirt-sock-ro",
        f"{libvirtd.images}:/var/lib/nova/instances:ro",
    )
    _must(installed, "install", "-d", "/run/libvirt", "/var/lib/nova/instances")
    # libvirtd lets in only whom its own machine knows: here, as whom `nobody` runs.
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    result = installed.run(*as_nobody, *start[1].split(), "--once", volumes=mounts)
    assert result.returncode == 0, result.stderr
    scrape = Scrape(text=result.stdout, log=result.stderr)
    assert scrape.value("hypervisor_memory_mb") == libvirtd.connection.getInfo()[1]
    ((build, _),) = scrape.series("hypervisor_exporter_build_info")
    assert build["revision"] != "unknown"
    user = _must(installed, "getent", "passwd", "hypervisor-exporter")
    assert user.rstrip().endswith(":/nonexistent:/usr/sbin/nologin")


def test_an_upgrade_keeps_the_configuration_and_a_purge_leaves_nothing(
    installed: Container, package: Path, tmp_path: Path
) -> None:
    """A changed conffile outlives the upgrade; after the purge no file and no unit is left."""
    newer = _repack(package, tmp_path, version="0.1.1-1")
    _must(installed, "sh", "-c", f"echo '# mine' >> {CONFFILE}")
    _install(installed, newer)
    shown = _must(installed, "dpkg-query", "--show", "--showformat=${Version}", "hypervisor-exporter")
    assert shown == "0.1.1-1"
    assert _must(installed, "tail", "-n", "1", CONFFILE) == "# mine\n"
    _must(installed, "hypervisor-exporter", "--config.check", "--config.file", CONFFILE)
    _must(installed, "apt-get", "purge", "--yes", "--quiet", "hypervisor-exporter")
    left = _must(installed, "sh", "-c", "find / -xdev -name '*hypervisor-exporter*' -not -path '/proc/*'")
    assert left == ""


def _install(container: Container, package: Path) -> None:
    command = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends /new.deb"
    volumes = (*APT, f"{package}:/new.deb:ro")
    result = container.run("sh", "-c", command, volumes=volumes, seconds=300)
    assert result.returncode == 0, result.stdout + result.stderr


def _repack(package: Path, directory: Path, *, version: str) -> Path:
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(
        re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE)
    )
    newer = directory / "newer.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", tree, newer]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return newer


def _must(container: Container, *command: str) -> str:
    result = container.run(*command, volumes=APT, seconds=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

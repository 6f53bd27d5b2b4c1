"""The Debian package: built here, installed in a fresh Debian 12 and 13, run there, purged; upgraded to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter import __version__
from tests.packaging.buildah import BASES, CHECKOUT, Container, make_container
from tests.packaging.fresh_debian import build, install, must
from tests.packaging.older import GONE_MODULE, OLDER, OLDER_UNIT, clone_as_older
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon

CONFFILE = "/etc/hypervisor-exporter/config.yaml"
DEFAULTS = "/etc/default/hypervisor-exporter"
UNIT = "/lib/systemd/system/hypervisor-exporter.service"


@pytest.fixture(scope="module")
def package_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version before this one: with a module that is gone now, and an older unit."""
    tree = clone_as_older(CHECKOUT, tmp_path_factory.mktemp("before") / "clone")
    changelog = tree / "deploy/debian/changelog"
    changelog.write_text(changelog.read_text().replace(f"({__version__}-1)", f"({OLDER}-1)", 1))
    return build(tree, tmp_path_factory.mktemp("package_before"))


@pytest.fixture(scope="module", params=BASES)
def installed(
    request: pytest.FixtureRequest, build_image: Callable[..., None], package: Path
) -> Iterator[Container]:
    """A fresh Debian with the package, as `apt install ./hypervisor-exporter_*.deb` leaves it.

    Each of the promised releases, whichever of them the package was built on: that one is this machine's.
    """
    build_image(f"--base={request.param}", "--only-base")
    with make_container(BASES[request.param]) as container:
        must(container, "apt-get", "update", "--quiet")
        install(container, package)
        yield container


def test_the_same_tree_gives_the_same_package(package: Path) -> None:
    """Two builds, one hash."""
    again = subprocess.run([CHECKOUT / "scripts/build-deb"], capture_output=True, text=True, check=True)
    assert (CHECKOUT / again.stdout.split()[-1]).read_bytes() == package.read_bytes()


def test_lintian_finds_nothing(package: Path) -> None:
    """Debian's own linter, that of the release that built the package, has no error and no warning."""
    command = ["lintian", "--allow-root", "--fail-on=error,warning", package]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_a_build_that_fails_says_why_in_the_tools_own_words(tmp_path: Path) -> None:
    """dpkg-buildpackage names the build dependency that is not there; the last line says what failed."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    control = clone / "deploy/debian/control"
    control.write_text(control.read_text().replace("Build-Depends: ", "Build-Depends: no-such-package, "))
    built = subprocess.run(
        [clone / "scripts/build-deb"], capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 1
    assert re.search("nmet build dependencies: .*no-such-package", built.stderr)
    assert built.stderr.splitlines()[-1].startswith("Cannot build the package: dpkg-buildpackage failed")


def test_its_files_are_where_a_debian_user_looks_for_them(installed: Container) -> None:
    """Command, unit, configuration, manual, completion; and nothing where other programs of Python look."""
    files = set(must(installed, "dpkg", "-L", "hypervisor-exporter").split())
    assert {
        "/usr/bin/hypervisor-exporter",
        CONFFILE,
        "/etc/default/hypervisor-exporter",
        "/usr/share/man/man1/hypervisor-exporter.1.gz",
        "/usr/share/bash-completion/completions/hypervisor-exporter",
        "/usr/share/doc/hypervisor-exporter/config.example.yaml",
    } <= files
    # Debian 12 builds them into /lib, Debian 13 into /usr/lib, which are one folder on both.
    for unit in ("hypervisor-exporter.service", "hypervisor-exporter.socket"):
        assert {f"/lib/systemd/system/{unit}", f"/usr/lib/systemd/system/{unit}"} & files
        must(installed, "test", "-f", f"/lib/systemd/system/{unit}")
    assert not [path for path in files if "dist-packages" in path]
    conffiles = must(installed, "dpkg-query", "--show", "--showformat=${Conffiles}", "hypervisor-exporter")
    assert CONFFILE in conffiles


def test_it_starts_by_hand(installed: Container) -> None:
    """The first thing that somebody tries after `apt install` needs no libvirtd and no configuration."""
    text = must(installed, "hypervisor-exporter", "--once", "--libvirt.uri=test:///default")
    assert Scrape(text=text).value("hypervisor_vcpus") == 3


def test_only_the_service_is_enabled(installed: Container) -> None:
    """The service starts with the machine; its socket is there for those who enable it."""
    wanted = must(installed, "sh", "-c", "cd /etc/systemd/system && ls -d *.wants/hypervisor-exporter.*")
    assert wanted.split() == ["multi-user.target.wants/hypervisor-exporter.service"]


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
    must(installed, "install", "-d", "/run/libvirt", "/var/lib/nova/instances")
    # libvirtd lets in only whom its own machine knows: here, as whom `nobody` runs.
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    result = installed.run(*as_nobody, *start[1].split(), "--once", volumes=mounts)
    assert result.returncode == 0, result.stderr
    scrape = Scrape(text=result.stdout, log=result.stderr)
    assert scrape.value("hypervisor_memory_mb") == libvirtd.connection.getInfo()[1]
    ((build, _),) = scrape.series("hypervisor_exporter_build_info")
    assert build["revision"] != "unknown"
    user = must(installed, "getent", "passwd", "hypervisor-exporter")
    assert user.rstrip().endswith(":/nonexistent:/usr/sbin/nologin")


def test_a_purge_leaves_nothing(installed: Container) -> None:
    """After the purge no file and no unit is left."""
    _purge(installed)


def test_an_upgrade_keeps_the_configuration_and_nothing_of_the_version_before(
    installed: Container, package: Path, package_before: Path
) -> None:
    """What the administrator wrote is kept; command, modules and units are those of the new version."""
    install(installed, package_before)
    assert must(installed, "hypervisor-exporter", "--version").split()[-1] == OLDER
    assert must(installed, "cat", UNIT).endswith(OLDER_UNIT)
    own = {CONFFILE: "# mine", DEFAULTS: "# mine, too"}
    for file, line in own.items():
        must(installed, "sh", "-c", f"echo '{line}' >> {file}")

    install(installed, package)
    shown = must(installed, "dpkg-query", "--show", "--showformat=${Version}", "hypervisor-exporter")
    assert shown == f"{__version__}-1"
    assert must(installed, "hypervisor-exporter", "--version").split()[-1] == __version__
    for file, line in own.items():
        assert must(installed, "tail", "-n", "1", file) == f"{line}\n"
    must(installed, "hypervisor-exporter", "--config.check", "--config.file", CONFFILE)
    assert must(installed, "cat", UNIT) == (CHECKOUT / "deploy/hypervisor-exporter.service").read_text()
    wanted = must(installed, "sh", "-c", "cd /etc/systemd/system && ls -d *.wants/hypervisor-exporter.*")
    assert wanted.split() == ["multi-user.target.wants/hypervisor-exporter.service"]
    gone = must(installed, "find", "/usr", "/etc", "-name", f"*{GONE_MODULE}*", "-o", "-name", "*.dpkg-*")
    assert gone == ""
    _purge(installed)


def _purge(container: Container) -> None:
    must(container, "apt-get", "purge", "--yes", "--quiet", "hypervisor-exporter")
    left = must(container, "sh", "-c", "find / -xdev -name '*hypervisor-exporter*' -not -path '/proc/*'")
    assert left == ""

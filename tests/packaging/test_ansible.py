"""The playbook on a fresh Debian: runs that fail and are repeated, and what restarts or reloads the service.

systemd does not run here: tests/packaging/systemctl stands in for its command. The rest is real.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter import __version__
from tests.packaging.buildah import BASES, CHECKOUT, Container, make_container
from tests.packaging.fresh_debian import APT, must

CONFFILE = "etc/hypervisor-exporter/config.yaml"
VARIABLES = (
    *("PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"),
    "ANSIBLE_PIPELINING=1",
)
INVENTORY = "[hypervisors]\nlocalhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"
# dpkg does nothing and fails while this file is there.
OBSTACLE = "run/dpkg-fails"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A hypervisor that the playbook is run on."""

    container: Container

    def play(self) -> subprocess.CompletedProcess[str]:
        command = ("ansible-playbook", "-i", "/srv/inventory", "/srv/deploy/ansible/playbook.yaml")
        return self.container.run("env", *VARIABLES, *command, volumes=APT, seconds=300)

    def take_log(self) -> list[str]:
        """Return what was done to the service since the last call, each with the groups that it then had."""
        log = self.path("run/stand-in/log")
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def path(self, path: str) -> Path:
        return self.container.root / path


@pytest.fixture(scope="module")
def host(build_image: Callable[..., None], package: Path) -> Iterator[Host]:
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    build_image(f"--base={release}", "--only-base")
    with make_container(BASES[release]) as container:
        must(container, "apt-get", "update", "--quiet")
        must(container, "apt-get", "install", "-yq", "--no-install-recommends", "ansible-core", "python3-apt")
        must(container, "groupadd", "--system", "nova")
        root = container.root
        for folder in ("etc/nova", "run/systemd/system", "srv/deploy/ansible", "srv/dist"):
            (root / folder).mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("systemctl"), root / "usr/local/bin")
        shutil.copy(CHECKOUT / "deploy/ansible/playbook.yaml", root / "srv/deploy/ansible")
        shutil.copy(package, root / f"srv/dist/hypervisor-exporter_{__version__}-1_all.deb")
        (root / "srv/inventory").write_text(INVENTORY)
        (root / "etc/apt/apt.conf").write_text('APT::Install-Recommends "false";\n')
        (root / "etc/dpkg/dpkg.cfg.d/obstacle").write_text(f"pre-invoke=test ! -e /{OBSTACLE}\n")
        yield Host(container=container)


def test_runs_that_failed_and_are_repeated_end_in_the_wanted_state(host: Host) -> None:
    """The next run takes up what a run changed before it failed. It restarts only for what needs it."""
    # The package cannot be installed, and then it can.
    host.path(OBSTACLE).touch()
    _fails(host, "Finish what an interrupted installation left")
    host.path(OBSTACLE).unlink()
    _succeeds(host)
    assert host.take_log() == ["start: hypervisor-exporter", "restart: hypervisor-exporter"]
    # The configuration was changed by hand. It is written anew and reloaded, and nothing else is changed.
    host.path(CONFFILE).write_text("# by hand\n")
    assert "changed=2 " in _succeeds(host)
    assert host.take_log() == ["reload: hypervisor-exporter"]

    # Nova is installed, but with a mistake: the run fails after it has changed the user's groups.
    nova_conf = host.path("etc/nova/nova.conf")
    nova_conf.write_text("[DEFAULT]\ncpu_allocation_ratio = a lot\n")
    _fails(host, "Configure it, if the configuration has no mistakes")
    assert host.take_log() == []
    nova_conf.write_text("[DEFAULT]\ncpu_allocation_ratio = 4.0\n")
    _succeeds(host)
    assert host.take_log() == ["restart: hypervisor-exporter nova"]
    assert 'nova_conf: ["/etc/nova/nova.conf"]\n' in host.path(CONFFILE).read_text()
    # Debian's nova-compute reads a second file, whose options count.
    host.path("etc/nova/nova-compute.conf").write_text("[libvirt]\nvirt_type = qemu\n")
    _succeeds(host)
    assert host.take_log() == ["reload: hypervisor-exporter nova"]
    expected = 'nova_conf: ["/etc/nova/nova.conf", "/etc/nova/nova-compute.conf"]\n'
    assert expected in host.path(CONFFILE).read_text()


def _succeeds(host: Host) -> str:
    result = host.play()
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _fails(host: Host, task: str) -> None:
    result = host.play()
    assert result.returncode != 0, result.stdout
    tasks = re.findall(r"^TASK \[(.*)\]", result.stdout.rpartition("\nfatal: ")[0], re.MULTILINE)
    assert tasks[-1] == task, result.stdout

"""The packaged service reaches a hypervisor over SSH, in a fresh Debian, after the steps of docs/fleet.md.

systemd does not run here: tests/packaging/confine.py applies the unit's limits by hand. The server is
OpenSSH, and behind it is a real libvirtd. The exporter's machine and the hypervisor are one container.
"""

from __future__ import annotations

import json
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.buildah import BASES, CHECKOUT, Container, make_container
from tests.packaging.fresh_debian import APT, install, must
from tests.packaging.unit_settings import read_settings
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon
from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

UNIT = "lib/systemd/system/hypervisor-exporter.service"
DROP_IN = "etc/systemd/system/hypervisor-exporter.service.d/ssh.conf"
KEYS = "/etc/hypervisor-exporter/ssh"
# What apt installs starts no service.
NO_SERVICES = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The exporter's machine, and the hypervisor kvm01 at a port of its own.

    :ivar try_it: step 4 of the documentation
    """

    container: Container
    port: int
    try_it: str

    def scrape_confined(self, uri: str, *drop_ins: str) -> subprocess.CompletedProcess[str]:
        """Scrape once under the limits of the unit and of these drop-ins."""
        root = self.container.root
        settings = json.dumps(read_settings(root / file for file in (UNIT, *drop_ins)))
        confine = [sys.executable, Path(__file__).with_name("confine.py"), root, settings]
        command = [*confine, "hypervisor-exporter", "--once", f"--libvirt.uri={uri}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def machine(
    build_image: Callable[..., None], package: Path, shared_libvirtd: LibvirtDaemon
) -> Iterator[Machine]:
    """A fresh Debian of this machine's release, after the steps 1 to 3. CI tries each promised release."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    build_image(f"--base={release}", "--only-base")
    with make_container(BASES[release]) as container:
        must(container, "sh", "-c", NO_SERVICES)
        must(container, "apt-get", "update", "--quiet")
        install(container, package, "netcat-openbsd", "openssh-client", "openssh-server")
        (container.root / "etc/hosts").write_text("127.0.0.1 localhost kvm01 kvm02\n")
        port = find_free_port()
        on_exporter, on_hypervisor, sandbox, try_it, _ = _read_steps(port)
        with _serve_ssh(container, port, shared_libvirtd):
            _follow(container, on_exporter)
            key = must(container, "cat", f"{KEYS}/id_ed25519.pub").strip()
            _follow(container, on_hypervisor.replace("ssh-ed25519 AAAA... hypervisor-exporter", key))
            _follow(container, sandbox)
            yield Machine(container=container, port=port, try_it=try_it)


@pytest.fixture(autouse=True)
def _pool(libvirtd: LibvirtDaemon) -> None:
    """A remote hypervisor's storage is a pool."""
    libvirtd.define_pool("vms", libvirtd.images)


def test_after_the_steps_the_service_reaches_the_host(machine: Machine, libvirtd: LibvirtDaemon) -> None:
    """Under the unit's limits with its drop-in: no home, no writable folder, no capability."""
    result = machine.scrape_confined(f"qemu+ssh://metrics@kvm01:{machine.port}/system?no_tty=1", DROP_IN)
    assert result.returncode == 0, result.stderr
    memory_mb = Scrape(text=result.stdout).value("hypervisor_memory_mb")
    assert memory_mb == libvirtd.connection.getInfo()[1]


def test_the_step_that_tries_it_prints_the_host(machine: Machine) -> None:
    """As it stands in the documentation."""
    assert "1 of 1 up" in _follow(machine.container, machine.try_it)


def test_without_the_drop_in_the_advice_is_to_install_it(machine: Machine) -> None:
    """The unit as delivered refuses what libvirt does before it starts ssh."""
    result = machine.scrape_confined(f"qemu+ssh://metrics@kvm01:{machine.port}/system?no_tty=1")
    assert result.returncode == 1
    assert f"/{DROP_IN}" in result.stderr


def test_libssh2_needs_no_drop_in(machine: Machine, libvirtd: LibvirtDaemon) -> None:
    """The unit as delivered starts no program for it."""
    files = f"keyfile={KEYS}/id_ed25519&known_hosts={KEYS}/known_hosts"
    result = machine.scrape_confined(f"qemu+libssh2://metrics@kvm01:{machine.port}/system?{files}")
    assert result.returncode == 0, result.stderr
    memory_mb = Scrape(text=result.stdout).value("hypervisor_memory_mb")
    assert memory_mb == libvirtd.connection.getInfo()[1]


def test_the_service_cannot_change_its_key_or_the_keys_of_hosts(machine: Machine) -> None:
    """They belong to root. Others than the service may not read the key."""
    modes = must(machine.container, "sh", "-c", f"cd {KEYS} && stat -c '%U:%G %a %n' . *")
    group = "root:hypervisor-exporter"
    expected = [f"{group} 750 .", f"{group} 640 id_ed25519", "root:root 644 id_ed25519.pub"]
    assert modes.splitlines() == [*expected, "root:root 644 known_hosts"]


def _read_steps(port: int) -> Sequence[str]:
    """Return the steps of docs/fleet.md, for a server at this port and without systemd."""
    section = (CHECKOUT / "docs/fleet.md").read_text().partition("\n## SSH, step by step\n")[2]
    blocks = re.findall(r"^   ```sh\n(.*?)^   ```$", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    text = "\0".join(re.sub(r"^ *systemctl .*\n", "", block, flags=re.MULTILINE) for block in blocks)
    # libvirtd is this machine's. It lets in only users that its own machine knows.
    text = text.replace("useradd ", "useradd --non-unique --uid 65534 ")
    text = text.replace("ssh-keyscan ", f"ssh-keyscan -p {port} ").replace("@kvm01/", f"@kvm01:{port}/")
    return text.split("\0")


def _follow(container: Container, step: str) -> str:
    result = container.run("sh", "-ec", step, volumes=APT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@contextmanager
def _serve_ssh(container: Container, port: int, libvirtd: LibvirtDaemon) -> Iterator[None]:
    (container.root / "run/sshd").mkdir(exist_ok=True)
    libvirt_socket = f"{libvirtd.uri_read_only.partition('socket=')[2]}:/run/libvirt/libvirt-sock-ro"
    sshd = ("/usr/sbin/sshd", "-D", "-e", "-p", str(port), "-o", "ListenAddress=127.0.0.1")
    with subprocess.Popen(
        container.command(*sshd, volumes=(libvirt_socket,)), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: _listens(port), "sshd to listen")
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

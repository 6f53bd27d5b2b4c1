"""Hypervisors over libvirt's remote transports: TLS, and a name and a password out of auth.conf."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.exporter_process import Scrape, scrape_once
from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.web.authority import Authority

PASSWORD = "hunter2"


@dataclass(frozen=True)
class Remote:
    """A libvirtd that lets in by TLS who has a certificate, and then a name and a password."""

    directory: Path
    port: int

    def scrape(self, *parameters: str) -> Scrape:
        """Print one scrape of it, reached with these more parameters in the URI."""
        query = "&".join([f"pkipath={self.directory}", *parameters])
        uri = f"qemu+tls://localhost:{self.port}/system?{query}"
        return scrape_once([{"name": "remote", "uri": uri, "storage_pool": "images"}])

    def write_auth_conf(self, password: str) -> Path:
        """Write the client's file of passwords."""
        path = self.directory / "auth.conf"
        credentials = f"[credentials-fleet]\nauthname=metrics\npassword={password}\n"
        path.write_text(f"{credentials}\n[auth-libvirt-localhost]\ncredentials=fleet\n")
        return path


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, libvirt_cache: Path) -> Iterator[Remote]:
    """Such a libvirtd, with one guest."""
    directory = tmp_path_factory.mktemp("remote")
    authority = Authority(directory, "cacert")
    for name in ("server", "client"):
        certificate, key = authority.issue(name, "localhost")
        shutil.copy(certificate, directory / f"{name}cert.pem")
        shutil.copy(key, directory / f"{name}key.pem")
    passwords = directory / "sasldb"
    (directory / "libvirt.conf").write_text(f"mech_list: scram-sha-256\nsasldb_path: {passwords}\n")
    command = ["saslpasswd2", "-p", "-c", "-a", "libvirt", "-f", str(passwords), "metrics"]
    subprocess.run(command, input=PASSWORD, text=True, check=True, timeout=20)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = f"""
listen_tls = 1
tls_port = "{port}"
auth_tls = "sasl"
key_file = "{directory}/serverkey.pem"
cert_file = "{directory}/servercert.pem"
ca_file = "{directory}/cacert.pem"
"""
    environment = {"SASL_CONF_PATH": str(directory)}
    with LibvirtDaemon(cache=libvirt_cache, settings=settings, environment=environment) as daemon:
        daemon.define_pool("images", daemon.images)
        daemon.start_guest(guest_xml("guest", vcpus=3))
        yield Remote(directory, port)


def test_the_password_is_taken_out_of_auth_conf(remote: Remote) -> None:
    """Shows that a hypervisor which asks for a password is read with a certificate and libvirt's own file."""
    scrape = remote.scrape(f"authfile={remote.write_auth_conf(PASSWORD)}")
    assert (scrape.exit_status, scrape.value("hypervisor_up")) == (0, 1), scrape.log
    assert scrape.value("hypervisor_vcpus_used") == 3
    assert scrape.get("hypervisor_local_gb") is not None


def test_a_wrong_password_is_one_line_and_shows_none(remote: Remote) -> None:
    """Shows that the exporter says so, asks nobody, and does not hang."""
    scrape = remote.scrape(f"authfile={remote.write_auth_conf('hunter3')}")
    assert (scrape.exit_status, scrape.value("hypervisor_up")) == (1, 0)
    assert "authentication failed" in scrape.log
    assert "hunter" not in scrape.log + scrape.text


def test_without_a_password_it_says_that_one_is_missing(remote: Remote) -> None:
    """Shows that nobody is asked for it on a terminal."""
    scrape = remote.scrape()
    assert (scrape.exit_status, scrape.value("hypervisor_up")) == (1, 0)
    assert "credentials" in scrape.log


def test_without_a_certificate_nobody_gets_in(remote: Remote, tmp_path: Path) -> None:
    """Shows that the certificate is what opens the door, and that its lack is told."""
    shutil.copy(remote.directory / "cacert.pem", tmp_path)
    stranger = Remote(tmp_path, remote.port)
    scrape = stranger.scrape(f"authfile={remote.write_auth_conf(PASSWORD)}")
    assert (scrape.exit_status, scrape.value("hypervisor_up")) == (1, 0)
    assert "reason=connect" in scrape.log

"""A host in a URI is this machine by its names and addresses, and no name server is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config.this_machine import ThisMachine, is_loopback, read_this_machine
from exporter.virt.host_ip import get_host_ip

HOSTS = """
127.0.0.1 localhost tunnel  # to another machine
127.0.1.1 kvm01.Example.com kvm01 me
192.0.2.1 kvm02.example.com kvm02
0.0.0.0 nobody
ff02::1 ip6-allnodes
nonsense
"""


def read(directory: Path, *, hostname: str, hosts: str = "", resolver: str = "") -> ThisMachine:
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text(resolver)
    return read_this_machine(hosts=directory / "hosts", resolver=directory / "resolv.conf", hostname=hostname)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("kvm01", True),
        ("KVM01", True),
        ("kvm01.", True),
        ("kvm01.example.com", True),
        ("kvm01.example.org", False),
        ("me", True),
        ("tunnel", False),
        ("kvm02", False),
        ("nobody", False),
        ("ip6-allnodes", False),
        ("localhost", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("192.0.2.1", False),
        ("[2001:db8::1]", False),
        ("[::]", False),
        ("", False),
    ],
)
def test_it_has_the_names_of_its_addresses_in_etc_hosts(tmp_path: Path, host: str, is_own: bool) -> None:
    """Those of the loopback device are no names by which others reach it."""
    assert read(tmp_path, hostname="kvm01", hosts=HOSTS).is_named(host) is is_own


def test_it_has_its_host_name_with_and_without_a_domain(tmp_path: Path) -> None:
    machine = read(tmp_path, hostname="kvm01.example.com", resolver="search other.example\n")
    assert machine.names == {"kvm01", "kvm01.example.com"}


@pytest.mark.parametrize(
    ("resolver", "names"),
    [
        ("", {"kvm01"}),
        ("search\n", {"kvm01"}),
        ("# search c.example\nsearch A.example b.example\n", {"kvm01", "kvm01.a.example"}),
        ("domain a.example\n", {"kvm01", "kvm01.a.example"}),
        ("search a.example\ndomain b.example\n", {"kvm01", "kvm01.b.example"}),
    ],
)
def test_the_first_search_domain_completes_its_host_name(
    tmp_path: Path, resolver: str, names: set[str]
) -> None:
    """The last line counts, as in resolv.conf(5)."""
    assert read(tmp_path, hostname="kvm01", resolver=resolver).names == names


def test_files_that_are_missing_say_nothing(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert read_this_machine(hosts=absent, resolver=absent, hostname="kvm01").names == {"kvm01"}


def test_a_machine_that_is_called_localhost_has_no_name(tmp_path: Path) -> None:
    assert read(tmp_path, hostname="localhost").names == frozenset()


def test_it_has_its_own_address() -> None:
    address = get_host_ip(None)
    if address is None:
        pytest.skip("this machine has no route to anywhere, so it may have no address")
    assert ThisMachine().is_named(address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("kvm.localhost", True),
        ("ip6-loopback", True),
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("[::1]", True),
        ("kvm01", False),
        ("192.0.2.1", False),
        (socket.gethostname() + ".x", False),
    ],
)
def test_the_loopback_device_has_its_own_names_and_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.skipif(os.geteuid() != 0, reason="it makes a network namespace, as root")
@pytest.mark.parametrize("may_bind_any", ["0", "1"])
def test_an_address_that_it_may_use_and_does_not_have_is_not_its_own(may_bind_any: str) -> None:
    """As where keepalived runs: net.ipv4.ip_nonlocal_bind lets a program use any address."""
    script = """
        ip link set lo up && ip addr add 192.0.2.5/24 dev lo && ip route add default dev lo
        echo "$1" >/proc/sys/net/ipv4/ip_nonlocal_bind
        exec "$0" -c '
from exporter.config.this_machine import ThisMachine
print([ThisMachine().is_named(host) for host in ("192.0.2.5", "198.51.100.1")])'
    """
    command = ["unshare", "--net", "sh", "-ec", script, sys.executable, may_bind_any]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout, result.stderr) == ("[True, False]\n", "")

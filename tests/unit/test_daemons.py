"""What is said when a daemon of libvirt cannot be reached: its name, its socket, and what to do."""

from __future__ import annotations

import errno

import pytest

from exporter.virt.daemons import (
    explain_denied,
    explain_no_connection,
    explain_silence,
    explain_unreachable,
)

REFUSED = "Failed to connect socket to '/var/run/libvirt/libvirt-sock-ro': No such file or directory"


@pytest.mark.parametrize("error_number", [errno.ENOENT, errno.ECONNREFUSED])
@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+unix:///system"])
def test_a_libvirt_that_is_not_there_is_looked_for_under_both_names(uri: str, error_number: int) -> None:
    """Shows that whoever runs modular daemons is not sent to look for libvirtd, nor the other way round."""
    message = explain_no_connection(uri, REFUSED, error_number)
    assert message.startswith(REFUSED)
    assert "/run/libvirt/libvirt-sock-ro (systemctl enable --now libvirtd)" in message
    assert "/run/libvirt/virtqemud-sock-ro (systemctl enable --now virtqemud.socket)" in message


def test_the_daemon_is_the_drivers() -> None:
    assert "virtxend.socket" in explain_no_connection("xen:///system", REFUSED, errno.ENOENT)


def test_a_socket_that_this_user_may_not_open_is_no_missing_libvirt() -> None:
    message = explain_no_connection("qemu:///system", "Permission denied", errno.EACCES)
    assert "systemctl" not in message
    assert "virtqemud-ro.socket" in message
    assert "unix_sock_ro_perms" in message


@pytest.mark.parametrize(
    ("uri", "units"),
    [
        (
            "qemu+tcp://kvm02/system",
            "libvirtd-tcp.socket there, or with modular daemons virtproxyd-tcp.socket",
        ),
        ("qemu://kvm02/system", "libvirtd-tls.socket there, or with modular daemons virtproxyd-tls.socket"),
    ],
)
def test_on_another_host_it_is_the_socket_for_the_transport(uri: str, units: str) -> None:
    assert units in explain_no_connection(uri, "Connection refused", errno.ECONNREFUSED)


@pytest.mark.parametrize(
    ("uri", "error_number"),
    [
        ("qemu:///system", 0),
        ("qemu+ssh://kvm02/system", errno.ECONNREFUSED),
        ("qemu+tcp://kvm02/system", errno.EHOSTUNREACH),
        ("test:///default", errno.ENOENT),
        ("no URI", errno.ENOENT),
    ],
)
def test_what_is_not_understood_is_left_as_libvirt_says_it(uri: str, error_number: int) -> None:
    assert explain_no_connection(uri, "no", error_number) == "no"


def test_a_daemon_behind_the_connection_is_named_with_the_command_that_starts_it() -> None:
    message = explain_unreachable("virtstoraged", "Connection refused")
    assert message == (
        "virtstoraged cannot be reached: Connection refused."
        " If it is not running, start it: systemctl enable --now virtstoraged.socket"
    )


def test_one_that_denies_is_named_with_its_configuration() -> None:
    assert explain_denied("virtstoraged", "access denied").startswith(
        "virtstoraged denies it: access denied."
    )
    assert "/etc/libvirt/virtstoraged.conf" in explain_denied("virtstoraged", "access denied")
    assert explain_denied(None, "access denied").startswith("libvirt denies it: access denied.")


def test_one_that_hangs_is_named_with_the_command_that_restarts_it() -> None:
    message = explain_silence("virtnodedevd", "node devices", 12.4)
    assert message.startswith("node devices: no answer from libvirt for 12 s")
    assert message.endswith("systemctl restart virtnodedevd")

"""What to do when no connection could be opened goes by what failed, in the words of libvirt 9.0 to 12.0."""

from __future__ import annotations

import errno

import pytest

from exporter.virt.connecting import advise, find_test_file

REFUSED = "Failed to connect socket to '/var/run/libvirt/libvirt-sock-ro': No such file or directory"
DENIED = "Failed to connect socket to '/var/run/libvirt/libvirt-sock-ro': Permission denied"


@pytest.mark.parametrize("error_number", [errno.ENOENT, errno.ECONNREFUSED])
@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+unix:///system"])
def test_a_libvirt_that_is_not_there_is_looked_for_under_both_names(uri: str, error_number: int) -> None:
    """Shows that whoever runs modular daemons is not sent to look for libvirtd, nor the other way round."""
    advice = advise(uri, REFUSED, error_number)
    assert "/run/libvirt/libvirt-sock-ro (systemctl enable --now libvirtd)" in advice
    assert "/run/libvirt/virtqemud-sock-ro (systemctl enable --now virtqemud.socket)" in advice


def test_the_daemon_is_the_drivers() -> None:
    advice = advise("xen:///system", REFUSED, errno.ENOENT)
    assert "virtxend.socket" in advice
    assert "virtqemud" not in advice


def test_a_socket_that_this_user_may_not_open_is_no_missing_libvirt() -> None:
    advice = advise("qemu:///system", DENIED, errno.EACCES)
    assert "systemctl" not in advice
    assert "virtqemud-ro.socket" in advice
    assert "unix_sock_ro_perms" in advice


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
    message = "unable to connect to server at 'kvm02:16514': Connection refused"
    assert units in advise(uri, message, errno.ECONNREFUSED)


@pytest.mark.parametrize(
    ("uri", "message", "error_number", "advice"),
    [
        (
            "qemu+tls://kvm02/system",
            "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
            errno.ENOENT,
            "on this machine",
        ),
        (
            "qemu:///session",
            "Cannot create user runtime directory '/nonexistent/.cache/libvirt': Permission denied",
            errno.EACCES,
            "HOME",
        ),
        (
            "qemu+ssh://kvm02/system",
            "Cannot find 'ssh' in path: No such file or directory",
            errno.ENOENT,
            "openssh-client",
        ),
        (
            "qemu+tcp://kvm99/system",
            "Unable to resolve address 'kvm99' service '16509': Name or service not known",
            0,
            "name of that host",
        ),
        (
            "qemu+ssh://kvm99/system",
            "Cannot recv data: ssh: Could not resolve hostname kvm99: Name or service not known",
            errno.ECONNRESET,
            "name of that host",
        ),
        (
            "qemu+ssh://kvm02/system",
            "Cannot recv data: Host key verification failed.: Connection reset by peer",
            errno.ECONNRESET,
            "known_hosts",
        ),
        (
            "qemu+ssh://kvm02/system",
            "Cannot recv data: root@kvm02: Permission denied (publickey).: Connection reset by peer",
            errno.ECONNRESET,
            "needs a key",
        ),
        (
            "qemu+libssh2://kvm02/system",
            "SSH transport error: no suitable callback for host key verification",
            0,
            "/etc/hypervisor-exporter/ssh/known_hosts",
        ),
        (
            "qemu+libssh2://kvm02/system",
            "authentication failed: Password request failed",
            0,
            "/etc/hypervisor-exporter/ssh/id_ed25519",
        ),
        (
            "qemu+libssh2://kvm02/system",
            "SSH transport error: failed to retrieve private key passphrase: callback has failed",
            0,
            "/etc/hypervisor-exporter/ssh/id_ed25519",
        ),
        (
            "foo://bar/",
            "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
            errno.ENOENT,
            "no driver foo",
        ),
        ("foo:///system", "no connection driver available for foo:///system", 0, "no driver foo"),
        ("test:///nofile.xml", "/nofile.xml cannot be read: No such file or directory", 0, "check the path"),
        ("qemu:///sytem", REFUSED, errno.ENOENT, "qemu:///system"),
        ("qemu:///sytem", "internal error: unexpected QEMU URI path '/sytem'", 0, "qemu:///system"),
    ],
)
def test_what_failed_decides(uri: str, message: str, error_number: int, advice: str) -> None:
    """Shows that nobody is sent to a daemon, or to a socket, that has nothing to do with it."""
    found = advise(uri, message, error_number)
    assert advice in found
    assert "systemctl" not in found
    assert "socket" not in found


@pytest.mark.parametrize(
    "message",
    [
        "Cannot recv data: libvirt:  error : internal error: cannot apply process capabilities -5",
        "internal error: client socket is closed",
        "Cannot write data: Broken pipe",
        "End of file while reading data: Input/output error",
    ],
)
def test_a_sandbox_that_refuses_ssh_is_told_with_what_to_change(message: str) -> None:
    """In the words of libvirt 9.0 and 11.3; the others come when the first was lost."""
    drop_in = "/etc/systemd/system/hypervisor-exporter.service.d/ssh.conf"
    assert drop_in in advise("qemu+ssh://kvm02/system", message, errno.ECONNRESET)


def test_a_closed_socket_is_not_ssh_unless_the_transport_is() -> None:
    assert "ssh" not in advise("qemu+tcp://kvm02/system", "internal error: client socket is closed", 0)


@pytest.mark.parametrize(
    ("uri", "error_number"),
    [
        ("qemu:///system", 0),
        ("qemu+ssh://kvm02/system", errno.ECONNREFUSED),
        ("qemu+tcp://kvm02/system", errno.EHOSTUNREACH),
        ("no URI", errno.ENOENT),
    ],
)
def test_what_is_not_understood_is_to_be_tried_by_hand(uri: str, error_number: int) -> None:
    assert "virsh --readonly --connect URI list" in advise(uri, "no", error_number)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("test:///srv/a%20b.xml", b"/srv/a b.xml"),
        ("test:///srv/%E9.xml?x=y", b"/srv/\xe9.xml"),
        ("test:///default", None),
        ("test+ssh://kvm02/srv/there.xml", None),
        ("qemu:///system", None),
    ],
)
def test_only_the_test_driver_of_this_machine_reads_a_file(uri: str, path: bytes | None) -> None:
    assert find_test_file(uri) == path

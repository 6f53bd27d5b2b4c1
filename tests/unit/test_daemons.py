"""What is said when a daemon of libvirt behind the connection fails: its name, and what to do."""

from __future__ import annotations

from exporter.virt.daemons import (
    explain_denied,
    explain_silence,
    explain_unreachable,
)


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

"""What libvirt-python 9.0 raises where a message of libvirt is not UTF-8: SystemError, not libvirtError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from exporter.errors import ConnectError, HypervisorError
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop

start_event_loop()


@pytest.fixture
def binary(tmp_path: Path) -> str:
    """The URI of a file that libvirt quotes in its message, although it is not UTF-8."""
    path = tmp_path / "binary.xml"
    path.write_bytes(b"\xff\xfe\xfd")
    return f"test://{path}"


def test_a_connection_that_fails_so_cannot_be_opened(binary: str) -> None:
    with pytest.raises(ConnectError, match=r"binary\.xml:1: ") as caught:
        LibvirtHypervisor(binary).connect()
    assert "check the path" in caught.value.advice


def test_a_call_that_fails_so_is_an_error_of_libvirt(binary: str) -> None:
    """And the connection, which is alive, stays."""
    hypervisor = LibvirtHypervisor("test:///default")
    hypervisor.connect()

    def fail(_connection: Any) -> None:
        libvirt.openReadOnly(binary)

    with pytest.raises(HypervisorError, match=r"binary\.xml:1: ") as caught:
        hypervisor.ask("virConnectOpen", fail)
    assert caught.value.reason == "libvirt"
    assert not hypervisor.connect()

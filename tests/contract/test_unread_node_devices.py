"""Node devices that libvirt lists and cannot describe cost no other. Nor does XML that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import libvirt
import pytest

from exporter.errors import ConnectionLostError, DaemonError
from exporter.model import UnreadDevice
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop
from tests.support.exporter_process import scrape_once
from tests.support.node_devices import GPU, NETWORK_CARD, VIRTUAL_FUNCTION, write_test_host

T = TypeVar("T")

start_event_loop()


class Device:
    """A node device that libvirt lists; what it says of it, or the code and domain of its error."""

    def __init__(self, name: str, answer: str | tuple[int, int] | Exception) -> None:
        self._name, self._answer = name, answer

    def name(self) -> str:
        return self._name

    def XMLDesc(self) -> str:  # noqa: N802
        if isinstance(self._answer, str):
            return self._answer
        if isinstance(self._answer, Exception):
            raise self._answer
        raise _make_error(*self._answer)


def _make_error(code: int, domain: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("it says why")
    error.err = (code, domain, "it says why", 2, "", "", "", -1, -1)
    return error


class WithDevices(LibvirtHypervisor):
    """A connection to libvirt's test driver, which lists these devices.

    :ivar has_daemon: whether the daemon of node devices still answers
    """

    def __init__(self, *devices: Device) -> None:
        super().__init__("test:///default")
        self._devices, self.has_daemon = devices, True
        self.connect()

    def _ask(self, name: str, call: Callable[[Any], T], **options: Any) -> T:
        if name == "virConnectListAllNodeDevices":
            devices: Any = list(self._devices)
            return devices  # type: ignore[no-any-return]
        if name == "virNodeNumOfDevices" and not self.has_daemon:
            raise DaemonError("virtnodedevd is gone")
        return super()._ask(name, call, **options)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_NODEDEV), "device"),
        ((libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_NODEDEV), "device"),
        ((libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_NODEDEV), "device"),
        ((libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_FROM_NODEDEV), "device"),
        ((libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_FROM_ACCESS), "denied"),
        ((libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC), "device"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "device"),
    ],
    ids=["internal", "system", "timeout", "unsupported", "denied", "too-large-to-send", "not-utf-8"],
)
def test_a_device_that_cannot_be_described_costs_no_other(answer: Any, reason: str) -> None:
    hypervisor = WithDevices(Device("pci_odd", answer), Device("pci_0000_84_00_0", GPU))
    odd, card = hypervisor.list_node_devices(["pci"])
    assert isinstance(odd, UnreadDevice)
    assert (odd.name, odd.reason, bool(odd.error), card) == ("pci_odd", reason, True, GPU)


class MediatedDevice(Device):
    """A mediated device, which may be defined only; or the code and domain of the error for asking that."""

    def __init__(self, is_active: bool | tuple[int, int]) -> None:
        super().__init__("mdev_0b5a0a0e_5a8c_4b5a_9d8e_1f0e5a2c6b7d", GPU)
        self._is_active = is_active

    def isActive(self) -> bool:  # noqa: N802
        if isinstance(self._is_active, bool):
            return self._is_active
        raise _make_error(*self._is_active)


@pytest.mark.parametrize(
    ("is_active", "is_there"),
    [
        (True, True),
        (False, False),
        ((libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_FROM_NODEDEV), True),
        ((libvirt.VIR_ERR_NO_NODE_DEVICE, libvirt.VIR_FROM_NODEDEV), False),
    ],
    ids=["active", "defined-only", "libvirt-before-7.8", "gone"],
)
def test_a_mediated_device_that_is_defined_only_does_not_exist(is_active: Any, is_there: bool) -> None:
    """As in Nova, whose virNodeListDevices lists active ones only."""
    hypervisor = WithDevices(MediatedDevice(is_active))
    assert hypervisor.list_node_devices(["mdev_types"]) == ((GPU,) if is_there else ())


def test_a_device_that_vanished_meanwhile_is_none() -> None:
    gone = (libvirt.VIR_ERR_NO_NODE_DEVICE, libvirt.VIR_FROM_NODEDEV)
    hypervisor = WithDevices(Device("pci_gone", gone), Device("pci_0000_84_00_0", GPU))
    assert hypervisor.list_node_devices(["pci"]) == (GPU,)


def test_a_daemon_that_ends_meanwhile_is_no_devices_fault() -> None:
    hypervisor = WithDevices(Device("pci", (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC)))
    hypervisor.has_daemon = False
    with pytest.raises(DaemonError, match="gone"):
        hypervisor.list_node_devices(["pci"])
    hypervisor.disconnect()
    with pytest.raises(ConnectionLostError):
        hypervisor.list_node_devices(["pci"])


def test_a_card_whose_serial_number_is_no_xml_is_counted(tmp_path: Path) -> None:
    """Before 10.1 libvirt's own XML of this card is none; later it is. The numbers are the same."""
    card = NETWORK_CARD.replace("3CFDFE9E2A10", "A&amp;B1")
    uri = write_test_host(tmp_path / "host.xml", card, VIRTUAL_FUNCTION, GPU)
    scrape = scrape_once([{"uri": uri, "device_spec": '{"vendor_id": "8086"}'}])
    kinds = {labels["dev_type"]: value for labels, value in scrape.series("hypervisor_pci_devices")}
    assert kinds == {"type-PF": 1, "type-VF": 1}
    assert len(scrape.series("hypervisor_mdev_available_instances")) == 2
    assert [value for _, value in scrape.series("hypervisor_unread_devices")] == [0]
    is_broken = libvirt.getVersion() < 10_001_000
    assert ("node device pci_0000_02_00_0: libvirt writes its vital product data" in scrape.log) is is_broken

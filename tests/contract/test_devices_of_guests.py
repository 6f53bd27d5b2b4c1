"""Devices that guests have, on libvirt's test driver: virtual functions and mediated devices of cards."""

from __future__ import annotations

from pathlib import Path

from tests.support.exporter_process import Scrape, scrape_once
from tests.support.guests import guest_xml
from tests.support.node_devices import make_card, make_mdev, make_pci_xml

CARD = "0000:02:00.0"
UUIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(4)]


def make_guest_xml(number: int, *devices: str, state: str = "running") -> str:
    """Return a guest of the test driver that is running or shut off, with these devices."""
    xml = guest_xml(f"guest{number}", domain_type="test", interfaces=devices)
    runstate = 1 if state == "running" else 5
    return xml.replace(
        "<domain type='test'>",
        "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
        f"<test:runstate>{runstate}</test:runstate><uuid>{UUIDS[number]}</uuid>",
    )


def make_hostdev(address: str) -> str:
    domain, bus, slot, function = address.replace(".", ":").split(":")
    return (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
        "</source></hostdev>"
    )


def make_mdev_hostdev(uuid: str) -> str:
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        f"<address uuid='{uuid}'/></source></hostdev>"
    )


def scrape_host(path: Path, *parts: str, **options: object) -> Scrape:
    pool = "<pool type='dir'><name>vms</name><target><path>/vms</path></target></pool>"
    path.write_text(f"<node>{pool}{''.join(parts)}</node>")
    return scrape_once([{"uri": f"test://{path}", **options}])


def test_what_guests_have_is_claimed_while_they_run_and_while_they_are_shut_off(tmp_path: Path) -> None:
    functions = [f"0000:02:01.{number}" for number in range(4)]
    scrape = scrape_host(
        tmp_path / "host.xml",
        make_pci_xml(CARD, product_id="1572", has_functions=True),
        *(make_pci_xml(address, parent=CARD) for address in functions),
        make_guest_xml(1, make_hostdev(functions[0])),
        make_guest_xml(2, make_hostdev(functions[1]), state="shutoff"),
        device_spec='{"product_id": "154c", "resource_class": "fast nic"}',
        report_in_placement=True,
    )
    labels = {"resource_class": "CUSTOM_FAST_NIC"}
    assert [
        scrape.value(f"hypervisor_{name}", **labels)
        for name in ("inventory", "reserved", "allocation_ratio", "capacity", "claimed")
    ] == [4, 0, 1, 4, 2]
    assert scrape.value("hypervisor_pci_devices_claimed", dev_type="type-VF") == 2
    assert scrape.value("hypervisor_pci_devices_free", dev_type="type-VF") == 2


def test_mediated_devices_of_guests_are_claimed_of_their_cards_class(tmp_path: Path) -> None:
    nova_conf = tmp_path / "nova.conf"
    nova_conf.write_text(
        "[devices]\nenabled_mdev_types = nvidia-11, nvidia-12\n"
        "[mdev_nvidia-12]\ndevice_addresses = 0000:85:00.0\nmdev_class = CUSTOM_BIG_VGPU\n"
    )
    scrape = scrape_host(
        tmp_path / "host.xml",
        make_card("0000:84:00.0", {"nvidia-11": 7, "nvidia-12": 3}),
        make_card("0000:85:00.0", {"nvidia-11": 4, "nvidia-12": 1}),
        make_guest_xml(1, make_mdev_hostdev(UUIDS[3]), state="shutoff"),
        nova_conf=str(nova_conf),
    )
    totals = {
        labels["resource_class"]: value
        for labels, value in scrape.series("hypervisor_inventory")
        if "VGPU" in labels["resource_class"]
    }
    assert totals == {"VGPU": 7, "CUSTOM_BIG_VGPU": 1}
    available = {
        labels["mdev_type"]: value for labels, value in scrape.series("hypervisor_mdev_available_instances")
    }
    assert available == {"nvidia-11": 7, "nvidia-12": 1}
    # The guest's device does not exist now, so its class is not known.
    claimed = {labels["resource_class"] for labels, _ in scrape.series("hypervisor_claimed")}
    assert not claimed & {"VGPU", "CUSTOM_BIG_VGPU"}


def test_an_existing_mediated_device_is_read_of_libvirt(tmp_path: Path) -> None:
    scrape = scrape_host(
        tmp_path / "host.xml",
        make_card("0000:84:00.0", {"nvidia-11": 7}),
        make_mdev(UUIDS[3], "0000:84:00.0", "nvidia-11"),
        make_guest_xml(1, make_mdev_hostdev(UUIDS[3])),
        enabled_mdev_types="nvidia-11",
    )
    names = ("inventory", "capacity", "claimed")
    assert [scrape.value(f"hypervisor_{name}", resource_class="VGPU") for name in names] == [8, 8, 1]

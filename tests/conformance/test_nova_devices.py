"""PCI devices are the same to this exporter as to Nova's driver, and so is what its device_spec means.

Nova (Debian's python3-nova) runs in a process of its own under the system's Python, one for all devices.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.device_spec import list_assignable, parse_device_spec
from exporter.model import PciDevice
from exporter.virt.node_devices import parse_node_devices
from tests.support.exporter_process import scrape_once
from tests.support.libvirtd import LibvirtDaemon
from tests.support.node_devices import (
    BEYOND_DOMAINS,
    GPU,
    NETWORK_CARD,
    NETWORK_INTERFACE,
    VDPA,
    VIRTUAL_FUNCTION,
    write_test_host,
)
from tests.support.nova_programs import ask_program
from tests.support.oracle import NovaOracle
from tests.support.reading import do_what_is_due, make_driver

# Reads hosts' devices, as XML, and specifications; prints for each host its devices as Nova lists them, and
# for each specification the numbers of those that it means.
NOVA = """
import json, sys
import libvirt
import nova.conf
from nova import exception, objects
from nova.pci import devspec, whitelist
from nova.virt.libvirt import config, driver, host

driver.libvirt = host.libvirt = libvirt  # as LibvirtDriver's constructor has it
PHYSICAL_FUNCTIONS = {"0000:02:00.0"}
# Nova looks it up in this machine's /sys.
devspec.utils.is_physical_function = lambda *fields: "%s:%s:%s.%s" % fields in PHYSICAL_FUNCTIONS

class Device:
    def __init__(self, xml):
        self.xml = xml
        self.parsed = config.LibvirtConfigNodeDevice()
        self.parsed.parse_str(xml)

    def name(self):
        return self.parsed.name

    def parent(self):
        return self.parsed.parent

    def XMLDesc(self, _flags):
        return self.xml

    def listCaps(self):
        return [kind for kind in ("pci", "net", "vdpa") if "<capability type='%s'>" % kind in self.xml]

class Host(host.Host):
    def __init__(self, xmls):
        self.devices = [Device(xml) for xml in xmls]

    def list_all_devices(self, flags):
        return self.devices

    def has_min_version(self, **_versions):
        return True

def list_devices(xmls):
    asked = object.__new__(driver.LibvirtDriver)
    asked._host = Host(xmls)
    return json.loads(asked._get_pci_passthrough_devices())

def is_assignable(allowed, device):
    try:
        return allowed.device_assignable(device)
    except exception.PciConfigInvalidSpec:
        return False  # what PciDevTracker makes of a device that Nova cannot express

def list_meant(devices, specs):
    try:
        allowed = whitelist.Whitelist(specs)
    except exception.NovaException as error:
        return type(error).__name__
    return [number for number, device in enumerate(devices) if is_assignable(allowed, device)]

nova.conf.CONF([], project="nova", default_config_files=[])
objects.register_all()
asked = json.load(sys.stdin)
hosts = [list_devices(xmls) for xmls in asked["hosts"]]
devices = [device for devices in hosts for device in devices]
meant = [list_meant(devices, specs) for specs in asked["specs"]]
json.dump({"hosts": hosts, "meant": meant}, sys.stdout)
"""

HOSTS = (
    (NETWORK_CARD, VIRTUAL_FUNCTION, NETWORK_INTERFACE, GPU, BEYOND_DOMAINS),
    (NETWORK_CARD, VIRTUAL_FUNCTION, VDPA),
    (VIRTUAL_FUNCTION,),
    (),
)
_ADDRESSES: tuple[object, ...] = (
    None,
    "0000:02:00.0",
    "0000:2:2.0",
    "*:02:*.*",
    "*:02:00.*",
    ":84:00.",
    "84:00.0",
    "00.0",
    ".0",
    "00",
    "",
    "0000:84:00",
    "10000:01:00.0",
    "0000:02:20.0",
    "0000:02:00.9",
    "0:0:0:0.0",
    "0000:xx:00.0",
    {"domain": ".*", "bus": "02", "slot": "0[0-2]", "function": ".*"},
    {"domain": "0000", "bus": "02", "slot": "00", "function": "0"},
    {"bus": "8"},
    {"bus": "("},
    {},
)
_IDS: tuple[dict[str, str], ...] = (
    {},
    {"vendor_id": "8086"},
    {"vendor_id": " 0x8086 "},
    {"product_id": "154C"},
    {"vendor_id": "10de", "product_id": "13f2"},
    {"vendor_id": "*", "remote_managed": "true"},
    {"vendor_id": "10000"},
    {"vendor_id": "nvidia"},
)


# Of a card that is remotely managed Nova compares the ids with this machine's /sys.
_THE_CARD = ("0000:02:00.0", {"domain": "0000", "bus": "02", "slot": "00", "function": "0"})


def list_specs() -> list[list[str]]:
    """Return lists of specifications: each address with each pair of ids, and some of several."""
    specs = [
        [json.dumps({**ids, **({} if address is None else {"address": address})})]
        for address, ids in itertools.product(_ADDRESSES, _IDS)
        if not ("remote_managed" in ids and address in _THE_CARD)
    ]
    return [
        *specs,
        [],
        ['[{"product_id": "13f2"}, {"product_id": "154c"}]'],
        ['{"product_id": "13f2"}', '{"product_id": "1572", "physical_network": "physnet1"}'],
        ["[]"],
        ["8086"],
        ["{'vendor_id': '8086'}"],
        ["[[]]"],
    ]


def ask_nova(hosts: Sequence[Sequence[str]], specs: Sequence[Sequence[str]]) -> dict[str, Any]:
    answer: dict[str, Any] = ask_program(NOVA, request=json.dumps({"hosts": hosts, "specs": specs}))
    return answer


def as_nova(device: PciDevice) -> dict[str, Any]:
    return {
        "address": device.address,
        "vendor_id": device.vendor_id,
        "product_id": device.product_id,
        "dev_type": device.dev_type,
        "parent_addr": device.parent_address,
        "has_serial_number": device.has_serial_number,
    }


def simplify(device: Mapping[str, Any]) -> dict[str, Any]:
    """Return of Nova's description what the exporter has, too."""
    vpd = device.get("capabilities", {}).get("vpd", {})
    names = ("address", "vendor_id", "product_id", "dev_type")
    return {
        **{name: device[name] for name in names},
        "parent_addr": device.get("parent_addr"),
        "has_serial_number": bool(vpd.get("card_serial_number")),
    }


def list_meant(devices: Sequence[PciDevice], texts: Sequence[str]) -> list[int] | None:
    try:
        specs = [spec for text in texts for spec in parse_device_spec(text)]
    except ValueError:
        return None
    meant = list_assignable(devices, specs, {})
    return [number for number, device in enumerate(devices) if device in meant]


def test_every_device_and_every_specification_means_the_same_to_nova() -> None:
    """Shows that types, parents and serial numbers are Nova's, and which device_spec means which device."""
    specs = list_specs()
    answer = ask_nova(HOSTS, specs)
    devices: list[PciDevice] = []
    for xmls, truth in zip(HOSTS, answer["hosts"], strict=True):
        read = parse_node_devices(xmls).pci
        devices += read
        assert [as_nova(device) for device in read] == [simplify(device) for device in truth]
    for texts, meant in zip(specs, answer["meant"], strict=True):
        assert list_meant(devices, texts) == (None if isinstance(meant, str) else meant), texts
    counts = Counter(type(meant) if isinstance(meant, str) else len(meant) for meant in answer["meant"])
    assert counts[str] > 20, "specifications that Nova refuses"
    assert len([count for count in counts if isinstance(count, int)]) > 3, "specifications of each size"


def test_this_machines_devices_are_novas(libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Shows that with a device_spec for all, a real libvirtd's PCI devices are those that Nova lists."""
    truth = nova.get_available_resource(libvirtd.uri, libvirtd.images)
    driver = make_driver(libvirtd.uri_read_only, instances_path=str(libvirtd.images), device_spec=("{}",))
    assert driver.get_available_resource().pci_passthrough_devices is None
    do_what_is_due(driver)
    devices = driver.get_available_resource().pci_passthrough_devices
    driver.close()
    assert devices is not None
    expected = [simplify(device) for device in json.loads(truth["pci_passthrough_devices"])]
    assert expected, "this machine has no PCI device"
    assert sorted(map(as_nova, devices), key=str) == sorted(expected, key=str)


def test_reading_devices_adds_nothing_to_a_scrape(libvirtd: LibvirtDaemon) -> None:
    """Shows that a refresh makes as many calls with a device_spec as without, before and after reading."""
    calls = set()
    for specs in ((), ("{}",)):
        driver = make_driver(libvirtd.uri_read_only, instances_path=str(libvirtd.images), device_spec=specs)
        driver.get_available_resource()
        for _ in range(2):
            before = driver.get_stats().libvirt_calls
            driver.get_available_resource()
            calls.add(driver.get_stats().libvirt_calls - before)
            do_what_is_due(driver)
        driver.close()
    assert len(calls) == 1


def test_a_scrape_shows_what_device_spec_and_the_cards_have(tmp_path: Path) -> None:
    """Shows the series of a host with a network card, its function and a GPU, of libvirt's test driver."""
    uri = write_test_host(tmp_path / "host.xml", NETWORK_CARD, VIRTUAL_FUNCTION, NETWORK_INTERFACE, GPU)
    options = {"device_spec": '{"devname": "eth7"}', "enabled_mdev_types": ["nvidia-11"]}
    scrape = scrape_once([{"uri": uri, **options}])
    assert [
        (labels["dev_type"], labels["vendor_id"], labels["product_id"], value)
        for labels, value in sorted(scrape.series("hypervisor_pci_devices"), key=str)
    ] == [("type-PF", "8086", "1572", 1), ("type-VF", "8086", "154c", 1)]
    ((labels, instances),) = scrape.series("hypervisor_mdev_available_instances")
    assert (labels["mdev_type"], instances) == ("nvidia-11", 16)

    without = scrape_once([{"uri": uri}])
    assert "hypervisor_pci_devices" not in without.names
    assert len(without.series("hypervisor_mdev_available_instances")) == 2

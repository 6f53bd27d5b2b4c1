"""Which PCI devices guests may still have is what Nova's tracker says once guests have claimed theirs."""

from __future__ import annotations

import json
import random
from typing import Any

from exporter.placement.pci import find_free
from exporter.virt.node_devices import parse_node_devices
from tests.support.node_devices import make_pci_xml
from tests.support.nova_programs import ask_program

# Reads hosts, each with its devices and the addresses that guests have. Prints the addresses that are free,
# or the error with which Nova refuses such claims.
NOVA = """
import json, sys
import nova.conf
from nova import objects
from nova.pci import manager

INSTANCE = "0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d"

def list_free(asked):
    devices = [objects.PciDevice.create(None, {**each, "compute_node_id": 1}) for each in asked["devices"]]
    manager.PciDevTracker._build_device_tree(devices)
    for device in devices:
        if device.address in asked["held"]:
            device.claim(INSTANCE)
    return sorted(device.address for device in devices if device.status == "available")

def answer(asked):
    try:
        return list_free(asked)
    except Exception as error:
        return type(error).__name__

nova.conf.CONF([], project="nova", default_config_files=[])
objects.register_all()
json.dump([answer(asked) for asked in json.load(sys.stdin)], sys.stdout)
"""


def draw_host(choice: random.Random) -> dict[str, Any]:
    xmls = []
    for card in ("0000:02:00.0", "0000:03:00.0", "0000:84:00.0"):
        functions = choice.choice([0, 1, 3])
        xmls.append(make_pci_xml(card, product_id="1572", has_functions=functions > 0))
        xmls += [
            make_pci_xml(card.replace(":00.0", f":01.{number}"), parent=card) for number in range(functions)
        ]
    found = parse_node_devices(choice.sample(xmls, choice.randint(1, len(xmls)))).pci
    devices = [
        {
            "address": each.address,
            "dev_id": each.address,
            "vendor_id": each.vendor_id,
            "product_id": each.product_id,
            "dev_type": each.dev_type,
            "label": "label",
            "numa_node": 0,
            **({} if each.parent_address is None else {"parent_addr": each.parent_address}),
        }
        for each in found
    ]
    held = [each.address for each in found if choice.random() < 0.3]
    return {"devices": devices, "held": held, "found": found}


def test_what_is_free_is_what_novas_tracker_still_gives() -> None:
    """Shows that a card is not free while one of its functions is not, and the other way round."""
    choice = random.Random(7)
    hosts = [draw_host(choice) for _ in range(500)]
    request = [{"devices": host["devices"], "held": host["held"]} for host in hosts]
    answers = ask_program(NOVA, request=json.dumps(request))
    compared = 0
    for host, truth in zip(hosts, answers, strict=True):
        if isinstance(truth, str):
            assert truth == "PciDeviceInvalidStatus", truth  # a card and one of its functions
            continue
        assert sorted(find_free(host["found"], frozenset(host["held"]))) == truth, host
        compared += 1
    assert compared > 300

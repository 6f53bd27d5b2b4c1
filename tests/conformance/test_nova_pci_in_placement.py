"""With [pci] report_in_placement, the inventories of PCI devices are those that Nova reports to Placement."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from exporter.device_spec import list_assignable, parse_device_spec
from exporter.placement.pci import get_pci_view
from exporter.virt.node_devices import parse_node_devices
from tests.support.node_devices import make_pci_xml
from tests.support.nova_programs import ask_program

# Reads hosts, each with its devices as Nova's driver lists them, and specifications. Prints the inventories
# of the providers that Nova's compute manager puts below the host's own, or the error that it raises.
NOVA = """
import inspect, json, sys
import nova.conf
from nova import objects
from nova.compute import pci_placement_translator, provider_tree
from nova.pci import devspec, whitelist

devspec.utils.is_physical_function = lambda *fields: fields[2] == "00"  # of these tests' addresses

def list_inventories(asked):
    nova.conf.CONF.set_override("report_in_placement", True, "pci")
    allowed = whitelist.Whitelist(asked["specs"])
    pci_placement_translator.ensure_no_dev_spec_with_devname(allowed.specs)
    view = pci_placement_translator.PlacementView("host", [])
    for device in asked["devices"]:
        if allowed.device_assignable(device):
            tracked = objects.PciDevice.create(None, {**device, "compute_node_id": 1})
            view.process_dev(tracked, allowed.get_devspec(tracked))
    tree = provider_tree.ProviderTree()
    tree.new_root("host", "0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d")
    if "allocations" in inspect.signature(view.update_provider_tree).parameters:
        view.update_provider_tree(tree, {})
    else:
        view.update_provider_tree(tree)
    names = [tree.data(uuid).name for uuid in tree.get_provider_uuids()]
    return {name[len("host_"):]: tree.data(name).inventory for name in names if name != "host"}

def answer(asked):
    try:
        return list_inventories(asked)
    except Exception as error:
        return type(error).__name__

nova.conf.CONF([], project="nova", default_config_files=[])
objects.register_all()
json.dump([answer(asked) for asked in json.load(sys.stdin)], sys.stdout)
"""

VENDORS = ("8086", "10de")
PRODUCTS = ("154c", "20b5")
TAGS: Mapping[str, Sequence[Any]] = {
    "resource_class": ("gpu", "CUSTOM_GPU", "A100 (80 GB)", "PGPU", "custom_x"),
    "traits": ("a", "b", "a,b", "CUSTOM_A"),
    "physical_network": ("net1",),
    "one_time_use": ("true",),
}


def draw_host(choice: random.Random) -> dict[str, Any]:
    cards = [f"0000:{bus:02x}:00.0" for bus in range(2, 2 + choice.randint(1, 3))]
    xmls = []
    for card in cards:
        ids = {"vendor_id": choice.choice(VENDORS), "product_id": choice.choice(PRODUCTS)}
        functions = choice.choice([0, 0, 1, 3])
        xmls.append(make_pci_xml(card, has_functions=functions > 0, **ids))
        xmls += [
            make_pci_xml(card.replace(":00.0", f":01.{number}"), parent=card, **ids)
            for number in range(functions)
        ]
    specs = [json.dumps(draw_spec(choice, cards)) for _ in range(choice.randint(1, 3))]
    return {"xmls": xmls, "specs": specs}


def draw_spec(choice: random.Random, cards: Sequence[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if choice.random() < 0.5:
        spec["vendor_id"] = choice.choice(VENDORS)
    if choice.random() < 0.7:
        card = choice.choice(cards)
        spec["address"] = choice.choice([card, card.replace("00.0", "01.*"), card.replace("00.0", "01.0")])
    for tag, values in TAGS.items():
        if choice.random() < 0.2:
            spec[tag] = choice.choice(values)
    return spec


def list_inventories(xmls: Sequence[str], texts: Sequence[str]) -> Any:
    """Return what the exporter says, in Nova's form; None where it names a conflict."""
    specs = [spec for text in texts for spec in parse_device_spec(text)]
    view = get_pci_view(list_assignable(parse_node_devices(xmls).pci, specs, {}), specs, {})
    if view.conflicts:
        return None
    return {
        each.name: {each.resource_class: {"total": each.total, "max_unit": each.total}}
        for each in view.providers
    }


def as_nova(xmls: Sequence[str]) -> list[dict[str, Any]]:
    """Return the devices as Nova's driver lists them, which test_nova_devices.py compares."""
    return [
        {
            "address": each.address,
            "dev_id": "pci_" + each.address.replace(":", "_").replace(".", "_"),
            "vendor_id": each.vendor_id,
            "product_id": each.product_id,
            "dev_type": each.dev_type,
            "label": f"label_{each.vendor_id}_{each.product_id}",
            "numa_node": 0,
            **({} if each.parent_address is None else {"parent_addr": each.parent_address}),
        }
        for each in parse_node_devices(xmls).pci
    ]


def test_the_providers_of_any_host_are_those_that_nova_reports() -> None:
    """Shows names, classes and totals by card, and that what Nova refuses, and only that, is a conflict."""
    choice = random.Random(31)
    hosts = [draw_host(choice) for _ in range(600)]
    request = [{"devices": as_nova(host["xmls"]), "specs": host["specs"]} for host in hosts]
    answers = ask_program(NOVA, request=json.dumps(request))
    refusals = 0
    for host, truth in zip(hosts, answers, strict=True):
        found = list_inventories(host["xmls"], host["specs"])
        if "one_time_use" in str(host["specs"]) and isinstance(truth, dict) and found is None:
            continue  # which Nova reads since 32.0
        if isinstance(truth, str):
            assert truth.startswith("PlacementPci"), truth
            refusals += 1
            assert found is None, (truth, host)
        else:
            assert found == truth, host
    assert 30 < refusals < 400

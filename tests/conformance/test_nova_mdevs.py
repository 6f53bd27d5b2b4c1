"""What cards offer of mediated devices (vGPUs) is what Nova's driver reports to Placement for each.

No machine of these tests has such a card: both sides are given the same XML, as libvirt writes it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.config.nova_conf import read_nova_conf
from exporter.config.settings import HypervisorConfig
from exporter.placement.mdevs import get_mdev_view
from exporter.virt.node_devices import parse_node_devices
from tests.support.node_devices import make_card, make_mdev
from tests.support.nova_programs import ask_program

# Reads hosts, each with its devices' XML and a nova.conf; prints for each the inventories of the providers
# that Nova's driver puts below the host's own, or the error that it raises.
NOVA = """
import collections, json, sys
import nova.conf
import nova.conf.devices
from nova.compute import provider_tree
from nova.virt.libvirt import config, driver

CONF = nova.conf.CONF

class Device:
    def __init__(self, xml):
        self.xml = xml
        parsed = config.LibvirtConfigNodeDevice()
        parsed.parse_str(xml)
        self.name = parsed.name

    def XMLDesc(self, _flags):
        return self.xml

class Host:
    def __init__(self, xmls):
        self.devices = [Device(xml) for xml in xmls]

    def list_mdev_capable_devices(self):
        return [each.name for each in self.devices if "<capability type='mdev_types'>" in each.xml]

    def list_mediated_devices(self):
        return [each.name for each in self.devices if "<capability type='mdev'>" in each.xml]

    def device_lookup_by_name(self, name):
        return next(each for each in self.devices if each.name == name)

def list_inventories(asked):
    CONF([], project="nova", default_config_files=[asked["nova_conf"]])
    nova.conf.devices.register_dynamic_opts(CONF)  # as the compute manager's init_host does
    own = object.__new__(driver.LibvirtDriver)
    own._host = Host(asked["xmls"])
    # As the driver's constructor has them.
    own.pgpu_type_mapping = collections.defaultdict(str)
    own.mdev_class_mapping = collections.defaultdict(lambda: "VGPU")
    own.mdev_classes, own.virtual_mdevs = set(), set()
    own.mdev_type_max_mapping = collections.defaultdict(str)
    own.pgpu_type_default = None
    own.supported_vgpu_types = own._get_supported_vgpu_types()
    tree = provider_tree.ProviderTree()
    tree.new_root("host", "0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d")
    own._update_provider_tree_for_vgpu(tree, "host")
    names = [tree.data(uuid).name for uuid in tree.get_provider_uuids()]
    return {name[len("host_"):]: tree.data(name).inventory for name in names if name != "host"}

def answer(asked):
    try:
        return list_inventories(asked)
    except Exception as error:
        return type(error).__name__

json.dump({
    "has_default_type": "pgpu_type_default" in driver.LibvirtDriver.__init__.__code__.co_names,
    "hosts": [answer(asked) for asked in json.load(sys.stdin)],
}, sys.stdout)
"""

TYPES = ("nvidia-11", "nvidia-12", "i915-GVTg_V5_4")
ADDRESSES = ("0000:84:00.0", "0000:84:00.4", "0000:84:00.5", "0000:af:00.0", "0000:b0:00.0")


def draw_host(choice: random.Random, folder: Path) -> dict[str, Any]:
    cards = choice.sample(ADDRESSES, choice.randint(1, len(ADDRESSES)))
    xmls = [
        make_card(
            address,
            {name: choice.randint(0, 4) for name in choice.sample(TYPES, choice.randint(1, 3))},
        )
        for address in cards
    ]
    xmls += [
        make_mdev(f"{number:08x}-0000-4000-8000-000000000000", choice.choice(cards), choice.choice(TYPES))
        for number in range(choice.randint(0, 5))
    ]
    path = folder / f"{choice.random()}.conf"
    path.write_text(draw_nova_conf(choice))
    return {"xmls": xmls, "nova_conf": str(path)}


def draw_nova_conf(choice: random.Random) -> str:
    enabled = choice.sample(TYPES, choice.randint(0, 3))
    addresses = choice.sample(ADDRESSES, len(ADDRESSES))
    lines = [
        "[devices]",
        f"{choice.choice(['enabled_mdev_types', 'enabled_vgpu_types'])} = {', '.join(enabled)}",
    ]
    for name in choice.sample(enabled, choice.randint(0, len(enabled))):
        own = [addresses.pop() for _ in range(choice.randint(0, 2)) if addresses]
        prefix = "mdev" if choice.random() < 0.8 else "vgpu"
        lines += [f"[{prefix}_{name}]", *([f"device_addresses = {','.join(own)}"] if own else [])]
        if choice.random() < 0.4:
            lines += [f"[mdev_{name}]", f"mdev_class = {choice.choice(['VGPU', 'CUSTOM_A', 'CUSTOM_B'])}"]
        if choice.random() < 0.4:
            lines += [f"[mdev_{name}]", f"max_instances = {choice.randint(1, 6)}"]
    return "\n".join(lines)


def read_options(nova_conf: str) -> HypervisorConfig:
    return HypervisorConfig(uri="test:///default", **read_nova_conf(Path(nova_conf)).options)


def list_inventories(xmls: Sequence[str], options: HypervisorConfig) -> dict[str, Any]:
    """Return what the exporter says, in Nova's form."""
    devices = parse_node_devices(xmls)
    assert devices.unread == ()
    view = get_mdev_view(devices.cards, devices.mdevs, options)
    return {each.name: {each.resource_class: make_inventory(each.total)} for each in view.providers}


def make_inventory(total: int) -> dict[str, Any]:
    return {
        "total": total,
        "max_unit": total,
        "min_unit": 1,
        "step_size": 1,
        "reserved": 0,
        "allocation_ratio": 1.0,
    }


def complete(truth: Mapping[str, Mapping[str, Any]] | str) -> Any:
    """Return Nova's answer with all fields: Nova 26 leaves some out if no more devices can be made."""
    if isinstance(truth, str):
        return truth
    return {
        name: {key: {**make_inventory(each["total"]), **each} for key, each in inventory.items()}
        for name, inventory in truth.items()
    }


def is_alike_before_nova_29(options: HypervisorConfig) -> bool:
    """Whether Nova 26 reads the options as later ones do: it has no default type and no max_instances."""
    types = [each for each in options.mdev_types if each.name in options.enabled_mdev_types]
    enabled = options.enabled_mdev_types
    if any(each.max_instances for each in types):
        return False
    with_addresses = [each for each in types if each.device_addresses]
    return not with_addresses or (len(enabled) > 1 and len(with_addresses) == len(enabled))


def test_the_providers_of_any_host_are_those_that_nova_reports(tmp_path: Path) -> None:
    """Shows totals and classes by card, for existing and possible devices and every option of the groups."""
    choice = random.Random(13)
    hosts = [draw_host(choice, tmp_path) for _ in range(600)]
    answer: Mapping[str, Any] = ask_program(NOVA, request=json.dumps(hosts))
    compared, offering = 0, 0
    for host, truth in zip(hosts, answer["hosts"], strict=True):
        options = read_options(host["nova_conf"])
        if answer["has_default_type"] or is_alike_before_nova_29(options):
            text = Path(host["nova_conf"]).read_text()
            assert list_inventories(host["xmls"], options) == complete(truth), (text, host["xmls"])
            compared += 1
            offering += bool(truth)
    assert compared > (500 if answer["has_default_type"] else 100)
    assert offering > compared / 4

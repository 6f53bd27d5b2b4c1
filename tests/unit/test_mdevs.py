"""Mediated devices: the type, class and limit of each card. conformance/test_nova_mdevs.py asks Nova."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.config.mdev_types import MdevTypeConfig
from exporter.config.nova_conf import read_nova_conf
from exporter.config.settings import HypervisorConfig
from exporter.errors import ConfigError
from exporter.model import Mdev, MdevCard
from exporter.placement.mdevs import get_mdev_view
from exporter.virt.node_devices import parse_node_devices
from tests.support.node_devices import make_card, make_mdev

UUID = "0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d"


def make_options(*enabled: str, types: tuple[MdevTypeConfig, ...] = ()) -> HypervisorConfig:
    return HypervisorConfig(uri="test:///default", enabled_mdev_types=enabled, mdev_types=types)


def make_mdev_card(name: str = "pci_0000_84_00_0", **available: int) -> MdevCard:
    return MdevCard(name=name, available=available)


def look(
    options: HypervisorConfig, cards: list[MdevCard], mdevs: tuple[Mdev, ...] = ()
) -> tuple[dict[str, tuple[str, int]], dict[str, int]]:
    """Return class and total by card, and the available instances by type."""
    view = get_mdev_view(cards, mdevs, options)
    return (
        {each.name: (each.resource_class, each.total) for each in view.providers},
        {each.name: each.available_instances for each in view.available},
    )


def test_what_exists_and_what_can_be_made_is_the_total() -> None:
    mdev = Mdev(uuid=UUID, parent="pci_0000_84_00_0", mdev_type="a")
    assert look(make_options("a"), [make_mdev_card(a=3, b=1)], (mdev,)) == (
        {"pci_0000_84_00_0": ("VGPU", 4)},
        {"a": 3},
    )


def test_of_several_types_without_addresses_the_first_is_that_of_every_card() -> None:
    cards = [make_mdev_card(a=3, b=1), make_mdev_card("pci_0000_85_00_0", b=2)]
    assert look(make_options("a", "b"), cards) == ({"pci_0000_84_00_0": ("VGPU", 3)}, {"a": 3})


def test_a_card_that_is_named_has_that_type_and_its_class() -> None:
    types = (MdevTypeConfig(name="b", device_addresses=("0000:85:00.0",), mdev_class="CUSTOM_B"),)
    cards = [make_mdev_card(a=3, b=1), make_mdev_card("pci_0000_85_00_0", a=4, b=2)]
    assert look(make_options("a", "b", types=types), cards) == (
        {"pci_0000_84_00_0": ("VGPU", 3), "pci_0000_85_00_0": ("CUSTOM_B", 2)},
        {"a": 3, "b": 2},
    )


def test_a_card_that_is_not_named_is_not_used_without_a_default_type() -> None:
    types = (MdevTypeConfig(name="a", device_addresses=("0000:85:00.0",)),)
    assert look(make_options("a", types=types), [make_mdev_card(a=3)]) == ({}, {})


def test_sixteen_virtual_functions_of_a_card_that_holds_four_are_four() -> None:
    types = (MdevTypeConfig(name="a", max_instances=4),)
    cards = [make_mdev_card(f"pci_0000_84_0{number // 8}_{number % 8}", a=1) for number in range(16)]
    providers, available = look(make_options("a", types=types), cards)
    assert providers == {f"pci_0000_84_00_{number}": ("VGPU", 1) for number in range(4)}
    assert available == {"a": 4}


def test_devices_that_exist_count_in_the_limit() -> None:
    types = (MdevTypeConfig(name="a", max_instances=2),)
    cards = [make_mdev_card(f"pci_0000_84_00_{number}", a=int(number > 0)) for number in range(4)]
    mdev = Mdev(uuid=UUID, parent="pci_0000_84_00_0", mdev_type="a")
    providers, available = look(make_options("a", types=types), cards, (mdev,))
    assert providers == {"pci_0000_84_00_0": ("VGPU", 1), "pci_0000_84_00_1": ("VGPU", 1)}
    assert available == {"a": 1}


def test_a_card_above_the_limit_is_taken_away_whole() -> None:
    """As in Nova: the devices that exist on it are no inventory either."""
    types = (MdevTypeConfig(name="a", max_instances=3),)
    mdev = Mdev(uuid=UUID, parent="pci_0000_84_00_0", mdev_type="a")
    assert look(make_options("a", types=types), [make_mdev_card(a=3)], (mdev,)) == ({}, {"a": 0})


def test_a_device_of_another_type_than_its_cards_is_no_inventory() -> None:
    mdev = Mdev(uuid=UUID, parent="pci_0000_84_00_0", mdev_type="b")
    assert look(make_options("a"), [make_mdev_card(a=2)], (mdev,))[0] == {"pci_0000_84_00_0": ("VGPU", 2)}


def test_a_virtual_card_has_a_type_only_if_it_is_named() -> None:
    card = make_mdev_card("mtty_mtty", a=2)
    assert look(make_options("a"), [card]) == ({}, {})
    types = (MdevTypeConfig(name="a", device_addresses=("mtty_mtty",), mdev_class="CUSTOM_A"),)
    assert look(make_options("a", types=types), [card])[0] == {"mtty_mtty": ("CUSTOM_A", 2)}


def test_without_enabled_types_nova_offers_none() -> None:
    assert look(make_options(), [make_mdev_card(a=2)]) == ({}, {})


@pytest.mark.parametrize("with_uuid", [True, False], ids=["since-7.3", "before"])
def test_a_mediated_device_is_read_as_libvirt_writes_it(with_uuid: bool) -> None:
    xml = make_mdev(UUID, "0000:84:00.0", "nvidia-35")
    if not with_uuid:
        xml = xml.replace(f"<uuid>{UUID}</uuid>", "").replace("_0000_84_00_0</name>", "</name>")
    read = parse_node_devices([xml, make_card("0000:84:00.0", {"nvidia-35": 3})])
    assert read.mdevs == (Mdev(uuid=UUID, parent="pci_0000_84_00_0", mdev_type="nvidia-35"),)
    assert read.cards == (MdevCard(name="pci_0000_84_00_0", available={"nvidia-35": 3}),)
    assert read.unread == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [("<type id='nvidia-35'/>", ""), ("<parent>pci_0000_84_00_0</parent>", ""), (" id='nvidia-35'", "")],
)
def test_an_odd_mediated_device_is_left_out_and_named(old: str, new: str) -> None:
    xml = make_mdev(UUID, "0000:84:00.0", "nvidia-35")
    assert old in xml
    read = parse_node_devices([xml.replace(old, new), make_mdev(UUID, "0000:85:00.0", "nvidia-35")])
    assert [each.parent for each in read.mdevs] == ["pci_0000_85_00_0"]
    assert len(read.unread) == 1


def read_options(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "nova.conf"
    path.write_text(text)
    return dict(read_nova_conf(path).options)


def test_novas_groups_are_read_also_under_their_older_names(tmp_path: Path) -> None:
    text = """
[devices]
enabled_mdev_types = nvidia-35, nvidia-36,nvidia-37
[mdev_nvidia-35]
device_addresses = 0000:84:00.0, 0000:85:00.0
mdev_class = CUSTOM_BIG
max_instances = 4
[vgpu_nvidia-36]
device_addresses = 0000:86:00.0
[mdev_nvidia-38]
device_addresses = 0000:87:00.0
"""
    assert read_options(tmp_path, text)["mdev_types"] == (
        MdevTypeConfig(
            name="nvidia-35",
            device_addresses=("0000:84:00.0", "0000:85:00.0"),
            mdev_class="CUSTOM_BIG",
            max_instances=4,
        ),
        MdevTypeConfig(name="nvidia-36", device_addresses=("0000:86:00.0",)),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("device_addresses = 84:00.0", "expected the PCI address of a card such as 0000:84:00.0"),
        ("max_instances = 0", "expected a whole number, 1 or more"),
        ("max_instances = many", "expected a whole number, 1 or more"),
        ("mdev_class = custom_big", "expected VGPU, or a name of A-Z, 0-9 and _ that begins with CUSTOM_"),
        ("mdev_class = VCPU", "expected VGPU, or a name of A-Z, 0-9 and _ that begins with CUSTOM_"),
    ],
)
def test_what_nova_refuses_is_a_mistake_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_options(tmp_path, f"[devices]\nenabled_mdev_types = a\n[mdev_a]\n{line}\n")
    (mistake,) = refusal.value.mistakes
    assert mistake.startswith(f"{tmp_path}/nova.conf:4: [mdev_a] ")
    assert expected in mistake

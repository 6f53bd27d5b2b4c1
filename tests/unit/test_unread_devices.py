"""A node device that cannot be read costs that device, or that part of it, and is named."""

from __future__ import annotations

import pytest

from exporter.errors import DeniedError
from exporter.model import MdevType, Severity, UnreadDevice
from exporter.virt.libvirt_xml import MAX_CHARACTERS
from exporter.virt.node_devices import parse_node_devices
from exporter.virt.sources.node_devices import CHECK_SECONDS, MAX_KINDS, MAX_NAMED
from tests.support.node_devices import GPU, NETWORK_CARD, VIRTUAL_FUNCTION
from tests.unit.test_node_devices import CARD, FUNCTION, GRAPHICS, Cache, Devices

CARD_NAME = "pci_0000_02_00_0"
GPU_NAME = "pci_0000_84_00_0"
SERIAL = "<serial_number>3CFDFE9E2A10</serial_number>"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</device>", ""),
        ("<domain>0</domain>", ""),
        ("<bus>2</bus>", "<bus>two</bus>"),
        ("<slot>0</slot>", "<slot>-1</slot>"),
        ("id='0x1572'", ""),
        ("id='0x1572'", "id='-0x1572'"),
        ("id='0x8086'", "id='Intel'"),
        ("id='0x8086'", "id='0x8086123456'"),
        ("<vendor id='0x8086'>Intel Corporation</vendor>", ""),
        ("i40e", "&unknown;"),
        ("i40e", "i\x0040e"),
        ("<device>", "<!DOCTYPE device><device>"),
        ("i40e", "i" * MAX_CHARACTERS),
    ],
    ids=[
        "cut-off",
        "no-domain",
        "bus-no-number",
        "slot-below-0",
        "no-id",
        "id-below-0",
        "id-no-number",
        "id-too-long",
        "no-vendor",
        "unknown-entity",
        "control-character",
        "document-type",
        "too-long",
    ],
)
def test_a_device_with_odd_xml_is_left_out_and_named(old: str, new: str) -> None:
    assert old in NETWORK_CARD
    read = parse_node_devices([NETWORK_CARD.replace(old, new, 1), GPU])
    assert (read.pci, len(read.mdev_types)) == ((GRAPHICS,), 2)
    assert [each.name for each in read.unread] == [CARD_NAME]
    assert read.unread[0].error.startswith("unexpected XML: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<availableInstances>16</availableInstances>", ""),
        ("<availableInstances>16<", "<availableInstances>many<"),
        ("<availableInstances>16<", "<availableInstances>-1<"),
        (" id='nvidia-11'", ""),
    ],
    ids=["no-number", "no-whole-number", "below-0", "no-name"],
)
def test_an_odd_type_costs_neither_the_card_nor_its_other_types(old: str, new: str) -> None:
    assert old in GPU
    read = parse_node_devices([GPU.replace(old, new, 1)])
    assert read.pci == (GRAPHICS,)
    assert read.mdev_types == (MdevType(name="nvidia-12", available_instances=4),)
    assert [each.name for each in read.unread] == [GPU_NAME]


def test_a_physical_function_without_an_address_costs_its_virtual_function() -> None:
    odd = VIRTUAL_FUNCTION.replace(" bus='0x02'", "")
    read = parse_node_devices([odd, NETWORK_CARD])
    assert read.pci == (CARD,)
    assert [each.name for each in read.unread] == ["pci_0000_02_02_0"]


def test_what_has_no_name_is_unread_too() -> None:
    read = parse_node_devices(["", "<device><capability type='pci'/></device>", GPU])
    assert read.pci == (GRAPHICS,)
    assert [each.name for each in read.unread] == ["without a name"]


@pytest.mark.parametrize("serial", ["A&B1", "A<B1", "<1>", "&&", "A&amp;B", 'A"B', "]]>", "A\x01B"])
def test_vital_product_data_that_libvirt_did_not_escape_are_read(serial: str) -> None:
    """Before libvirt 10.1 such a card made XML that is none. It counts, and so does its serial number."""
    xml = NETWORK_CARD.replace(SERIAL, f"<serial_number>{serial}</serial_number>")
    read = parse_node_devices([xml, VIRTUAL_FUNCTION])
    assert (read.pci, read.unread) == ((CARD, FUNCTION), ())


@pytest.mark.parametrize(
    "field",
    [
        "<vendor_field index='0'>R&D</vendor_field>",
        "<system_field index='A'>a<b</system_field>",
        "<asset_tag>1 < 2</asset_tag>",
        "<manufacture_id>Smith&Sons</manufacture_id>",
    ],
)
def test_any_field_of_the_vital_product_data_may_be_odd(field: str) -> None:
    read = parse_node_devices([NETWORK_CARD.replace(SERIAL, SERIAL + field)])
    assert (read.pci, read.repaired) == ((CARD,), (CARD_NAME,))


def test_vital_product_data_beyond_repair_cost_the_serial_number_only() -> None:
    xml = NETWORK_CARD.replace(SERIAL, SERIAL + "<vendor_field index='&'>x</vendor_field>")
    (card,) = parse_node_devices([xml]).pci
    assert (card.address, card.dev_type, card.has_serial_number) == (CARD.address, "type-PF", False)


def test_xml_that_is_whole_is_not_changed() -> None:
    xml = NETWORK_CARD.replace(SERIAL, "<serial_number>A&amp;B1</serial_number>")
    read = parse_node_devices([xml])
    assert (read.pci, read.repaired) == ((CARD,), ())


class SomeUnread(Devices):
    """A hypervisor with a GPU, and devices that libvirt lists and cannot describe."""

    unread: tuple[UnreadDevice, ...] = (UnreadDevice(name=CARD_NAME, error="internal error: no header"),)
    others: tuple[str, ...] = (GPU,)

    def list_node_devices(self, capabilities: object) -> tuple[str | UnreadDevice, ...]:
        return (*self.unread, *self.others)


def test_a_device_that_libvirt_cannot_describe_is_an_error_that_names_it() -> None:
    cache = Cache(specs=("{}",), hypervisor=SomeUnread())
    known = cache.read()
    assert (known.pci_devices, len(known.mdev_types), known.unread) == ((GRAPHICS,), 2, 1)
    (problem,) = cache.cache.get_problems()
    assert (problem.severity, problem.reason, problem.subject) == (Severity.ERROR, "device", CARD_NAME)
    assert problem.message == f"node device {CARD_NAME} cannot be read: internal error: no header"


def test_it_is_tried_again_sooner_than_devices_are_read_otherwise() -> None:
    cache = Cache(specs=("{}",), hypervisor=SomeUnread())
    cache.read()
    cache.clock.now += CHECK_SECONDS - 1
    assert not cache.cache.needs_reading()
    cache.clock.now += 1
    cache.hypervisor.unread = ()  # type: ignore[attr-defined]
    assert cache.read().unread == 0
    assert cache.cache.get_problems() == ()


def test_where_nobody_wants_devices_it_is_merely_noted() -> None:
    cache = Cache(specs=(), hypervisor=SomeUnread())
    cache.read()
    assert [each.severity for each in cache.cache.get_problems()] == [Severity.NOTE]


def test_of_very_many_the_rest_is_counted() -> None:
    hypervisor = SomeUnread()
    hypervisor.unread = tuple(UnreadDevice(name=f"pci_{number}", error="no") for number in range(64))
    cache = Cache(specs=("{}",), hypervisor=hypervisor)
    assert cache.read().unread == 64
    problems = cache.cache.get_problems()
    assert len({(each.reason, each.subject) for each in problems}) == len(problems) == MAX_NAMED + 1
    assert problems[-1].message == "56 more node devices cannot be read"


def test_a_user_who_may_read_some_devices_gets_those() -> None:
    hypervisor = SomeUnread()
    hypervisor.unread = (UnreadDevice(name=CARD_NAME, error="access denied", reason="denied"),)
    cache = Cache(specs=("{}",), hypervisor=hypervisor)
    assert cache.read().pci_devices == (GRAPHICS,)
    assert [each.reason for each in cache.cache.get_problems()] == ["denied"]


def test_where_no_device_may_be_read_none_is_known() -> None:
    """Not a 0: the host may have many."""
    hypervisor = SomeUnread()
    hypervisor.others = ()
    hypervisor.unread = (UnreadDevice(name=CARD_NAME, error="access denied", reason=DeniedError.reason),)
    cache = Cache(specs=("{}",), hypervisor=hypervisor)
    cache.cache.read()
    assert cache.cache.get() is None
    (problem,) = cache.cache.get_problems()
    assert (problem.reason, problem.message) == ("denied", "node devices cannot be read: access denied")


def test_a_repaired_device_counts_and_is_noted() -> None:
    hypervisor = SomeUnread()
    hypervisor.unread = ()
    hypervisor.others = (NETWORK_CARD.replace(SERIAL, "<serial_number>A&B1</serial_number>"),)
    cache = Cache(specs=("{}",), hypervisor=hypervisor)
    known = cache.read()
    assert (known.pci_devices, known.unread) == ((CARD,), 0)
    (note,) = cache.cache.get_problems()
    assert (note.severity, note.subject) == (Severity.NOTE, CARD_NAME)


def test_too_many_kinds_cost_those_with_the_fewest_devices_and_nothing_else() -> None:
    hypervisor = SomeUnread()
    kinds = [
        GPU.replace("0x13f2", f"{number:#06x}").replace("nvidia-11", f"nvidia-11-{number}")
        for number in range(MAX_KINDS + 5)
    ]
    hypervisor.unread, hypervisor.others = (), (*kinds, kinds[-1].replace("<slot>0<", "<slot>1<"))
    cache = Cache(specs=("{}",), hypervisor=hypervisor)
    known = cache.read()
    assert len({each.product_id for each in known.pci_devices}) == MAX_KINDS
    assert sum(each.product_id == f"{MAX_KINDS + 4:04x}" for each in known.pci_devices) == 2
    assert len({each.name for each in known.mdev_types}) == MAX_KINDS
    assert [(each.reason, each.subject) for each in cache.cache.get_problems()] == [
        ("device", "kinds of PCI devices"),
        ("device", "types of mediated devices"),
    ]


def test_kinds_that_no_device_spec_means_are_no_limit() -> None:
    hypervisor = SomeUnread()
    hypervisor.unread = ()
    hypervisor.others = (
        *(GPU.replace("0x13f2", f"{number:#06x}") for number in range(MAX_KINDS + 5)),
        NETWORK_CARD,
    )
    cache = Cache(specs=('{"vendor_id": "8086"}',), hypervisor=hypervisor)
    assert cache.read().pci_devices == (CARD,)
    assert cache.cache.get_problems() == ()

"""Guests: a domain's XML parsed."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from exporter.cpu_spec import CpuSpecs
from exporter.errors import ExporterError
from exporter.model import Disk, DomainInfo, DomainRecord, Guest
from exporter.virt.guest_devices import parse_guest_devices
from exporter.virt.guest_numa import parse_guest_numa_cells
from exporter.virt.libvirt_xml import parse_xml, whole_number
from exporter.virt.memory_units import to_kib
from exporter.virt.nova_metadata import parse_nova_metadata

# libvirt keeps an alias with this prefix as it was written. Nova writes one for volumes only.
_USER_ALIAS = "ua-"


class GuestXmlError(ExporterError):
    """A domain's XML is not what libvirt documents."""


def parse_guest(xml: str) -> Guest:
    """Parse what virDomainGetXMLDesc returned.

    :raises GuestXmlError: if it is not a domain, or has no name, UUID, memory or vCPUs
    """
    try:
        domain = parse_xml(xml)
        disks = tuple(_disk(element) for element in domain.iterfind("devices/disk"))
        metadata = parse_nova_metadata(domain)
        has_nova_metadata = metadata is not None
        cpu_specs = CpuSpecs()
        return Guest(
            uuid=_text(domain, "uuid"),
            name=_text(domain, "name"),
            vcpus=_vcpus(domain),
            maximum_vcpus=whole_number(_text(domain, "vcpu")),
            memory_kib=_memory_kib(domain),
            maximum_memory_kib=_kib(domain, "memory"),
            disks=disks,
            images=tuple(disk for disk in disks if is_image(disk, has_nova_metadata=has_nova_metadata)),
            has_nova_metadata=has_nova_metadata,
            nova_flavor=None if metadata is None else metadata.flavor,
            metadata_error=None if metadata is None else metadata.error,
            is_volume_backed=metadata is not None and is_volume_backed(disks, has_image=metadata.has_image),
            numa_cells=parse_guest_numa_cells(domain, cpu_specs),
            emulator_pins=_emulator_pins(domain, cpu_specs),
            vcpu_pins={
                whole_number(pin.attrib["vcpu"]): cpu_specs.parse(pin.attrib["cpuset"])
                for pin in domain.iterfind("cputune/vcpupin")
            },
            devices=parse_guest_devices(domain),
        )
    except (ValueError, KeyError) as error:
        raise GuestXmlError(f"unexpected domain XML: {error}") from error


def make_unread_guest(record: DomainRecord, info: DomainInfo) -> Guest:
    """Return a guest without XML: only its vCPUs and memory are known."""
    return Guest(
        uuid=record.uuid,
        name=record.name,
        vcpus=info.vcpus,
        maximum_vcpus=info.vcpus,
        memory_kib=info.memory_kib,
        maximum_memory_kib=info.maximum_memory_kib,
        disks=(),
        images=(),
        has_nova_metadata=False,
        nova_flavor=None,
        metadata_error=None,
        is_volume_backed=False,
        numa_cells=(),
        emulator_pins=frozenset(),
        vcpu_pins={},
    )


def is_image(disk: Disk, *, has_nova_metadata: bool) -> bool:
    """Whether Nova counts the disk's over-commit: it is an image file and not a Cinder volume.

    Nova skips its block device mappings. Block, network and volume disks and empty drives do not count.
    """
    if disk.source_type != "file" or disk.path is None:
        return False
    return not (has_nova_metadata and is_volume(disk))


def is_volume(disk: Disk) -> bool:
    """Whether a disk of a Nova guest is a Cinder volume (Nova's LibvirtBaseVolumeDriver.get_config).

    Nova gives a serial only to a volume: its id. Since 30.0 it writes none for device='lun', because libvirt
    refuses it there. But only a volume can be passed through in this way. Since 29.0 the alias of a volume
    has its id.
    """
    return disk.serial is not None or disk.alias is not None or disk.device == "lun"


def is_volume_backed(disks: Sequence[Disk], *, has_image: bool) -> bool:
    """Whether the root disk of a Nova guest is a Cinder volume, which claims no disk here.

    The XML does not name the root disk. Nova writes the image of the root disk, unless the guest boots from a
    volume. If a volume was made from that image, the first hard disk is a volume.

    :param has_image: whether Nova's metadata name an image (nova:root)
    """
    volumes = [disk for disk in disks if is_volume(disk)]
    first = next((disk for disk in disks if disk.device in ("disk", "lun")), None)
    return bool(volumes) and (not has_image or first in volumes)


def _text(domain: ElementTree.Element, tag: str) -> str:
    text = (domain.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"no <{tag}>")
    return text


def _vcpus(domain: ElementTree.Element) -> int:
    maximum = _text(domain, "vcpu")
    return whole_number(domain.find("vcpu").get("current", maximum))  # type: ignore[union-attr] # _text found it


def _memory_kib(domain: ElementTree.Element) -> int:
    """Return the balloon's size. As in libvirt, without one it is the guest's whole memory."""
    return _kib(domain, "currentMemory" if domain.find("currentMemory") is not None else "memory")


def _kib(domain: ElementTree.Element, tag: str) -> int:
    amount = _text(domain, tag)
    return to_kib(amount, domain.find(tag).get("unit"))  # type: ignore[union-attr] # _text found it


def _emulator_pins(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> frozenset[int]:
    pin = domain.find("cputune/emulatorpin")
    return frozenset() if pin is None else cpu_specs.parse(pin.attrib["cpuset"])


def _user_alias(element: ElementTree.Element) -> str | None:
    """Return the alias that a disk's owner gave it; not libvirt's own, which a running guest's disk has."""
    alias = element.find("alias")
    name = "" if alias is None else alias.get("name", "")
    return name if name.startswith(_USER_ALIAS) else None


def _disk(element: ElementTree.Element) -> Disk:
    source, target, driver = element.find("source"), element.find("target"), element.find("driver")
    path = None if source is None else source.get("file") or source.get("dev")
    return Disk(
        target="" if target is None else target.get("dev", ""),
        source_type=element.get("type", "file"),
        path=path,
        driver_format=None if driver is None else driver.get("type"),
        serial=(element.findtext("serial") or "").strip() or None,
        device=element.get("device", "disk"),
        alias=_user_alias(element),
    )

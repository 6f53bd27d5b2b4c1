"""Guests: a domain's XML parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from xml.etree import ElementTree

from exporter.cpu_spec import CpuSpecs
from exporter.errors import ExporterError
from exporter.model import Disk, DomainInfo, DomainRecord, Guest, GuestDevices, NovaInstance
from exporter.virt.guests.devices import parse_guest_devices
from exporter.virt.guests.interfaces import parse_interface
from exporter.virt.guests.nova_metadata import parse_nova_metadata
from exporter.virt.guests.numa import parse_guest_numa_cells
from exporter.virt.libvirt_xml import OddParts, XmlError, parse_xml, whole_number
from exporter.virt.memory_units import to_kib

# libvirt keeps an alias with this prefix as it was written. Nova writes one for volumes only.
_USER_ALIAS = "ua-"
# libvirt keeps these in 64 bits.
_LIMIT = re.compile(r"[0-9]{1,19}", re.ASCII)
# Of each vCPU, of all threads together, and of QEMU's other threads.
_QUOTAS = ("quota", "global_quota", "emulator_quota", "iothread_quota")


class GuestXmlError(ExporterError):
    """A domain's XML is not what libvirt documents."""


def parse_guest(xml: str, info: DomainInfo | None = None) -> Guest:
    """Parse what virDomainGetXMLDesc returned. A part that is odd is left out, and named in `odd_parts`.

    :param info: has the vCPUs and the memory, if the XML has not
    :raises GuestXmlError: if it is not XML, or has no vCPUs or memory and there is no `info`
    """
    try:
        domain = parse_xml(xml)
    except XmlError as error:
        raise GuestXmlError(f"unexpected domain XML: {error}") from error
    odd, odd_placement, odd_devices, cpu_specs = OddParts(), OddParts(), OddParts(), CpuSpecs()
    cpus = odd.read("<vcpu>", lambda: _vcpus(domain))
    memory = odd.read("<memory>", lambda: _memory_kib(domain))
    if info is not None:
        cpus = cpus or (info.vcpus, info.vcpus)
        memory = memory or (info.memory_kib, info.maximum_memory_kib)
    if cpus is None or memory is None:
        raise GuestXmlError(f"unexpected domain XML: {odd.describe()}")
    disks = tuple(_disk(element) for element in domain.iterfind("devices/disk"))
    metadata = parse_nova_metadata(domain)
    has_nova_metadata = metadata is not None
    numa_cells = odd_placement.read("NUMA cells", lambda: parse_guest_numa_cells(domain, cpu_specs))
    emulator_pins = odd_placement.read("<emulatorpin>", lambda: _emulator_pins(domain, cpu_specs))
    pins = [
        odd_placement.read("<vcpupin>", partial(_vcpu_pin, element, cpu_specs))
        for element in domain.iterfind("cputune/vcpupin")
    ]
    return Guest(
        uuid=(domain.findtext("uuid") or "").strip(),
        name=(domain.findtext("name") or "").strip(),
        vcpus=cpus[0],
        maximum_vcpus=cpus[1],
        memory_kib=memory[0],
        maximum_memory_kib=memory[1],
        disks=disks,
        images=tuple(disk for disk in disks if is_image(disk, has_nova_metadata=has_nova_metadata)),
        has_nova_metadata=has_nova_metadata,
        nova_flavor=None if metadata is None else metadata.flavor,
        metadata_error=None if metadata is None else metadata.error,
        is_volume_backed=metadata is not None and is_volume_backed(disks, has_image=metadata.has_image),
        numa_cells=numa_cells or (),
        emulator_pins=emulator_pins or frozenset(),
        vcpu_pins=dict(pin for pin in pins if pin is not None),
        devices=parse_guest_devices(domain, odd_devices),
        interfaces=tuple(parse_interface(element) for element in domain.iterfind("devices/interface")),
        nova_instance=NovaInstance() if metadata is None else metadata.instance,
        os_type=(domain.findtext("os/type") or "").strip(),
        arch=_attribute(domain, "os/type", "arch"),
        machine=_attribute(domain, "os/type", "machine"),
        has_cpu_quota=any(_is_quota(domain.findtext(f"cputune/{name}")) for name in _QUOTAS),
        has_balloon=_attribute(domain, "devices/memballoon", "model") != "none",
        partition=(domain.findtext("resource/partition") or "").strip(),
        is_placement_known=not odd_placement,
        odd_parts="; ".join(each.describe() for each in (odd, odd_placement, odd_devices) if each),
    )


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
        devices=GuestDevices(are_known=False),
        is_read=False,
        is_placement_known=False,
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


def _vcpus(domain: ElementTree.Element) -> tuple[int, int]:
    """Return the vCPUs that are plugged in now, and the most that there may be."""
    maximum = _text(domain, "vcpu")
    current = domain.find("vcpu").get("current", maximum)  # type: ignore[union-attr] # _text found it
    return whole_number(current), whole_number(maximum)


def _memory_kib(domain: ElementTree.Element) -> tuple[int, int]:
    """Return the balloon's size, and the guest's whole memory. As in libvirt, the first may be left out."""
    has_balloon = domain.find("currentMemory") is not None
    return _kib(domain, "currentMemory" if has_balloon else "memory"), _kib(domain, "memory")


def _kib(domain: ElementTree.Element, tag: str) -> int:
    amount = _text(domain, tag)
    return to_kib(amount, domain.find(tag).get("unit"))  # type: ignore[union-attr] # _text found it


def _vcpu_pin(element: ElementTree.Element, cpu_specs: CpuSpecs) -> tuple[int, frozenset[int]]:
    """Return the number of a vCPU, and the CPUs that it may run on."""
    return whole_number(element.attrib["vcpu"]), cpu_specs.parse(element.attrib["cpuset"])


def _emulator_pins(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> frozenset[int]:
    pin = domain.find("cputune/emulatorpin")
    return frozenset() if pin is None else cpu_specs.parse(pin.attrib["cpuset"])


def _user_alias(element: ElementTree.Element) -> str | None:
    """Return the alias that a disk's owner gave it; not libvirt's own, which a running guest's disk has."""
    alias = element.find("alias")
    name = "" if alias is None else alias.get("name", "")
    return name if name.startswith(_USER_ALIAS) else None


def _disk(element: ElementTree.Element) -> Disk:
    source = element.find("source")
    path = None if source is None else source.get("file") or source.get("dev")
    return Disk(
        target=_attribute(element, "target", "dev"),
        source_type=element.get("type", "file"),
        path=path,
        driver_format=_attribute(element, "driver", "type") or None,
        serial=(element.findtext("serial") or "").strip() or None,
        device=element.get("device", "disk"),
        alias=_user_alias(element),
        bus=_attribute(element, "target", "bus"),
        cache=_attribute(element, "driver", "cache"),
        discard=_attribute(element, "driver", "discard"),
        driver_name=_attribute(element, "driver", "name"),
        protocol=_attribute(element, "source", "protocol"),
        network_name=_attribute(element, "source", "name"),
        limits=tuple(dict(_list_limits(element)).items()),  # two of a name would be one series
    )


def _is_quota(text: str | None) -> bool:
    """Whether this is a quota: libvirt writes a negative one, or 0, for none."""
    return _LIMIT.fullmatch((text or "").strip()) is not None and int(text or "") > 0


def _list_limits(element: ElementTree.Element) -> Iterator[tuple[str, int]]:
    """Yield the limits of <iotune> by libvirt's names. 0 is no limit, and an odd one is left out."""
    for limit in element.iterfind("iotune/*"):
        text = (limit.text or "").strip()
        if _LIMIT.fullmatch(text) and int(text):
            yield limit.tag, int(text)


def _attribute(element: ElementTree.Element, path: str, name: str) -> str:
    """Return an attribute of the first child of this path; empty if there is none."""
    child = element.find(path)
    return "" if child is None else child.get(name, "")

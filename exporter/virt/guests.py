"""Guests: a domain's XML parsed, and the cache that spares libvirt from being asked on every scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from exporter.cpu_spec import CpuSpecs
from exporter.errors import ConnectionLostError, ExporterError, GoneError, HypervisorError
from exporter.model import Disk, DomainRecord, Guest, Problem, Severity
from exporter.virt.guest_numa import parse_guest_numa_cells
from exporter.virt.libvirt_xml import parse_xml, whole_number
from exporter.virt.memory_units import to_kib
from exporter.virt.nova_metadata import parse_nova_metadata


class GuestXmlError(ExporterError):
    """A domain's XML is not what libvirt documents."""


def parse_guest(xml: str) -> Guest:
    """Parse what virDomainGetXMLDesc returned.

    :raises GuestXmlError: when it is no domain, or lacks its name, UUID, memory or vCPUs
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
        )
    except (ValueError, KeyError) as error:
        raise GuestXmlError(f"unexpected domain XML: {error}") from error


def is_image(disk: Disk, *, has_nova_metadata: bool) -> bool:
    """Whether Nova counts the disk's over-commit: an image file that is no Cinder volume.

    Only a volume gets a serial from Nova, which skips its block device mappings. Block, network and volume
    disks and empty drives commit nothing.
    """
    if disk.source_type != "file" or disk.path is None:
        return False
    return not (has_nova_metadata and disk.serial)


def is_volume_backed(disks: Sequence[Disk], *, has_image: bool) -> bool:
    """Whether the root disk of one of Nova's guests is a Cinder volume, which claims no disk here.

    The XML does not name the root disk. Nova writes of which image it was made, unless a volume is booted
    from; and where a volume was made of that image, the first hard disk is a volume.

    :param has_image: whether Nova's metadata name an image (nova:root)
    """
    volumes = [disk for disk in disks if disk.serial]
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
    """Return the balloon's size; like libvirt, take the guest's whole memory where none is given."""
    return _kib(domain, "currentMemory" if domain.find("currentMemory") is not None else "memory")


def _kib(domain: ElementTree.Element, tag: str) -> int:
    amount = _text(domain, tag)
    return to_kib(amount, domain.find(tag).get("unit"))  # type: ignore[union-attr] # _text found it


def _emulator_pins(domain: ElementTree.Element, cpu_specs: CpuSpecs) -> frozenset[int]:
    pin = domain.find("cputune/emulatorpin")
    return frozenset() if pin is None else cpu_specs.parse(pin.attrib["cpuset"])


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
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    record: DomainRecord
    guest: Guest | None
    read_at: float
    problem: Problem | None


class GuestCache:
    """The hypervisor's guests as they were last read, kept in step with its list of domains.

    A guest's XML is read when it is new, when its id or name changed (it was started, stopped or renamed),
    when an event spoke of it, and when it was last read `resync_interval` seconds ago.

    :param read_xml: returns the XML of the domain with this UUID
    :param clock: monotonic seconds
    """

    def __init__(
        self, *, read_xml: Callable[[str], str], resync_interval: float, clock: Callable[[], float]
    ) -> None:
        self._read_xml = read_xml
        self._resync_interval = resync_interval
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self.guests_read = 0

    def configure(self, *, resync_interval: float) -> None:
        """Read guests again after so many seconds from now on."""
        self._resync_interval = resync_interval

    def clear(self) -> None:
        """Forget every guest: after a reconnection nobody knows what was missed."""
        with self._lock:
            self._entries = {}

    def reconcile(self, domains: Iterable[DomainRecord], changed: Collection[str]) -> None:
        """Bring the cache in step with `domains`, reading those of which it is not sure.

        :param changed: UUIDs that events spoke of
        """
        oldest = self._clock() - self._resync_interval
        entries: dict[str, _Entry] = {}
        for record in domains:
            entry = self._entries.get(record.uuid)
            if entry is None or record.uuid in changed or not _is_current(entry, record, oldest):
                entry = self._read(record)
            if entry is not None:
                entries[record.uuid] = entry
        with self._lock:
            self._entries = entries

    def needs_resync(self) -> bool:
        """Whether `resync` would read a guest."""
        oldest = self._clock() - self._resync_interval / 2
        return any(entry.read_at < oldest for entry in self._entries.values())

    def resync(self) -> None:
        """Read again the guests that would soon be too old; to be called between scrapes, by another thread.

        One that started, stopped or vanished meanwhile is left to the next `reconcile`.
        """
        oldest = self._clock() - self._resync_interval / 2
        for uuid, entry in self._entries.items():
            if entry.read_at >= oldest:
                continue
            read = self._read(entry.record)
            with self._lock:
                if read is not None and self._entries.get(uuid) is entry:
                    self._entries = {**self._entries, uuid: read}

    def get_guests(self) -> dict[str, Guest | None]:
        """Return each domain's guest by UUID; None for one whose XML could not be read."""
        return {uuid: entry.guest for uuid, entry in self._entries.items()}

    def get_problems(self) -> tuple[Problem, ...]:
        """Return one problem for each guest whose XML could not be read."""
        return tuple(entry.problem for entry in self._entries.values() if entry.problem)

    def _read(self, record: DomainRecord) -> _Entry | None:
        """Read and parse one domain; None if it vanished meanwhile, and is to be read again next time."""
        read_at = self._clock()
        self.guests_read += 1
        guest, problem = None, None
        try:
            guest = parse_guest(self._read_xml(record.uuid))
        except GoneError:
            return None
        except ConnectionLostError:
            raise
        except (GuestXmlError, HypervisorError) as error:
            problem = Problem(
                severity=Severity.ERROR,
                reason="guest_xml",
                subject=record.name,
                message=f"domain {record.name}: {error}",
            )
        return _Entry(record=record, guest=guest, read_at=read_at, problem=problem)


def _is_current(entry: _Entry, record: DomainRecord, oldest: float) -> bool:
    return entry.record.id == record.id and entry.record.name == record.name and entry.read_at >= oldest

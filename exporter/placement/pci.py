"""PCI devices in Placement, by the rules of nova.compute.pci_placement_translator.

A card, or a device without virtual functions, is a resource provider of one device. Virtual functions are
devices of their card's provider. Nova reports neither those for network ports (physical_network), nor any
without [pci] report_in_placement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.device_spec import DeviceSpec, find_device_spec
from exporter.model import DeviceClass, DeviceProvider, PciDevice, ResourceClass

_CHILD_TYPES = ("type-VF", "vdpa")


@dataclass(frozen=True, kw_only=True, slots=True)
class PciView:
    """The PCI devices as Nova reports them."""

    providers: tuple[DeviceProvider, ...]
    conflicts: tuple[str, ...] = ()  # what Nova refuses: it then reports no change of the host's providers


@dataclass(slots=True)
class _Provider:
    """A provider while its devices are found."""

    name: str
    devices: list[tuple[PciDevice, DeviceSpec]] = field(default_factory=list)

    def list_conflicts(self) -> Iterator[str]:
        """Yield why Nova refuses the devices (PlacementPci…Exception)."""
        kinds = {device.dev_type in _CHILD_TYPES for device, _ in self.devices}
        if len(kinds) > 1 or (kinds == {False} and len(self.devices) > 1):
            yield f"device_spec allows {self.name} and also virtual functions of it"
            return
        if len({_get_class(device, spec) for device, spec in self.devices}) > 1:
            yield f"device_spec gives the virtual functions of {self.name} different resource classes"
        if len({spec.traits for _, spec in self.devices}) > 1:
            yield f"device_spec gives the virtual functions of {self.name} different traits"
        if True in kinds and any(spec.has_one_time_use for _, spec in self.devices):
            yield f"device_spec has one_time_use for a virtual function of {self.name}"
        if self.resource_class.value in ResourceClass.__members__:
            yield f"device_spec gives {self.name} the resource class {self.resource_class} of the host itself"

    @property
    def resource_class(self) -> DeviceClass:
        return _get_class(*self.devices[0])


def get_pci_view(
    devices: Sequence[PciDevice], specs: Sequence[DeviceSpec], interfaces: Mapping[str, str]
) -> PciView:
    """Return what Nova reports with report_in_placement of the devices that device_spec allows."""
    if any(spec.devname for spec in specs):
        return PciView(providers=(), conflicts=("device_spec has a devname beside report_in_placement",))
    found: dict[str, _Provider] = {}
    for device in devices:
        spec = find_device_spec(device, specs, interfaces)
        if spec is None or spec.has_physical_network:
            continue
        name = device.parent_address if device.dev_type in _CHILD_TYPES else device.address
        if name is not None:
            found.setdefault(name, _Provider(name)).devices.append((device, spec))
    conflicts = {each.name: tuple(each.list_conflicts()) for each in found.values()}
    return PciView(
        providers=tuple(
            DeviceProvider(
                name=each.name,
                resource_class=each.resource_class,
                total=len(each.devices),
                members=frozenset(device.address for device, _ in each.devices),
                is_mdev=False,
            )
            for each in found.values()
            if not conflicts[each.name]
        ),
        conflicts=tuple(conflict for each in conflicts.values() for conflict in each),
    )


def _get_class(device: PciDevice, spec: DeviceSpec) -> DeviceClass:
    return device.resource_class if spec.resource_class is None else DeviceClass(spec.resource_class)


def find_free(devices: Sequence[PciDevice], held: frozenset[str]) -> frozenset[str]:
    """Return the addresses of the devices that a guest may still have (`PciDevice.claim`, `PciDeviceStats`).

    A card cannot be given away while a guest has one of its virtual functions, and the other way round.

    :param devices: those that device_spec allows
    :param held: the addresses of the devices that guests have
    """
    busy_parents = {each.parent_address for each in devices if each.address in held}
    return frozenset(
        each.address
        for each in devices
        if each.address not in held
        and each.parent_address not in held
        and not (each.dev_type == "type-PF" and each.address in busy_parents)
    )

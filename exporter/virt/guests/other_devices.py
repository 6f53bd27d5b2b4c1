"""What a guest's disks and interfaces beyond the first ones have done together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import fields
from itertools import islice

from exporter.guest_records import MAX_DEVICES, DiskCounters, InterfaceCounters
from exporter.virt.guests.lasting_sum import LastingSum

_GAUGES = ("size_bytes", "allocated_bytes")


class OtherDevices:
    """Sums up the devices of one run of a guest that are not shown one by one.

    Its counters do not step back when a device is unplugged, or when another one is now among the first ones.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[str, LastingSum[str]] = defaultdict(LastingSum)

    def sum_disks(self, disks: Mapping[str, DiskCounters]) -> DiskCounters | None:
        """Return what the disks beyond the first ones have done; None if there are none.

        What is not known of one of them is not known of the sum.

        :param disks: all of the guest's, by target device
        """
        others = dict(islice(disks.items(), MAX_DEVICES, None))
        if not others:
            return None
        sums: dict[str, int | None] = {}
        for name in (each.name for each in fields(DiskCounters)):
            values: dict[str, int | None] = {device: getattr(disk, name) for device, disk in others.items()}
            known = {device: value for device, value in values.items() if value is not None}
            if len(known) < len(values):
                sums[name] = None
            else:
                sums[name] = sum(known.values()) if name in _GAUGES else self._sums[name].add(known)
        return DiskCounters(**sums)

    def sum_interfaces(
        self, interfaces: Mapping[str, InterfaceCounters], targets: Collection[str]
    ) -> InterfaceCounters | None:
        """Return what the interfaces beyond the first ones have done; None if none was ever counted.

        :param interfaces: those that are counted, by the host's device
        :param targets: the devices of all of the guest's interfaces, in the order of its XML
        """
        if len(targets) <= MAX_DEVICES:
            return None
        first = set(islice(targets, MAX_DEVICES))
        others = {device: counters for device, counters in interfaces.items() if device not in first}
        if not others and not self._sums:
            return None
        names = (each.name for each in fields(InterfaceCounters))
        return InterfaceCounters(
            **{
                name: self._sums[name].add({device: getattr(each, name) for device, each in others.items()})
                for name in names
            }
        )

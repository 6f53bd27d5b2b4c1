"""Guests' statistics: what virDomainListGetStats tells of one guest, as records.

What libvirt does not tell is None. So is a number that makes no sense, such as a negative one.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.guest_records import DiskCounters, InterfaceCounters, MemoryStatistics


def is_of_the_monitor(statistics: Mapping[str, object]) -> bool:
    """Whether the guest's monitor was asked, and not only what libvirt knows without it.

    While another call has the guest's job, NOWAIT answers with the balloon's size and the disks' names alone.
    """
    if "balloon.last-update" in statistics:
        return True
    disks = [name for name in statistics if name.startswith("block.") and name != "block.count"]
    return any(name.endswith(".rd.reqs") for name in disks) if disks else "balloon.rss" in statistics


def parse_disks(statistics: Mapping[str, object]) -> dict[str, DiskCounters]:
    """Return the disks by target device, in the order of the domain's XML: {"vda": …}.

    One without any number is left out.
    """
    disks: dict[str, DiskCounters] = {}
    for fields in _group(statistics, "block"):
        name = fields.get("name")
        disk = DiskCounters(
            read_bytes=_count(fields, "rd.bytes"),
            read_requests=_count(fields, "rd.reqs"),
            read_ns=_count(fields, "rd.times"),
            written_bytes=_count(fields, "wr.bytes"),
            write_requests=_count(fields, "wr.reqs"),
            write_ns=_count(fields, "wr.times"),
            flush_requests=_count(fields, "fl.reqs"),
            flush_ns=_count(fields, "fl.times"),
            size_bytes=_count(fields, "capacity"),
            allocated_bytes=_count(fields, "physical"),
        )
        if isinstance(name, str) and name and disk != DiskCounters():
            disks.setdefault(name, disk)
    return disks


def parse_memory(statistics: Mapping[str, object]) -> MemoryStatistics | None:
    """Return what the balloon tells; None if nothing. Without its driver, the guest's own account is None.

    A guest may tell anything. What is more memory than it has, or than it says to have, is not known.
    """
    updated_at = _count(statistics, "balloon.last-update") or None
    own = statistics if updated_at is not None else {}
    maximum = _count(statistics, "balloon.maximum")
    available = _up_to(maximum, _count(own, "balloon.available"))
    most = maximum if available is None else available
    memory = MemoryStatistics(
        balloon_kib=_count(statistics, "balloon.current"),
        maximum_kib=maximum,
        rss_kib=_count(statistics, "balloon.rss"),
        available_kib=available,
        usable_kib=_up_to(most, _count(own, "balloon.usable")),
        unused_kib=_up_to(most, _count(own, "balloon.unused")),
        disk_caches_kib=_up_to(most, _count(own, "balloon.disk_caches")),
        swap_in_kib=_count(own, "balloon.swap_in"),
        swap_out_kib=_count(own, "balloon.swap_out"),
        major_faults=_count(own, "balloon.major_fault"),
        minor_faults=_count(own, "balloon.minor_fault"),
        hugetlb_allocations=_count(own, "balloon.hugetlb_pgalloc"),
        hugetlb_failures=_count(own, "balloon.hugetlb_pgfail"),
        updated_at=updated_at,
    )
    return None if memory == MemoryStatistics() else memory


def parse_interfaces(statistics: Mapping[str, object]) -> dict[str, InterfaceCounters]:
    """Return the interfaces by the host's device: {"tap0": …}. libvirt counts as the guest does.

    One without all of its counters is left out: nobody counts for it.
    """
    interfaces: dict[str, InterfaceCounters] = {}
    for fields in _group(statistics, "net"):
        name = fields.get("name")
        counts = [_count(fields, f"{way}.{what}") for way in ("rx", "tx") for what in _INTERFACE_FIELDS]
        if not isinstance(name, str) or not name or None in counts:
            continue
        received, transmitted = counts[:4], counts[4:]
        interfaces.setdefault(
            name,
            InterfaceCounters(
                received_bytes=received[0] or 0,
                received_packets=received[1] or 0,
                received_errors=received[2] or 0,
                received_dropped=received[3] or 0,
                transmitted_bytes=transmitted[0] or 0,
                transmitted_packets=transmitted[1] or 0,
                transmitted_errors=transmitted[2] or 0,
                transmitted_dropped=transmitted[3] or 0,
            ),
        )
    return interfaces


# A driver's -1 for "not known" comes as 2^64 - 1 where libvirt's type has no sign.
_MAX_COUNT = 2**63 - 1
_INTERFACE_FIELDS = ("bytes", "pkts", "errs", "drop")


def _group(statistics: Mapping[str, object], kind: str) -> list[dict[str, object]]:
    """Return the fields of each device of a kind, in libvirt's order: block.0.name, block.0.rd.reqs, …."""
    devices: dict[int, dict[str, object]] = {}
    for key, value in statistics.items():
        start, _, rest = key.partition(".")
        number, _, field = rest.partition(".")
        if start == kind and field and number.isascii() and number.isdecimal():
            devices.setdefault(int(number), {})[field] = value
    return [devices[number] for number in sorted(devices)]


def _count(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) and 0 <= value <= _MAX_COUNT else None


def _up_to(most: int | None, amount: int | None) -> int | None:
    return None if amount is not None and most is not None and amount > most else amount

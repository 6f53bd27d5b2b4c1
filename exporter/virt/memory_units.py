"""Amounts of memory in libvirt's form: a number and a unit."""

from __future__ import annotations

from exporter.virt.libvirt_xml import whole_number

# Of libvirt's units of memory: https://libvirt.org/formatdomain.html#memory-allocation
_BYTES_PER_UNIT = {
    "b": 1,
    "bytes": 1,
    "KB": 10**3,
    "k": 2**10,
    "KiB": 2**10,
    "MB": 10**6,
    "M": 2**20,
    "MiB": 2**20,
    "GB": 10**9,
    "G": 2**30,
    "GiB": 2**30,
    "TB": 10**12,
    "T": 2**40,
    "TiB": 2**40,
}


def to_kib(amount: str, unit: str | None) -> int:
    """Return an amount of this unit in KiB, rounded down. Without a unit it is already in KiB.

    :raises ValueError: when the amount is no whole number, or libvirt has no such unit
    """
    bytes_per_unit = _BYTES_PER_UNIT.get(unit or "KiB")
    if bytes_per_unit is None:
        raise ValueError(f"{(unit or '')[:20]!r} is not a unit that libvirt writes")
    return whole_number(amount) * bytes_per_unit // 1024

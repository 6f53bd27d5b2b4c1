"""Amounts of memory as libvirt writes them: a number, and a unit beside it."""

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
    """Return KiB, rounded down, of an amount in this unit; without one it is in KiB already.

    :raises ValueError: when the amount is no whole number
    :raises KeyError: when libvirt has no such unit
    """
    return whole_number(amount) * _BYTES_PER_UNIT[unit or "KiB"] // 1024

"""Inventories: what a hypervisor offers, by resource class (Nova's LibvirtDriver.update_provider_tree)."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.config.settings import HypervisorConfig
from exporter.model import Inventory, ResourceClass
from exporter.placement.claims import GIB, convert_mb_to_ceil_gb


def get_inventories(
    totals: Mapping[ResourceClass, int | None],
    claims: Mapping[ResourceClass, int | None] | None,
    options: HypervisorConfig,
    *,
    image_cache_bytes: int | None = 0,
) -> tuple[Inventory, ...]:
    """Return the inventory of each offered class. A class with a total of 0 is not offered, as in Placement.

    :param totals: by class; None if not known
    :param claims: by class; None if not known
    :param image_cache_bytes: what the image cache reserves of the disk; None if it is not known
    """
    reserved: dict[ResourceClass, int | None] = {
        ResourceClass.VCPU: options.reserved_host_cpus,
        ResourceClass.PCPU: 0,
        ResourceClass.MEMORY_MB: options.reserved_host_memory_mb,
        ResourceClass.DISK_GB: _get_reserved_disk_gb(options, image_cache_bytes),
    }
    ratios = {
        ResourceClass.VCPU: options.cpu_allocation_ratio,
        ResourceClass.PCPU: 1.0,
        ResourceClass.MEMORY_MB: options.ram_allocation_ratio,
        ResourceClass.DISK_GB: options.disk_allocation_ratio,
    }
    return tuple(
        Inventory(
            resource_class=each,
            total=total,
            reserved=reserved[each],
            allocation_ratio=ratios[each],
            claimed=None if claims is None else claims.get(each, 0),
        )
        for each, total in totals.items()
        if total != 0
    )


def _get_reserved_disk_gb(options: HypervisorConfig, image_cache_bytes: int | None) -> int | None:
    """Return GiB. Nova rounds both up, each of its own (`_get_disk_size_reserved_for_image_cache`)."""
    if image_cache_bytes is None:
        return None
    return convert_mb_to_ceil_gb(options.reserved_host_disk_mb) - (-image_cache_bytes // GIB)

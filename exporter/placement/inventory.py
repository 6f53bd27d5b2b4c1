"""Inventories: what a hypervisor offers, by resource class (Nova's LibvirtDriver.update_provider_tree)."""

from __future__ import annotations

from exporter.config.settings import HypervisorConfig
from exporter.model import Inventory, ResourceClass
from exporter.placement.claims import Claim, convert_mb_to_ceil_gb


def get_inventories(
    totals: dict[ResourceClass, int | None], claims: Claim | None, options: HypervisorConfig
) -> tuple[Inventory, ...]:
    """Return the inventory of each offered class. A class with a total of 0 is not offered, as in Placement.

    :param totals: by class; None if not known
    :param claims: None if the guests are not known
    """
    reserved = {
        ResourceClass.VCPU: options.reserved_host_cpus,
        ResourceClass.PCPU: 0,
        ResourceClass.MEMORY_MB: options.reserved_host_memory_mb,
        ResourceClass.DISK_GB: convert_mb_to_ceil_gb(options.reserved_host_disk_mb),
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

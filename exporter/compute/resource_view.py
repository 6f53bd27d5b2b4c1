"""What Nova's ResourceTracker says of one host's resources: what is missing, and what is free."""

from __future__ import annotations

import logging
from collections.abc import Collection

from exporter.model import Problem, Resources, Severity

log = logging.getLogger(__name__)

# The fields that Nova's ResourceTracker._verify_resources needs, and the source of each.
_REQUIRED = {
    "vcpus": None,
    "memory_mb": None,
    "local_gb": "storage",
    "cpu_info": "capabilities",
    "vcpus_used": "guests",
    "memory_mb_used": "guests",
    "local_gb_used": "storage",
}


def verify_resources(resources: Resources, *, needs: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the missing fields among those that Nova's ResourceTracker._verify_resources needs.

    numa_topology is not included: in Nova too, None means that the host has none.

    :param needs: the sources that the metrics need; fields of others are not missing. None for all
    """
    return tuple(
        name
        for name, source in _REQUIRED.items()
        if getattr(resources, name) is None and (source is None or needs is None or source in needs)
    )


def check_complete(resources: Resources, *, needs: Collection[str] | None = None) -> list[Problem]:
    """Return the problem that fields are missing which Nova requires, if any are."""
    missing = verify_resources(resources, needs=needs)
    if not missing:
        return []
    message = f"missing fields of Nova's dictionary: {', '.join(missing)}"
    return [Problem(severity=Severity.FATAL, reason="incomplete", subject="", message=message)]


def report_hypervisor_resource_view(target: str, resources: Resources, *, level: int) -> None:
    """Log what is free (ResourceTracker._report_hypervisor_resource_view)."""
    view = {
        "target": target,
        "hypervisor_hostname": resources.hypervisor_hostname,
        "free_ram_mb": _difference(resources.memory_mb, resources.memory_mb_used),
        "free_disk_gb": _difference(resources.local_gb, resources.local_gb_used),
        "free_vcpus": _difference(resources.vcpus, resources.vcpus_used) if resources.vcpus else "unknown",
    }
    log.log(level, "hypervisor resource view", extra=view)


def _difference(total: int | None, used: int | None) -> int | str:
    return "unknown" if total is None or used is None else total - used

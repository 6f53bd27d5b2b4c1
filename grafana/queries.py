"""Queries: what the boards share, so that a number means the same on each of them.

Totals come from the recording rules in prometheus/rules: those count a hypervisor once, whichever exporters
report it, and answer for 10,000 hypervisors as fast as for one. Whatever describes an exporter comes from it
directly.
"""

from __future__ import annotations

from dataclasses import dataclass

# The filters of the two boards. A recording rule has no job and no instance: it describes the hypervisor,
# not the exporter that reports it.
CLUSTER = '$group_label=~"$group"'
HYPERVISORS = f'{CLUSTER},hypervisor_hostname=~"$hypervisor"'
EXPORTERS = 'job=~"$job",instance=~"$instance"'
ONE = 'hypervisor_hostname="$hypervisor"'
ONE_OF_EXPORTERS = f"{EXPORTERS},{ONE}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource class as the boards show it.

    :param resource_class: Placement's name, the label's value
    :param unit: Grafana's, of binary multiples where there are bytes
    """

    name: str
    resource_class: str
    unit: str


CPU = Resource(name="CPU", resource_class="VCPU", unit="locale")
MEMORY = Resource(name="memory", resource_class="MEMORY_MB", unit="mbytes")
DISK = Resource(name="disk", resource_class="DISK_GB", unit="gbytes")
RESOURCES = (CPU, MEMORY, DISK)

# The names shown for the label's values: users of the boards may not know Placement's names.
CLASS_NAMES = {"VCPU": "CPU", "PCPU": "pinned CPU", "MEMORY_MB": "memory", "DISK_GB": "disk"}


def cluster_sum(rule: str, resource: Resource) -> str:
    """Return the sum over all groups of a rule of the level `cluster:`."""
    return f'sum(cluster:resource:{rule}{{resource_class="{resource.resource_class}",{CLUSTER}}})'


def cluster_ratio(part: str, whole: str, resource: Resource) -> str:
    """Return one such sum as a share of another; a mean of the groups' shares would be wrong."""
    return f"{cluster_sum(part, resource)} / ({cluster_sum(whole, resource)} > 0)"


def by_hypervisor(rule: str, resource: Resource, *, filters: str = HYPERVISORS) -> str:
    """Return a rule of the level `hypervisor:`, without any label but the hypervisor's name."""
    selector = f'hypervisor:resource:{rule}{{resource_class="{resource.resource_class}",{filters}}}'
    return f"max by (hypervisor_hostname) ({selector})"

"""Queries: what the boards share, so that a number means the same on each of them.

Totals come from the recording rules in prometheus/rules: those count a hypervisor once, whichever exporters
report it, and answer for 10,000 hypervisors as fast as for one. Whatever describes an exporter comes from it
directly.
"""

from __future__ import annotations

from dataclasses import dataclass

# The filters of the boards. A recording rule has no job and no instance: it describes the hypervisor,
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


# If one of two numbers is not known, the totals have neither (prometheus/rules/cluster.yaml).
_PAIRS = {"physical": "used", "used": "physical", "capacity": "claimed", "claimed": "capacity"}


def cluster_sum(rule: str, resource: Resource) -> str:
    """Return the sum over all groups of a rule of the level `cluster:`.

    Storage that hypervisors of several groups share is in the total of each of these groups. What is too much
    is subtracted.
    """
    total = f'sum(cluster:resource:{rule}{{resource_class="{resource.resource_class}",{CLUSTER}}})'
    if resource is not DISK:
        return total
    storages = f"storage:resource:{rule}{{{CLUSTER}}}"
    if rule in _PAIRS:
        storages = f"({storages} and storage:resource:{_PAIRS[rule]}{{{CLUSTER}}})"
    if rule == "placeable":
        storages = f"clamp_min({storages}, 0)"
    return f"({total} - (sum({storages}) - sum(max by (storage) ({storages})) or vector(0)))"


def flavor_sum() -> str:
    """Return how many more guests of each flavor fit into all groups; a shared storage has room only once."""
    total = f"sum by (flavor) (cluster:flavor_slots:sum{{{CLUSTER}}})"
    slots = f"storage:flavor_slots:sum{{{CLUSTER}}}"
    by_storage = f"sum by (storage, flavor) ({slots})"
    limit = f"max by (storage, flavor) (storage:flavor_slots:limit{{{CLUSTER}}})"
    once = f"sum by (flavor) ({limit} < {by_storage} or {by_storage})"
    return f"{total} - (sum by (flavor) ({slots}) - {once} or 0 * {total})"


def cluster_ratio(part: str, whole: str, resource: Resource) -> str:
    """Return one such sum as a share of another; a mean of the groups' shares would be wrong."""
    return f"{cluster_sum(part, resource)} / ({cluster_sum(whole, resource)} > 0)"


def by_hypervisor(rule: str, resource: Resource, *, filters: str = HYPERVISORS) -> str:
    """Return a rule of the level `hypervisor:`, without any label but the hypervisor's name."""
    selector = f'hypervisor:resource:{rule}{{resource_class="{resource.resource_class}",{filters}}}'
    return f"max by (hypervisor_hostname) ({selector})"

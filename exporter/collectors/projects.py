"""Projects: who holds what is claimed, by Nova's project and by flavor. Off by default.

hypervisor_project_claimed{hypervisor_hostname="kvm01",project="7d1b…",resource_class="VCPU"} 24
hypervisor_project_info{hypervisor_hostname="kvm01",project="7d1b…",project_name="shop"} 1
hypervisor_flavor_claimed{hypervisor_hostname="kvm01",flavor="m1.large",resource_class="VCPU"} 16
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache

from exporter.guest_records import ChosenGuests
from exporter.label import make_label_value
from exporter.metric import Collector, Metric, Sample
from exporter.model import DomainsReading, Guest, Snapshot
from exporter.placement.holders import MAX_HOLDERS, OTHERS, group_claims

_UNIT = "vCPUs, MiB, GiB or devices"
_METADATA = "virDomainGetXMLDesc (metadata/nova:instance)"

PROJECT_CLAIMED = Metric(
    name="hypervisor_project_claimed",
    help="What the guests of a project claim, shut-off ones too. Beyond"
    f" {MAX_HOLDERS} projects, those with the fewest guests are summed up as other."
    " Empty: guests without Nova's metadata.",
    unit=_UNIT,
    labels=("hypervisor_hostname", "project", "resource_class"),
    source=f"as hypervisor_claimed; {_METADATA}",
)
PROJECT_INFO = Metric(
    name="hypervisor_project_info",
    help="The name of a project, as it was when Nova wrote the metadata of its guests; always 1.",
    type="info",
    labels=("hypervisor_hostname", "project", "project_name"),
    source=_METADATA,
)
FLAVOR_CLAIMED = Metric(
    name="hypervisor_flavor_claimed",
    help="What the guests of a flavor claim, shut-off ones too. Beyond"
    f" {MAX_HOLDERS} flavors, those with the fewest guests are summed up as other."
    " Empty: guests without a known flavor.",
    unit=_UNIT,
    labels=("hypervisor_hostname", "flavor", "resource_class"),
    source=f"as hypervisor_claimed; {_METADATA}",
)


def _collect(snapshot: Snapshot) -> Iterator[Sample]:
    resources = snapshot.resources
    hostname = resources.hypervisor_hostname
    if resources.domains is None:
        return
    projects = group_claims(resources, _get_project)
    names = _find_project_names(resources.domains)
    chosen = snapshot.get_part("chosen guests", ChosenGuests)
    shows_names = chosen is not None and chosen.show_owner_names
    for project, claims in projects.items():
        for resource_class, amount in claims.items():
            yield from PROJECT_CLAIMED.samples(
                amount, hypervisor_hostname=hostname, project=project, resource_class=resource_class.value
            )
        if project in names and project != OTHERS:
            name = names[project] if shows_names else ""
            yield from PROJECT_INFO.samples(
                1, hypervisor_hostname=hostname, project=project, project_name=name
            )
    for flavor, claims in group_claims(resources, _get_flavor).items():
        for resource_class, amount in claims.items():
            yield from FLAVOR_CLAIMED.samples(
                amount, hypervisor_hostname=hostname, flavor=flavor, resource_class=resource_class.value
            )


def _get_project(guest: Guest) -> str:
    return guest.nova_instance.project_id


def _get_flavor(guest: Guest) -> str:
    return "" if guest.nova_flavor is None else _clean(guest.nova_flavor.name)


# Many guests have the same flavor.
_clean = lru_cache(maxsize=1024)(make_label_value)


def _find_project_names(domains: DomainsReading) -> dict[str, str]:
    """Return the name of each project. If it was renamed, the one that most of its guests have."""
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for guest in domains.known_guests:
        if guest.nova_instance.project_id:
            seen[guest.nova_instance.project_id][guest.nova_instance.project_name] += 1
    return {project: max(names, key=lambda name: (names[name], name)) for project, names in seen.items()}


COLLECTOR = Collector(
    name="projects",
    metrics=(PROJECT_CLAIMED, PROJECT_INFO, FLAVOR_CLAIMED),
    collect=_collect,
    needs=frozenset({"guests", "chosen guests", "images", "node devices", "online CPUs", "storage"}),
    is_default=False,
)

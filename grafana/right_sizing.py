"""The fourth board: what guests, flavors and hypervisors use of what they claim, and the largest misfits.

It needs the exporter's collector `guests`, and a day of its numbers.
"""

from __future__ import annotations

from grafana.board import (
    DATASOURCE_VARIABLE,
    INSTANCE_VARIABLE,
    JOB_VARIABLE,
    RUNBOOKS,
    board,
    constant_variable,
)
from grafana.guest import TABLE, TABLE_OPTIONS
from grafana.guests import BAR_CELL, guest_link
from grafana.overview import DETAIL_LINK, GROUP_VARIABLES
from grafana.panels import (
    BAD,
    BLUE,
    NEUTRAL,
    WARNING,
    Json,
    Override,
    Panel,
    Query,
    Section,
    fixed,
    stat_options,
    thresholds,
)
from grafana.queries import CLUSTER, CPU, HYPERVISORS, MEMORY, Resource

VERSION = 1

NO_PAST = "nothing yet: needs --collector.guests, and a day of numbers"
# Below a fifth much is given away. From nine tenths on the guest has too little.
_FIT = thresholds((0.2, BLUE), (0.9, BAD), below=WARNING)
_P95 = "What is used in all but the busiest twentieth of 7 days counts."
# What memory a guest uses is known by its balloon driver, or else only how much of it was ever written to.
_NOT_TOLD = (
    "Of a guest that does not tell what it uses, all that it ever touched counts: it leaves more unused. "
)
_ONLY_TOLD = "Only guests that tell what they use, by their balloon driver, are listed. "
_KEYS = ("domain", "uuid")
_BY = ", ".join(_KEYS)
_NAMES = "hypervisor_hostname, instance_name, project_name, flavor"


def make() -> Json:
    """Return the dashboard."""
    return board(
        uid="hypervisor-right-sizing",
        version=VERSION,
        title="Hypervisors: right-sizing",
        description=(
            "What guests, flavors and hypervisors use of what they claim, and who has too much or too little."
        ),
        variables=[
            DATASOURCE_VARIABLE,
            *GROUP_VARIABLES,
            JOB_VARIABLE,
            INSTANCE_VARIABLE,
            constant_variable("runbooks", RUNBOOKS),
        ],
        annotations=[],
        sections=[
            Section(
                title=None,
                lines=[[_total(CPU), _total(MEMORY), _measured()], [_flavors(), _hypervisors()]],
            ),
            Section(
                title="Guests with too much", lines=[[_least_used(resource) for resource in (CPU, MEMORY)]]
            ),
            Section(
                title="Guests with too little", lines=[[_nearly_all(resource) for resource in (CPU, MEMORY)]]
            ),
        ],
    )


def _of(resource: Resource, filters: str) -> str:
    return f'resource_class="{resource.resource_class}",{filters}'


def _total(resource: Resource) -> Panel:
    claimed = f"sum(cluster:flavor_guests:claimed{{{_of(resource, CLUSTER)}}})"
    used = f"sum(cluster:flavor_guests:used_p95{{{_of(resource, CLUSTER)}}})"
    name = f"{resource.name[0].upper()}{resource.name[1:]}"
    return Panel(
        type="stat",
        title=f"{name}: claimed and used by the guests of all flavors",
        description=(
            f"How much {resource.name} do guests claim, and how much of it do they use? {_P95} From "
            "cluster:flavor_guests:claimed and cluster:flavor_guests:used_p95."
        ),
        queries=[
            Query(expr=claimed, legend="claimed"),
            Query(expr=used, legend="used"),
            Query(expr=f"{used} / ({claimed} > 0)", legend="share"),
        ],
        width=9,
        height=4,
        unit=resource.unit,
        defaults={"decimals": 0, "color": fixed(NEUTRAL), "noValue": NO_PAST},
        overrides=[Override(name="share", properties={"unit": "percentunit", "decimals": 0})],
        options=stat_options(orientation="vertical", value_size=26),
    )


def _measured() -> Panel:
    count = f"sum(cluster:flavor_guests:count{{{_of(CPU, CLUSTER)}}})"
    return Panel(
        type="stat",
        title="Guests that were measured",
        description=(
            "Of how many guests is a day or more known? Only those are on this board. From "
            "cluster:flavor_guests:count."
        ),
        queries=[Query(expr=count)],
        width=6,
        height=4,
        unit="locale",
        defaults={"color": fixed(NEUTRAL), "noValue": NO_PAST},
        options=stat_options(text_mode="auto", value_size=26),
    )


def _flavors() -> Panel:
    def by_flavor(rule: str, resource: Resource) -> str:
        return f"sum by (flavor) (cluster:flavor_guests:{rule}{{{_of(resource, CLUSTER)}}})"

    columns = {"guests": by_flavor("count", CPU)}
    for resource in (CPU, MEMORY):
        used, claimed = by_flavor("used_p95", resource), by_flavor("claimed", resource)
        columns[f"{resource.name} used"] = f"{used} / ({claimed} > 0)"
        columns[f"{resource.name} unused"] = f"{claimed} - {used}"
    return _table(
        title="Flavors: what their guests use of what they claim",
        description=(
            f"Which flavors are larger than their guests need, and which are too small? {_P95} Unused is "
            "what could be placed again if the flavor were as small as its guests' use. "
            f"{_NOT_TOLD}From "
            "cluster:flavor_guests:count, cluster:flavor_guests:claimed and cluster:flavor_guests:used_p95."
        ),
        columns=columns,
        keys={"flavor": "Flavor"},
        sorted_by="CPU unused",
        overrides=[
            Override(name="guests", properties={"unit": "locale", "custom.width": 70}),
            Override(name="CPU unused", properties={"unit": "none", "decimals": 1, "custom.width": 105}),
            Override(name="memory unused", properties={"unit": "mbytes", "custom.width": 130}),
        ],
    )


def _hypervisors() -> Panel:
    def of_host(resource: Resource) -> str:
        rule = f"hypervisor:guests_resource:used_p95_ratio{{{_of(resource, HYPERVISORS)}}}"
        return f"max by (hypervisor_hostname) ({rule})"

    return _table(
        title="Hypervisors: what all guests use of what is claimed",
        description=(
            "On which hypervisors is little used of what is claimed? The claims are those of all guests, "
            f"shut off or not; pinned CPUs are CPUs here. {_P95} CPU is known without the collector guests; "
            "memory only if it is known of each guest that runs. "
            "From hypervisor:guests_resource:used_p95_ratio."
        ),
        columns={f"{resource.name} used": of_host(resource) for resource in (CPU, MEMORY)},
        keys={"hypervisor_hostname": "Hypervisor"},
        sorted_by="CPU used",
        ascending=True,
        overrides=[
            Override(
                name="Hypervisor",
                properties={
                    "custom.filterable": True,
                    "links": [{"title": "Everything about it", "url": DETAIL_LINK, "targetBlank": False}],
                },
            )
        ],
    )


def _guest_rule(rule: str, resource: Resource, *, measured_by: str = "") -> str:
    """Return a rule's value for each guest. The rule has no groups: `_shown` chooses the guests.

    :param measured_by: who measured what it uses; either if empty
    """
    measured = f',measured_by="{measured_by}"' if measured_by else ""
    return f'max by ({_BY}) (guest:resource:{rule}{{resource_class="{resource.resource_class}"{measured}}})'


def _least_used(resource: Resource) -> Panel:
    unused = f"{_guest_rule('claimed', resource)} - {_guest_rule('used_p95', resource)}"
    return _guests(
        title=f"{resource.name[0].upper()}{resource.name[1:]}: the 15 that leave most unused",
        description=(
            f"Which guests claim much {resource.name} that they do not use? {_P95} A smaller flavor would "
            f"do. {_NOT_TOLD if resource is MEMORY else ''}From guest:resource:claimed, "
            "guest:resource:used_p95 and guest:home:info."
        ),
        first="unused",
        chosen=f"topk(15, {unused} {_shown()})",
        resource=resource,
    )


def _nearly_all(resource: Resource) -> Panel:
    # The part of the memory that was ever written to is nearly all of it, whatever the guest needs.
    measured_by = "guest" if resource is MEMORY else ""
    used = _guest_rule("used_p95", resource, measured_by=measured_by)
    ratio = f"{used} / ({_guest_rule('claimed', resource)} > 0)"
    return _guests(
        title=f"{resource.name[0].upper()}{resource.name[1:]}: the 15 that use most of what they claim",
        description=(
            f"Which guests need more {resource.name}? {_P95} At 90 % and more a larger flavor helps. "
            f"{_ONLY_TOLD if resource is MEMORY else ''}From "
            "guest:resource:claimed, guest:resource:used_p95 and guest:home:info."
        ),
        first=None,
        chosen=f"topk(15, {ratio} {_shown()})",
        resource=resource,
    )


def _shown() -> str:
    return f"and on ({_BY}) guest:home:info{{{HYPERVISORS}}}"


def _guests(*, title: str, description: str, chosen: str, first: str | None, resource: Resource) -> Panel:
    """Return a table of guests.

    :param chosen: the query that chooses them
    :param first: the column of that query; None if it is the share of the claim that is used
    """
    used, claimed = _guest_rule("used_p95", resource), _guest_rule("claimed", resource)
    who = f"topk by ({_BY}) (1, group by ({_BY}, {_NAMES}) (guest:home:info{{{HYPERVISORS}}}))"
    joined = f"({chosen}) * on ({_BY}) group_left ({_NAMES}) {who}"
    # A guest that is not Nova's has no other name than libvirt's.
    named = f'label_replace({joined}, "name", "$1", "domain", "(.+)")'
    named = f'label_replace({named}, "name", "$1", "instance_name", "(.+)")'
    columns = {first or "used": named, "claimed": f"{claimed} and on ({_BY}) {chosen}"}
    if first is not None:
        columns["used"] = f"{used} / ({claimed} > 0) and on ({_BY}) {chosen}"
    unit: Json = {"unit": resource.unit, "decimals": 1, "custom.width": 85}
    return _table(
        title=title,
        description=description,
        columns=columns,
        keys={
            "name": "Name",
            "domain": "Guest",
            "project_name": "project",
            "flavor": "flavor",
            "hypervisor_hostname": "Hypervisor",
        },
        sorted_by=first or "used",
        hidden=("uuid", "instance_name"),
        overrides=[
            Override(
                name="Name",
                properties={
                    "links": [
                        {
                            "title": "Everything about it",
                            "url": guest_link("${__data.fields.Hypervisor}", "${__data.fields.Guest}"),
                            "targetBlank": False,
                        }
                    ]
                },
            ),
            # The link needs it; the name says enough.
            Override(name="Guest", properties={"custom.hidden": True}),
            Override(name="/^(project|flavor)$/", properties={"custom.width": 90}),
            Override(name="Hypervisor", properties={"custom.width": 95}),
            Override(name="unused", properties=unit),
            Override(name="claimed", properties=unit),
        ],
    )


def _table(
    *,
    title: str,
    description: str,
    columns: dict[str, str],
    keys: dict[str, str],
    sorted_by: str,
    overrides: list[Override],
    ascending: bool = False,
    hidden: tuple[str, ...] = (),
) -> Panel:
    """Return a table with one line for each combination of labels, and a bar for each share that is used.

    :param columns: their queries, by name
    :param keys: the labels and their columns' names
    """
    shown = {**keys, **{f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}}
    return Panel(
        type="table",
        title=title,
        description=description,
        queries=[Query(expr=expr, as_table=True) for expr in columns.values()],
        width=12,
        height=10,
        unit="string",
        defaults={"custom": TABLE, "noValue": NO_PAST},
        overrides=[
            *overrides,
            Override(
                name="/^(CPU |memory )?used$/",
                properties={**BAR_CELL, "custom.width": 130, "thresholds": _FIT},
            ),
        ],
        options={**TABLE_OPTIONS, "sortBy": [{"displayName": sorted_by, "desc": not ascending}]},
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, **dict.fromkeys(hidden, True)},
                    "includeByName": {},
                    "indexByName": {name: index for index, name in enumerate(shown)},
                    "renameByName": shown,
                },
            },
        ],
    )

"""The overview: what the cluster has, what is left, where, for how long, and whether everything answers.

No hypervisor's name is in it: one that comes appears, one that goes disappears. The queries of its upper part
are of the rules of the level `cluster:`, so that it opens as fast with 10,000 hypervisors as with one.
"""

from __future__ import annotations

from grafana.board import (
    DATASOURCE_VARIABLE,
    INSTANCE_VARIABLE,
    JOB_VARIABLE,
    RUNBOOKS,
    annotation,
    board,
    constant_variable,
    custom_variable,
    query_variable,
)
from grafana.busiest import busiest_guests
from grafana.overcommit import LONGEST_WAITING, price_of_overcommit
from grafana.panels import (
    BAD,
    BLUE,
    GOOD,
    GREEN,
    GREY,
    NEUTRAL,
    ORANGE,
    PINK,
    SHARE_THRESHOLDS,
    WARNING,
    Json,
    Override,
    Panel,
    Query,
    Section,
    bar_options,
    bar_style,
    fixed,
    legend,
    line_style,
    reduced,
    stat_options,
    thresholds,
    value_words,
)
from grafana.queries import (
    CLASS_NAMES,
    CLUSTER,
    DISK,
    EXPORTERS,
    HYPERVISORS,
    MEMORY,
    RESOURCES,
    Resource,
    by_hypervisor,
    cluster_ratio,
    cluster_sum,
    flavor_sum,
)
from grafana.storages import sharers_table, storages_table

UID = "hypervisor-overview"
DETAIL_UID = "hypervisor-detail"
VERSION = 4

# Numbers of a hypervisor that is refreshed are never older: a scrape interval plus the exporter's cache.
_STALE_SECONDS = 120
DETAIL_LINK = (
    f"/d/{DETAIL_UID}?${{datasource:queryparam}}&var-hypervisor=${{__data.fields.Hypervisor}}"
    "&${__url_time_range}"
)

GROUP_VARIABLES = [
    custom_variable(
        "group_label",
        "Group by",
        ["zone", "cluster", "aggregate", "region", "datacenter", "rack", "environment"],
        description="A label that your scrape adds to the hypervisors. You can type in any other label.",
    ),
    query_variable(
        "group",
        "Group",
        "label_values(hypervisor:up:max, $group_label)",
        description="The groups that are shown and added up.",
        all_value=".*",
    ),
    query_variable(
        "hypervisor",
        "Hypervisor",
        'label_values(hypervisor:up:max{$group_label=~"$group"}, hypervisor_hostname)',
        description="The hypervisors in the table and the trends. The totals are those of the groups.",
        all_value=".*",
    ),
]

_VARIABLES = [
    DATASOURCE_VARIABLE,
    *GROUP_VARIABLES,
    query_variable(
        "flavor",
        "Flavor",
        "label_values(cluster:flavor_slots:sum, flavor)",
        description="The flavor for the column slots of the table.",
        multi=False,
    ),
    JOB_VARIABLE,
    INSTANCE_VARIABLE,
    query_variable(
        "fullest",
        "Fullest",
        f"query_result(topk(10, hypervisor:claimed_ratio:max{{{HYPERVISORS}}}))",
        description="The ten fullest at the end of the time range. A graph of all would be unreadable.",
        hide=2,
        regex='/hypervisor_hostname="(?<value>[^"]+)"/',
    ),
    query_variable(
        "waiting",
        "Waiting",
        LONGEST_WAITING,
        description="The ten on which guests wait longest for a CPU at the end of the time range.",
        hide=2,
        regex='/hypervisor_hostname="(?<value>[^"]+)"/',
    ),
    constant_variable("runbooks", RUNBOOKS),
]

_ANNOTATIONS = [
    annotation(
        "Alert fired",
        "count by (alertname, hypervisor_hostname, storage) "
        '(ALERTS{alertname=~"(Hypervisor|Cluster|Guest).+",alertstate="firing",severity!="info"})',
        color=BAD,
        title="{{alertname}}",
        text="{{hypervisor_hostname}} {{storage}}",
    ),
    annotation(
        "Hypervisor added",
        f"hypervisor:up:max{{{CLUSTER}}} "
        f"unless on (hypervisor_hostname) (hypervisor:up:max{{{CLUSTER}}} offset 5m)",
        color=GOOD,
        title="Hypervisor added",
        text="{{hypervisor_hostname}}",
    ),
    annotation(
        "Hypervisor removed",
        f"(hypervisor:up:max{{{CLUSTER}}} offset 5m) "
        f"unless on (hypervisor_hostname) hypervisor:up:max{{{CLUSTER}}}",
        color=WARNING,
        title="Hypervisor removed",
        text="{{hypervisor_hostname}}",
    ),
]

NO_RULES = "no recording rules?"

# For the description of what is added up.
_ONCE = "Storage that hypervisors share counts once. "


def make() -> Json:
    """Return the dashboard."""
    return board(
        uid=UID,
        version=VERSION,
        title="Hypervisors: overview",
        description="CPU, memory and disk of all hypervisors: what there is, what is left, and for how long.",
        variables=_VARIABLES,
        annotations=_ANNOTATIONS,
        sections=[
            Section(
                title=None,
                lines=[
                    [_figures(resource) for resource in RESOURCES],
                    [panel for resource in RESOURCES for panel in (_share(resource), _over_time(resource))],
                    _facts(),
                    [_table()],
                ],
            ),
            Section(
                title="Trends",
                lines=[
                    [_fullest_over_time(resource) for resource in RESOURCES],
                    [_distribution(resource) for resource in RESOURCES],
                ],
            ),
            Section(title="The price of over-commit", lines=[price_of_overcommit(DETAIL_LINK)]),
            Section(title="Guests", lines=[busiest_guests()]),
            Section(title="Shared storage", lines=[[storages_table()], [sharers_table()]]),
            Section(title="Room for flavors", lines=[[_flavors(), _flavor_slots_over_time()]]),
            Section(title="Exporters", lines=[_exporters()]),
        ],
    )


def series_styles() -> list[Override]:
    """Return the look of the four words and what is left, the same in every graph and figure."""
    return [
        Override(
            name="physical",
            properties={"color": fixed(GREY), "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}},
        ),
        Override(name="capacity", properties={"color": fixed(PINK)}),
        Override(name="claimed", properties={"color": fixed(BLUE), "custom.fillOpacity": 25}),
        Override(name="used", properties={"color": fixed(ORANGE)}),
    ]


def _figures(resource: Resource) -> Panel:
    name = resource.name
    return Panel(
        type="stat",
        title=f"{name[0].upper()}{name[1:]}: what there is and what is left",
        description=(
            f"How much {name} does the cluster have? How much of it is promised and used, and how much "
            "can still be given to guests? Physical is what is there. Capacity is what may be promised: "
            "int((physical - reserved) * ratio). Claimed is what guests were promised, running or not. "
            "Used is what was measured. Left is capacity - claimed, at least 0 for each hypervisor. "
            f"{_ONCE if resource is DISK else ''}"
            "From cluster:resource:physical, capacity, claimed, used, placeable."
        ),
        queries=[
            Query(expr=cluster_sum(rule, resource), legend=word)
            for rule, word in (
                ("physical", "physical"),
                ("capacity", "capacity"),
                ("claimed", "claimed"),
                ("used", "used"),
                ("placeable", "left"),
            )
        ],
        width=8,
        height=3,
        unit=resource.unit,
        defaults={"color": fixed(NEUTRAL), "noValue": NO_RULES},
        overrides=[Override(name="left", properties={"color": fixed(GREEN)})],
        options=stat_options(orientation="vertical"),
    )


def _share(resource: Resource) -> Panel:
    return Panel(
        type="gauge",
        title=f"{resource.name[0].upper()}{resource.name[1:]} claimed",
        description=(
            f"Which share of the cluster's {resource.name} capacity is promised to guests? From 75 % it "
            "gets scarce, from 90 % it is urgent. From cluster:resource:claimed and "
            "cluster:resource:capacity."
        ),
        queries=[Query(expr=cluster_ratio("claimed", "capacity", resource), legend="of capacity")],
        width=3,
        height=6,
        unit="percentunit",
        defaults={
            "min": 0,
            "max": 1,
            "decimals": 0,
            "color": {"mode": "thresholds"},
            "thresholds": SHARE_THRESHOLDS,
            "noValue": NO_RULES,
        },
        options={
            "reduceOptions": reduced(),
            "showThresholdMarkers": True,
            "showThresholdLabels": False,
            "orientation": "auto",
            "sizing": "auto",
            "minVizWidth": 75,
            "minVizHeight": 75,
        },
    )


def _over_time(resource: Resource) -> Panel:
    return Panel(
        type="timeseries",
        title=f"{resource.name[0].upper()}{resource.name[1:]} over time",
        description=(
            f"How did the use of the cluster's {resource.name} develop? Claimed should stay below "
            "capacity, and used below physical. From cluster:resource:capacity, physical, claimed and "
            "used."
        ),
        queries=[
            Query(expr=cluster_sum(word, resource), legend=word, over_time=True)
            for word in ("capacity", "physical", "claimed", "used")
        ],
        width=5,
        height=6,
        unit=resource.unit,
        defaults={"min": 0, "custom": line_style(), "noValue": NO_RULES},
        overrides=series_styles(),
        options=legend(),
    )


def class_overrides() -> list[Override]:
    """Return readable names for the resource classes."""
    return [Override(name=name, properties={"displayName": shown}) for name, shown in CLASS_NAMES.items()]


def _facts() -> list[Panel]:
    return [
        Panel(
            type="stat",
            title="Hypervisors",
            description=(
                "Does every hypervisor answer, and are the numbers fresh? Up: an exporter reaches it. "
                f"Stale: its numbers are older than {_STALE_SECONDS} s. From cluster:hypervisors_up:sum, "
                "cluster:hypervisors:count and hypervisor:snapshot_age_seconds:min."
            ),
            queries=[
                Query(expr=f"sum(cluster:hypervisors_up:sum{{{CLUSTER}}})", legend="up"),
                Query(
                    expr=(
                        f"sum(cluster:hypervisors:count{{{CLUSTER}}})"
                        f" - sum(cluster:hypervisors_up:sum{{{CLUSTER}}})"
                    ),
                    legend="down",
                ),
                Query(
                    expr=f"sum(hypervisor:snapshot_age_seconds:min{{{CLUSTER}}} > bool {_STALE_SECONDS})",
                    legend="stale",
                ),
            ],
            width=4,
            height=4,
            unit="locale",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((1, BAD)),
                "noValue": NO_RULES,
            },
            overrides=[Override(name="up", properties={"color": fixed(NEUTRAL)})],
            options=stat_options(orientation="vertical"),
        ),
        Panel(
            type="bargauge",
            title="Guests by state",
            description=(
                "How many guests are in which state? States without guests are left out. From "
                "cluster:domains:sum."
            ),
            queries=[
                Query(
                    expr=f"sort_desc(sum by (state) (cluster:domains:sum{{{CLUSTER}}}) > 0)",
                    legend="{{state}}",
                )
            ],
            width=3,
            height=4,
            unit="locale",
            defaults={
                "min": 0,
                "color": fixed(BLUE),
                "displayName": "${__field.labels.state}",
                "noValue": "no guests",
            },
            options=bar_options(),
        ),
        Panel(
            type="stat",
            title="Least left on one hypervisor",
            description=(
                "Which hypervisor is the fullest in each resource, and how much can still be placed "
                "there? Below 0, more is promised than allowed. On shared storage a hypervisor subtracts "
                "only the claims of its own guests. From hypervisor:resource:placeable."
            ),
            queries=[
                Query(
                    expr=f"bottomk(1, {by_hypervisor('placeable', resource)})",
                    legend=f"{resource.name}: {{{{hypervisor_hostname}}}}",
                )
                for resource in RESOURCES
            ],
            width=6,
            height=4,
            unit="locale",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((-1e9, BAD), (1, NEUTRAL), below=NEUTRAL),
                "noValue": NO_RULES,
            },
            overrides=[
                Override(name=f"/^{resource.name}:/", properties={"unit": resource.unit})
                for resource in (MEMORY, DISK)
            ],
            options=stat_options(orientation="vertical", value_size=22),
        ),
        Panel(
            type="stat",
            title="Over-commit",
            description=(
                "How much is each resource over-committed? Above 1, guests were promised more than is "
                "there. From cluster:resource:claimed and cluster:resource:physical."
            ),
            queries=[
                Query(expr=cluster_ratio("claimed", "physical", resource), legend=resource.name)
                for resource in RESOURCES
            ],
            width=3,
            height=4,
            unit="none",
            defaults={"decimals": 2, "color": fixed(NEUTRAL), "noValue": NO_RULES},
            options=stat_options(orientation="vertical", value_size=18),
        ),
        Panel(
            type="stat",
            title="Can one host be lost?",
            description=(
                "If the largest hypervisor fails, do its guests find room on the others? This is "
                "checked in every group that is shown. There is no answer for a group with only one "
                "hypervisor. Shared storage is not lost with a hypervisor. From "
                "cluster:resource:placeable_after_host_loss."
            ),
            queries=[
                Query(
                    expr=(
                        "sort(min by (resource_class) "
                        f"(cluster:resource:placeable_after_host_loss{{{CLUSTER}}}) >= bool 0)"
                    ),
                    legend="{{resource_class}}",
                )
            ],
            width=4,
            height=4,
            unit="bool_yes_no",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((0, BAD), (1, GOOD), below=NEUTRAL),
                "mappings": value_words({"1": ("yes", GOOD), "0": ("NO", BAD)}),
                "noValue": "only one host",
            },
            overrides=class_overrides(),
            options=stat_options(color_mode="value", orientation="vertical", value_size=22),
        ),
        Panel(
            type="stat",
            title="Days until full, first to last",
            description=(
                "Which resource is fully claimed first, and when, if the growth of the last 6 hours "
                "continues? The first one is on top. A resource that does not grow has no date. From "
                "cluster:resource:seconds_until_full."
            ),
            queries=[
                Query(
                    expr=(
                        "sort(min by (resource_class) "
                        f"(cluster:resource:seconds_until_full{{{CLUSTER}}}) / 86400)"
                    ),
                    legend="{{resource_class}}",
                )
            ],
            width=4,
            height=4,
            unit="none",
            defaults={
                "decimals": 1,
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((0, BAD), (4, WARNING), (30, NEUTRAL), below=NEUTRAL),
                "noValue": "not in sight",
            },
            overrides=class_overrides(),
            options=stat_options(orientation="vertical", value_size=22),
        ),
    ]


def _table() -> Panel:
    columns = _table_columns()
    bars = {
        "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "unit": "percentunit",
        "decimals": 0,
        "min": 0,
        "max": 1,
        "color": {"mode": "thresholds"},
        "thresholds": SHARE_THRESHOLDS,
        # A hypervisor that does not answer has no values to divide.
        "mappings": [
            {"type": "special", "options": {"match": "null+nan", "result": {"text": "-", "index": 0}}}
        ],
    }
    overrides = [
        Override(
            name="Hypervisor",
            properties={
                "custom.filterable": True,
                "links": [{"title": "Everything about it", "url": DETAIL_LINK, "targetBlank": False}],
            },
        ),
        Override(
            name="Answers",
            properties={
                "custom.width": 95,
                "custom.filterable": True,
                "custom.align": "center",
                "custom.cellOptions": {"type": "color-text"},
                "mappings": value_words({"1": ("yes", GOOD), "0": ("NO", BAD)}),
            },
        ),
        Override(
            name="Age",
            properties={
                "custom.width": 65,
                "unit": "s",
                "decimals": 0,
                "custom.cellOptions": {"type": "color-text"},
                "thresholds": thresholds((_STALE_SECONDS, BAD), below=NEUTRAL),
            },
        ),
        Override(name="Fullest", properties={**bars, "custom.width": 120}),
        Override(
            name="in",
            properties={
                "custom.width": 100,
                "custom.filterable": True,
                "mappings": value_words({key: (name, NEUTRAL) for key, name in CLASS_NAMES.items()}),
            },
        ),
        Override(name="/^CPU$|^of CPU$/", properties={"custom.width": 68}),
        Override(name="/^(memory|disk|of disk)$/", properties={"custom.width": 80}),
        Override(name="of memory", properties={"custom.width": 90}),
        Override(name="/^(of )?memory$/", properties={"unit": "mbytes"}),
        Override(name="/^(of )?disk$|^disk at least$/", properties={"unit": "gbytes"}),
        Override(name="/ %$/", properties={**bars, "custom.width": 105}),
        Override(
            name="disk at least",
            properties={
                "custom.width": 100,
                "custom.cellOptions": {"type": "color-text"},
                "thresholds": thresholds((0, NEUTRAL), below=BAD),
            },
        ),
        Override(name="guests", properties={"custom.width": 68}),
        Override(name="slots", properties={"custom.width": 60}),
    ]
    return Panel(
        type="table",
        title="Hypervisors, the fullest first: what is claimed, of which capacity",
        description=(
            "Where is room, and what is the state of each hypervisor? Fullest is the largest claimed "
            "share of its capacity, and its resource class. The bars show claimed / capacity. Age is "
            "how old the numbers are. Disk at least is what is left if all images grow to their full "
            "size. Slots is how many more guests of the selected flavor fit. On shared storage a line "
            "shows all of it, with the hypervisor's own guests, as Nova does. From hypervisor:up:max, "
            "hypervisor_snapshot_timestamp_seconds, hypervisor:resource:claimed, and capacity, "
            "hypervisor:claimed_ratio:max, hypervisor:disk_available_least:min, "
            "hypervisor:running_vms:max and hypervisor:flavor_slots:min."
        ),
        queries=[Query(expr=expr, as_table=True) for expr, _ in columns],
        width=24,
        height=12,
        unit="locale",
        defaults={
            "custom": {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}},
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(below=NEUTRAL),
            "noValue": "",
        },
        overrides=overrides,
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": "Fullest", "desc": True}],
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        },
        transformations=_one_line_per_hypervisor([name for _, name in columns]),
    )


def _table_columns() -> list[tuple[str, str]]:
    """Return the table's queries, each with the name of the column that its values become."""
    # A target that never answered has no host name yet: its line shows the target instead.
    up = (
        f"max by (hypervisor_hostname) (label_replace(hypervisor:up:max{{{HYPERVISORS}}}, "
        '"hypervisor_hostname", "$1", "target", "(.+)"))'
    )
    # The time of the last numbers is searched in the whole time range, so that it is found when the numbers
    # are gone.
    age = (
        "time() - max by (hypervisor_hostname) "
        f"(max_over_time(hypervisor_snapshot_timestamp_seconds{{{EXPORTERS},{HYPERVISORS}}}[$__range])) "
        f"and on (hypervisor_hostname) hypervisor:up:max{{{HYPERVISORS}}}"
    )
    fullest = f"max by (hypervisor_hostname, resource_class) (hypervisor:claimed_ratio:max{{{HYPERVISORS}}})"
    columns = [(up, "Answers"), (age, "Age"), (fullest, "Fullest")]
    for resource in RESOURCES:
        columns += [
            (by_hypervisor("claimed", resource), resource.name),
            (by_hypervisor("capacity", resource), f"of {resource.name}"),
        ]
    columns += [
        (
            f"max by (hypervisor_hostname) (hypervisor:disk_available_least:min{{{HYPERVISORS}}})",
            "disk at least",
        ),
        (f"max by (hypervisor_hostname) (hypervisor:running_vms:max{{{HYPERVISORS}}})", "guests"),
        (
            f'max by (hypervisor_hostname) (hypervisor:flavor_slots:min{{flavor="$flavor",{HYPERVISORS}}})',
            "slots",
        ),
    ]
    return columns


def _one_line_per_hypervisor(columns: list[str]) -> list[Json]:
    """Return the transformations that join the queries and name and order the columns."""
    names = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    fields = {name: field for field, name in names.items()}
    order = ["hypervisor_hostname", "Value #A", "Value #B", "Value #C", "resource_class"]
    for resource in RESOURCES:
        order += [fields[resource.name], fields[f"of {resource.name}"], f"{resource.name} %"]
    order += [field for field in names if field not in order]
    return [
        {"id": "joinByField", "options": {"byField": "hypervisor_hostname", "mode": "outer"}},
        # Grafana divides the shares. This saves Prometheus as many queries over the whole fleet.
        *(
            {
                "id": "calculateField",
                "options": {
                    "mode": "binary",
                    "alias": f"{resource.name} %",
                    "binary": {
                        "left": fields[resource.name],
                        "operator": "/",
                        "right": fields[f"of {resource.name}"],
                    },
                    "replaceFields": False,
                },
            }
            for resource in RESOURCES
        ),
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, **{f"Time {n}": True for n in range(1, len(columns) + 1)}},
                "includeByName": {},
                "indexByName": {name: index for index, name in enumerate(order)},
                "renameByName": {"hypervisor_hostname": "Hypervisor", "resource_class": "in", **names},
            },
        },
    ]


def _fullest_over_time(resource: Resource) -> Panel:
    expr = by_hypervisor("claimed_ratio", resource, filters=f'{CLUSTER},hypervisor_hostname=~"$fullest"')
    return Panel(
        type="timeseries",
        title=f"{resource.name[0].upper()}{resource.name[1:]} claimed of capacity, the ten fullest",
        description=(
            f"How did the use of {resource.name} develop on the fullest hypervisors, and do they get "
            "fuller? These are the ten hypervisors with the largest claimed share of any resource at "
            "the end of the time range. From hypervisor:resource:claimed_ratio."
        ),
        queries=[Query(expr=expr, legend="{{hypervisor_hostname}}", over_time=True)],
        width=8,
        height=9,
        unit="percentunit",
        defaults={"min": 0, "custom": line_style(lineWidth=1), "noValue": NO_RULES},
        options={
            **legend("lastNotNull", placement="right"),
        },
    )


def _distribution(resource: Resource) -> Panel:
    ratio = by_hypervisor("claimed_ratio", resource)
    counts = f'count_values("share", 10 * clamp(floor(10 * {ratio}), 0, 9))'
    # Every tenth has its bar, also if no hypervisor is in it.
    empty = " or ".join(
        f'label_replace(vector(0), "share", "{tenth}", "", "")' for tenth in range(0, 100, 10)
    )
    return Panel(
        type="bargauge",
        title=f"Hypervisors by {resource.name} claimed, in tenths of capacity",
        description=(
            f"How evenly is {resource.name} spread over the fleet? The bar 20 counts the hypervisors "
            "with at least 20 % and less than 30 % of their capacity claimed. The bar 90 counts all "
            "that are fuller. From hypervisor:resource:claimed_ratio."
        ),
        queries=[Query(expr=f"{counts} or on (share) ({empty})", as_table=True)],
        width=8,
        height=7,
        unit="locale",
        defaults={"min": 0, "color": fixed(BLUE), "noValue": NO_RULES},
        options=bar_options(orientation="vertical", rows=True),
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "includeByName": {},
                    "indexByName": {"share": 0, "Value": 1},
                    "renameByName": {},
                },
            },
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "share", "desc": False}]}},
        ],
    )


def _flavors() -> Panel:
    limits = (
        "topk by (flavor) (1, sum by (flavor, resource_class) "
        f"(cluster:flavor_slots_limited_by:sum{{{CLUSTER}}}))"
    )
    best = (
        "max by (flavor, hypervisor_hostname) "
        f"(topk by (flavor) (1, hypervisor:flavor_slots:min{{{CLUSTER}}}))"
    )
    return Panel(
        type="table",
        title="How many more guests of each flavor fit",
        description=(
            "How many more guests of a flavor fit into the cluster, and how many on the best "
            "hypervisor? Which hypervisor is that, and which resource limits on most hypervisors? The best "
            "one counts by itself: shared storage may have less room, and limits the cluster. From "
            "cluster:flavor_slots:sum, cluster:flavor_slots:count, hypervisor:flavor_slots:min and "
            "cluster:flavor_slots_limited_by:sum; of storage that several groups share, "
            "storage:flavor_slots:sum and storage:flavor_slots:limit."
        ),
        queries=[
            Query(expr=flavor_sum(), as_table=True),
            Query(expr=best, as_table=True),
            Query(expr=f"sum by (flavor) (cluster:flavor_slots:count{{{CLUSTER}}})", as_table=True),
            Query(expr=limits, as_table=True),
        ],
        width=14,
        height=8,
        unit="locale",
        defaults={
            "custom": {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}},
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(below=NEUTRAL),
            "noValue": "no flavors configured",
        },
        overrides=[
            Override(
                name="in the cluster",
                properties={
                    "custom.cellOptions": {"type": "color-text"},
                    "thresholds": thresholds((1, NEUTRAL), below=BAD),
                },
            ),
            Override(
                name="limited mostly by",
                properties={"mappings": value_words({k: (name, NEUTRAL) for k, name in CLASS_NAMES.items()})},
            ),
            Override(
                name="Hypervisor",
                properties={
                    "links": [{"title": "Everything about it", "url": DETAIL_LINK, "targetBlank": False}],
                },
            ),
        ],
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": "in the cluster", "desc": False}],
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        },
        transformations=[
            {"id": "joinByField", "options": {"byField": "flavor", "mode": "outer"}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {
                        "Time": True,
                        **{f"Time {n}": True for n in range(1, 5)},
                        "Value #D": True,
                    },
                    "includeByName": {},
                    "indexByName": {
                        name: index
                        for index, name in enumerate(
                            [
                                "flavor",
                                "Value #A",
                                "Value #B",
                                "hypervisor_hostname",
                                "Value #C",
                                "resource_class",
                            ]
                        )
                    },
                    "renameByName": {
                        "flavor": "Flavor",
                        "Value #A": "in the cluster",
                        "Value #B": "on the best one",
                        "hypervisor_hostname": "Hypervisor",
                        "Value #C": "with room on",
                        "resource_class": "limited mostly by",
                    },
                },
            },
        ],
    )


def _flavor_slots_over_time() -> Panel:
    return Panel(
        type="timeseries",
        title="Slots in the cluster over time",
        description=(
            "How fast is the room for each flavor used up? The lines show how many more guests of each "
            "flavor fit. From cluster:flavor_slots:sum; of storage that several groups share, "
            "storage:flavor_slots:sum and storage:flavor_slots:limit."
        ),
        queries=[
            Query(
                expr=flavor_sum(),
                legend="{{flavor}}",
                over_time=True,
            )
        ],
        width=10,
        height=8,
        unit="locale",
        defaults={"min": 0, "custom": line_style(), "noValue": "no flavors configured"},
        options=legend("lastNotNull", placement="right"),
    )


def _exporters() -> list[Panel]:
    return [
        Panel(
            type="timeseries",
            title="How long scrapes and refreshes take",
            description=(
                "Do exporters and hypervisors answer in time? A refresh reads one hypervisor. A scrape "
                "may wait for several refreshes. From scrape_duration_seconds and "
                "hypervisor_refresh_duration_seconds."
            ),
            queries=[
                Query(
                    expr=(
                        f"max(scrape_duration_seconds{{{EXPORTERS}}} and on (job, instance) "
                        f"hypervisor_up{{{EXPORTERS}}})"
                    ),
                    legend="slowest scrape",
                    over_time=True,
                ),
                Query(
                    expr=f"max(hypervisor_refresh_duration_seconds{{{EXPORTERS}}})",
                    legend="slowest refresh",
                    over_time=True,
                ),
                Query(
                    expr=f"avg(hypervisor_refresh_duration_seconds{{{EXPORTERS}}})",
                    legend="mean refresh",
                    over_time=True,
                ),
            ],
            width=8,
            height=8,
            unit="s",
            defaults={"min": 0, "custom": line_style()},
            overrides=[
                Override(name="slowest scrape", properties={"color": fixed(PINK)}),
                Override(name="slowest refresh", properties={"color": fixed(ORANGE)}),
                Override(name="mean refresh", properties={"color": fixed(BLUE)}),
            ],
            options=legend(),
            max_data_points=40,
        ),
        Panel(
            type="timeseries",
            title="Errors in 10 minutes, by reason",
            description=(
                "Which problems occur when hypervisors are read? Empty if there are none. The runbook "
                "of HypervisorRefreshErrors has a line for each reason. From "
                "target:refresh_errors:increase10m."
            ),
            queries=[
                Query(
                    expr=f"sum by (reason) (target:refresh_errors:increase10m{{{EXPORTERS}}})",
                    legend="{{reason}}",
                    over_time=True,
                )
            ],
            width=6,
            height=8,
            unit="locale",
            defaults={
                "min": 0,
                "decimals": 0,
                "custom": bar_style(),
                "noValue": "no errors",
            },
            options=legend(),
        ),
        Panel(
            type="table",
            title="What goes wrong now",
            description=(
                "Which target fails, and why? The most errors of the last 10 minutes come first. Empty "
                "if there are none. From target:refresh_errors:increase10m."
            ),
            queries=[
                Query(
                    expr=(
                        "topk(50, sum by (hypervisor_hostname, target, instance, reason) "
                        f"(target:refresh_errors:increase10m{{{EXPORTERS}}}))"
                    ),
                    as_table=True,
                )
            ],
            width=10,
            height=8,
            unit="locale",
            defaults={
                "decimals": 0,
                "custom": {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}},
                "noValue": "nothing goes wrong",
            },
            options={
                "showHeader": True,
                "cellHeight": "sm",
                "sortBy": [{"displayName": "errors", "desc": True}],
                "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
            },
            transformations=[
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True},
                        "includeByName": {},
                        "indexByName": {
                            "hypervisor_hostname": 0,
                            "target": 1,
                            "instance": 2,
                            "reason": 3,
                            "Value": 4,
                        },
                        "renameByName": {
                            "hypervisor_hostname": "Hypervisor",
                            "Value": "errors",
                            "instance": "exporter",
                        },
                    },
                }
            ],
        ),
    ]

"""The second board: everything about one hypervisor."""

from __future__ import annotations

from grafana.board import (
    DATASOURCE_VARIABLE,
    INSTANCE_VARIABLE,
    JOB_VARIABLE,
    RUNBOOKS,
    annotation,
    board,
    constant_variable,
    query_variable,
)
from grafana.guests import guest_link
from grafana.overcommit import price_of_one
from grafana.overview import DETAIL_UID, NO_RULES, class_overrides, series_styles
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
    stat_options,
    thresholds,
    value_words,
)
from grafana.queries import CLASS_NAMES, EXPORTERS, ONE, ONE_OF_EXPORTERS, RESOURCES, Resource
from grafana.storages import shared_with

VERSION = 4

# Joins the metrics of a target to this hypervisor.
_OF_TARGET = f"and on (job, instance, target) hypervisor:target:info{{{ONE}}}"
_TABLE: Json = {"align": "auto", "minWidth": 50, "filterable": False, "cellOptions": {"type": "auto"}}
_TABLE_OPTIONS: Json = {
    "showHeader": True,
    "cellHeight": "sm",
    "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
}


def make() -> Json:
    """Return the dashboard."""
    return board(
        uid=DETAIL_UID,
        version=VERSION,
        title="Hypervisors: one in detail",
        description=(
            "Everything known of one hypervisor: capacity, claims, storage, NUMA cells, devices, health."
        ),
        variables=[
            DATASOURCE_VARIABLE,
            query_variable(
                "hypervisor",
                "Hypervisor",
                "label_values(hypervisor:up:max, hypervisor_hostname)",
                description="The hypervisor that is shown.",
                multi=False,
            ),
            JOB_VARIABLE,
            INSTANCE_VARIABLE,
            constant_variable("runbooks", RUNBOOKS),
        ],
        annotations=[
            annotation(
                "Alert fired",
                f'count by (alertname, domain) (ALERTS{{alertstate="firing",{ONE}}} '
                'or ALERTS{alertstate="firing"} '
                f"and on (storage) hypervisor:resource:shared{{{ONE}}})",
                color=BAD,
                title="{{alertname}}",
                text="$hypervisor {{domain}}",
            )
        ],
        sections=[
            Section(
                title=None,
                lines=[
                    _facts(),
                    [_four_words(resource) for resource in RESOURCES],
                    [_over_time(resource) for resource in RESOURCES],
                ],
            ),
            Section(title="Guests and room for more", lines=[[_guests(), _slots(), _inventory()]]),
            Section(title="The price of over-commit", lines=[price_of_one()]),
            Section(title="Storage", lines=[_storage(), shared_with()]),
            Section(title="NUMA cells and devices", lines=[_numa(), _devices()]),
            Section(title="Reading it", lines=[_health()]),
        ],
    )


def _single(name: str, *, labels: str = "") -> str:
    """Return a metric of this hypervisor; once, though two exporters may report it."""
    return f"max({name}{{{ONE_OF_EXPORTERS}{labels}}})"


def _each(name: str, *labels: str) -> str:
    """Return a metric of this hypervisor for each value of some labels."""
    return f"max by ({', '.join(labels)}) ({name}{{{ONE_OF_EXPORTERS}}})"


def _facts() -> list[Panel]:
    return [
        Panel(
            type="stat",
            title="Answers",
            description="Does an exporter reach this hypervisor? From hypervisor:up:max.",
            queries=[Query(expr=f"max(hypervisor:up:max{{{ONE}}})")],
            width=3,
            height=4,
            unit="bool_yes_no",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((0, BAD), (1, GOOD), below=NEUTRAL),
                "mappings": value_words({"1": ("yes", GOOD), "0": ("NO", BAD)}),
                "noValue": NO_RULES,
            },
            options=stat_options(color_mode="background_solid", text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Age of the numbers",
            description=(
                "How long ago were the numbers read? The panel searches the whole time range, so it "
                "also shows the age of numbers that are gone. From "
                "hypervisor_snapshot_timestamp_seconds."
            ),
            queries=[
                Query(
                    expr=(
                        "time() - max(max_over_time("
                        f"hypervisor_snapshot_timestamp_seconds{{{ONE_OF_EXPORTERS}}}[$__range]))"
                    )
                )
            ],
            width=3,
            height=4,
            unit="s",
            defaults={
                "decimals": 0,
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((120, BAD), below=NEUTRAL),
                "noValue": "never read",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Running guests",
            description="How many guests are active? A click shows each. From hypervisor_running_vms.",
            queries=[Query(expr=_single("hypervisor_running_vms"))],
            width=3,
            height=4,
            unit="locale",
            defaults={
                "color": fixed(NEUTRAL),
                "noValue": "-",
                "links": [{"title": "Each of them", "url": guest_link("$hypervisor"), "targetBlank": False}],
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Disk at least",
            description=(
                "How much disk is left if all images grow to their full size? Below 0, guests can fill "
                "the storage while they run. From hypervisor_disk_available_least."
            ),
            queries=[Query(expr=f"min(hypervisor_disk_available_least{{{ONE_OF_EXPORTERS}}})")],
            width=3,
            height=4,
            unit="gbytes",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((-1e9, BAD), (0, NEUTRAL), below=NEUTRAL),
                "noValue": "-",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="table",
            title="What it is",
            description=(
                "Which machine is this, and what runs on it? Versions are libvirt's numbers. From "
                "hypervisor_info."
            ),
            queries=[
                Query(
                    expr=(
                        "group by (hypervisor_type, hypervisor_version, libvirt_version, arch, model, "
                        "sockets, cores, threads, host_ip) "
                        f"(last_over_time(hypervisor_info{{{ONE_OF_EXPORTERS}}}[$__range]))"
                    ),
                    as_table=True,
                )
            ],
            width=12,
            height=4,
            unit="string",
            defaults={"custom": _TABLE, "noValue": "never read"},
            overrides=[Override(name="model", properties={"custom.minWidth": 110})],
            options=_TABLE_OPTIONS,
            transformations=[
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True, "Value": True},
                        "includeByName": {},
                        "indexByName": {
                            name: index
                            for index, name in enumerate(
                                [
                                    "hypervisor_type",
                                    "hypervisor_version",
                                    "libvirt_version",
                                    "arch",
                                    "model",
                                    "sockets",
                                    "cores",
                                    "threads",
                                    "host_ip",
                                ]
                            )
                        },
                        "renameByName": {
                            "hypervisor_type": "type",
                            "hypervisor_version": "version",
                            "libvirt_version": "libvirt",
                            "host_ip": "address",
                        },
                    },
                }
            ],
        ),
    ]


def _word_queries(resource: Resource, *, over_time: bool) -> list[Query]:
    return [
        Query(
            expr=f'max(hypervisor:resource:{word}{{resource_class="{resource.resource_class}",{ONE}}})',
            legend=shown,
            over_time=over_time,
        )
        for word, shown in (
            ("physical", "physical"),
            ("capacity", "capacity"),
            ("claimed", "claimed"),
            ("used", "used"),
            ("placeable", "left"),
        )
        if not (over_time and word == "placeable")
    ]


def _four_words(resource: Resource) -> Panel:
    name = resource.name
    return Panel(
        type="bargauge",
        title=f"{name[0].upper()}{name[1:]}: what there is and what is left",
        description=(
            f"How much {name} is there, promised, used, and can still be placed on this hypervisor? "
            "Physical is what is there. Capacity is what may be promised: int((physical - reserved) * "
            "ratio). Claimed is what guests were promised. Used is what was measured. Left is capacity "
            "- claimed. From hypervisor:resource:physical, capacity, claimed, used and placeable."
        ),
        queries=_word_queries(resource, over_time=False),
        width=8,
        height=6,
        unit=resource.unit,
        defaults={"min": 0, "color": fixed(BLUE), "noValue": NO_RULES},
        overrides=[
            Override(name=word, properties={"color": fixed(color)})
            for word, color in (
                ("physical", GREY),
                ("capacity", PINK),
                ("claimed", BLUE),
                ("used", ORANGE),
                ("left", GREEN),
            )
        ],
        options=bar_options(),
    )


def _over_time(resource: Resource) -> Panel:
    name = resource.name
    return Panel(
        type="timeseries",
        title=f"{name[0].upper()}{name[1:]} over time",
        description=(
            f"How did the use of this hypervisor's {name} develop? Claimed should stay below capacity, "
            "and used below physical. From hypervisor:resource:capacity, physical, claimed and used."
        ),
        queries=_word_queries(resource, over_time=True),
        width=8,
        height=7,
        unit=resource.unit,
        defaults={"min": 0, "custom": line_style(), "noValue": NO_RULES},
        overrides=series_styles(),
        options=legend(),
    )


def _guests() -> Panel:
    return Panel(
        type="timeseries",
        title="Guests by state",
        description=(
            "How many guests were in which state? States without guests are left out. From "
            "hypervisor_domains."
        ),
        queries=[
            Query(expr=f"{_each('hypervisor_domains', 'state')} > 0", legend="{{state}}", over_time=True)
        ],
        width=8,
        height=8,
        unit="locale",
        defaults={
            "min": 0,
            "decimals": 0,
            "custom": line_style(fillOpacity=25, stacking={"mode": "normal", "group": "A"}),
            "noValue": "no guests",
        },
        options=legend("lastNotNull", placement="right"),
    )


def _slots() -> Panel:
    limited = (
        "topk by (flavor) (1, max by (flavor, resource_class) "
        f"(hypervisor_flavor_slots_limited_by{{{ONE_OF_EXPORTERS}}}))"
    )
    return Panel(
        type="table",
        title="How many more guests of each flavor fit here",
        description=(
            "How many more guests of a flavor fit on this hypervisor, and which resource limits? From "
            "hypervisor_flavor_slots and hypervisor_flavor_slots_limited_by."
        ),
        queries=[
            Query(expr=_each("hypervisor_flavor_slots", "flavor"), as_table=True),
            Query(expr=limited, as_table=True),
        ],
        width=7,
        height=8,
        unit="locale",
        defaults={"custom": _TABLE, "noValue": "no flavors configured"},
        overrides=[
            Override(
                name="limited by",
                properties={"mappings": value_words({k: (name, NEUTRAL) for k, name in CLASS_NAMES.items()})},
            )
        ],
        options={**_TABLE_OPTIONS, "sortBy": [{"displayName": "slots", "desc": False}]},
        transformations=[
            {"id": "joinByField", "options": {"byField": "flavor", "mode": "outer"}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "Time 1": True, "Time 2": True, "Value #B": True},
                    "includeByName": {},
                    "indexByName": {"flavor": 0, "Value #A": 1, "resource_class": 2},
                    "renameByName": {"Value #A": "slots", "resource_class": "limited by", "flavor": "Flavor"},
                },
            },
        ],
    )


def _inventory() -> Panel:
    columns = ("inventory", "reserved", "allocation_ratio", "capacity", "claimed")
    shown = ("total", "reserved", "ratio", "capacity", "claimed")
    return Panel(
        type="table",
        title="What the scheduler reckons with",
        description=(
            "How is the capacity computed? int((total - reserved) * ratio), in CPUs, MiB, GiB and devices. "
            "Pinned CPUs are counted separately. From hypervisor_inventory, hypervisor_reserved, "
            "hypervisor_allocation_ratio, hypervisor_capacity and hypervisor_claimed."
        ),
        queries=[
            Query(expr=_each(f"hypervisor_{name}", "resource_class"), as_table=True) for name in columns
        ],
        width=9,
        height=8,
        unit="locale",
        defaults={"custom": _TABLE, "noValue": "never read"},
        overrides=[Override(name="Resource class", properties={"custom.width": 125})],
        options=_TABLE_OPTIONS,
        transformations=[
            {"id": "joinByField", "options": {"byField": "resource_class", "mode": "outer"}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, **{f"Time {number}": True for number in range(1, 6)}},
                    "includeByName": {},
                    "indexByName": {"resource_class": 0},
                    "renameByName": {
                        "resource_class": "Resource class",
                        **{f"Value #{chr(ord('A') + n)}": name for n, name in enumerate(shown)},
                    },
                },
            },
        ],
    )


def _storage() -> list[Panel]:
    return [
        Panel(
            type="timeseries",
            title="Storage for images",
            description=(
                "How full is the storage, and how full can it become? Promised is what is used plus "
                "what the images can still grow. If it is above size, guests can fill the storage while "
                "they run. From hypervisor_storage_size_bytes, hypervisor_storage_used_bytes, "
                "hypervisor_storage_free_bytes and hypervisor_storage_overcommitted_bytes."
            ),
            queries=[
                Query(expr=_single("hypervisor_storage_size_bytes"), legend="size", over_time=True),
                Query(expr=_single("hypervisor_storage_used_bytes"), legend="used", over_time=True),
                Query(
                    expr=_single("hypervisor_storage_free_bytes"), legend="free for images", over_time=True
                ),
                Query(
                    expr=(
                        f"{_single('hypervisor_storage_used_bytes')} + "
                        f"{_single('hypervisor_storage_overcommitted_bytes')}"
                    ),
                    legend="used once all have grown",
                    over_time=True,
                ),
            ],
            width=12,
            height=7,
            unit="bytes",
            defaults={"min": 0, "custom": line_style()},
            overrides=[
                Override(
                    name="size",
                    properties={"color": fixed(GREY), "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}},
                ),
                Override(name="used", properties={"color": fixed(ORANGE), "custom.fillOpacity": 25}),
                Override(name="free for images", properties={"color": fixed(GREEN)}),
                Override(name="used once all have grown", properties={"color": fixed(PINK)}),
            ],
            options=legend("lastNotNull", placement="right"),
        ),
        Panel(
            type="stat",
            title="Storage used",
            description=(
                "Which share of the storage is really used? From hypervisor_storage_used_bytes and "
                "hypervisor_storage_size_bytes."
            ),
            queries=[
                Query(
                    expr=(
                        f"{_single('hypervisor_storage_used_bytes')}"
                        f" / {_single('hypervisor_storage_size_bytes')}"
                    )
                )
            ],
            width=4,
            height=7,
            unit="percentunit",
            defaults={
                "decimals": 0,
                "color": {"mode": "thresholds"},
                "thresholds": SHARE_THRESHOLDS,
                "noValue": "-",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Unsized disks",
            description=(
                "How many images could not be read? Their growth is missing in the over-commit. From "
                "hypervisor_unsized_disks."
            ),
            queries=[Query(expr=_single("hypervisor_unsized_disks"))],
            width=4,
            height=7,
            unit="locale",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((1, BAD), below=NEUTRAL),
                "noValue": "-",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Days until the storage is full",
            description=(
                "When is the storage full, if the growth of the last 6 hours continues? From "
                "hypervisor:storage:seconds_until_full."
            ),
            queries=[Query(expr=f"min(hypervisor:storage:seconds_until_full{{{ONE}}}) / 86400")],
            width=4,
            height=7,
            unit="none",
            defaults={
                "decimals": 1,
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((0, BAD), (4, NEUTRAL), below=NEUTRAL),
                "noValue": "not in sight",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
    ]


def _numa() -> list[Panel]:
    cells = ("cpus", "dedicated_cpus", "pinned_cpus", "memory_size_bytes", "memory_free_bytes")
    return [
        Panel(
            type="table",
            title="NUMA cells",
            description=(
                "How are CPUs and memory spread over the cells, and how much of each is in use? From "
                "hypervisor_numa_cell_cpus, hypervisor_numa_cell_dedicated_cpus, "
                "hypervisor_numa_cell_pinned_cpus, hypervisor_numa_cell_memory_size_bytes and "
                "hypervisor_numa_cell_memory_free_bytes."
            ),
            queries=[
                Query(expr=_each(f"hypervisor_numa_cell_{name}", "cell"), as_table=True) for name in cells
            ],
            width=12,
            height=7,
            unit="locale",
            defaults={"custom": _TABLE, "noValue": "no NUMA topology"},
            overrides=[Override(name="/^memory/", properties={"unit": "bytes"})],
            options={**_TABLE_OPTIONS, "sortBy": [{"displayName": "Cell", "desc": False}]},
            transformations=[
                {"id": "joinByField", "options": {"byField": "cell", "mode": "outer"}},
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True, **{f"Time {number}": True for number in range(1, 6)}},
                        "includeByName": {},
                        "indexByName": {"cell": 0},
                        "renameByName": {
                            "cell": "Cell",
                            "Value #A": "CPUs",
                            "Value #B": "dedicated CPUs",
                            "Value #C": "pinned",
                            "Value #D": "memory",
                            "Value #E": "memory free",
                        },
                    },
                },
            ],
        ),
        Panel(
            type="table",
            title="Memory pages by cell and size",
            description=(
                "How many pages of each size does each cell have, and how many are free? From "
                "hypervisor_numa_cell_pages and hypervisor_numa_cell_pages_free."
            ),
            queries=[
                Query(expr=_each("hypervisor_numa_cell_pages", "cell", "page_size_bytes"), as_table=True),
                Query(
                    expr=_each("hypervisor_numa_cell_pages_free", "cell", "page_size_bytes"), as_table=True
                ),
            ],
            width=12,
            height=7,
            unit="locale",
            defaults={"custom": _TABLE, "noValue": "no NUMA topology"},
            overrides=[Override(name="page size", properties={"unit": "bytes"})],
            options={**_TABLE_OPTIONS, "sortBy": [{"displayName": "Cell", "desc": False}]},
            transformations=[
                {"id": "merge", "options": {}},
                {
                    "id": "convertFieldType",
                    "options": {
                        "fields": {},
                        "conversions": [{"targetField": "page_size_bytes", "destinationType": "number"}],
                    },
                },
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True},
                        "includeByName": {},
                        "indexByName": {"cell": 0, "page_size_bytes": 1, "Value #A": 2, "Value #B": 3},
                        "renameByName": {
                            "cell": "Cell",
                            "page_size_bytes": "page size",
                            "Value #A": "pages",
                            "Value #B": "free",
                        },
                    },
                },
            ],
        ),
    ]


def _devices() -> list[Panel]:
    return [
        Panel(
            type="bargauge",
            title="Pinned CPUs",
            description=(
                "How many CPUs are for pinned vCPUs, and how many of them are claimed? Empty without "
                "dedicated CPUs. From hypervisor_capacity and hypervisor_claimed of the class PCPU."
            ),
            queries=[
                Query(
                    expr=_single("hypervisor_capacity", labels=',resource_class="PCPU"'), legend="capacity"
                ),
                Query(expr=_single("hypervisor_claimed", labels=',resource_class="PCPU"'), legend="claimed"),
            ],
            width=8,
            height=6,
            unit="locale",
            defaults={"min": 0, "color": fixed(BLUE), "noValue": "no dedicated CPUs"},
            overrides=[Override(name="capacity", properties={"color": fixed(PINK)}), *class_overrides()],
            options=bar_options(),
        ),
        Panel(
            type="table",
            title="PCI devices that guests may have",
            description="Which devices can be assigned to guests? From hypervisor_pci_devices.",
            queries=[
                Query(
                    expr=_each("hypervisor_pci_devices", "vendor_id", "product_id", "dev_type"), as_table=True
                )
            ],
            width=8,
            height=6,
            unit="locale",
            defaults={"custom": _TABLE, "noValue": "no assignable PCI devices"},
            overrides=[Override(name="/^(vendor|product|type)$/", properties={"unit": "string"})],
            options=_TABLE_OPTIONS,
            transformations=[
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True},
                        "includeByName": {},
                        "indexByName": {"vendor_id": 0, "product_id": 1, "dev_type": 2, "Value": 3},
                        "renameByName": {
                            "vendor_id": "vendor",
                            "product_id": "product",
                            "dev_type": "type",
                            "Value": "devices",
                        },
                    },
                }
            ],
        ),
        Panel(
            type="table",
            title="Mediated devices",
            description=(
                "How many more mediated devices of each type can be created? From "
                "hypervisor_mdev_available_instances."
            ),
            queries=[
                Query(
                    expr=(
                        "sum by (mdev_type) (max without (job, instance, target) "
                        f"(hypervisor_mdev_available_instances{{{ONE_OF_EXPORTERS}}}))"
                    ),
                    as_table=True,
                )
            ],
            width=8,
            height=6,
            unit="locale",
            defaults={"custom": _TABLE, "noValue": "no mediated devices"},
            options=_TABLE_OPTIONS,
            transformations=[
                {
                    "id": "organize",
                    "options": {
                        "excludeByName": {"Time": True},
                        "includeByName": {},
                        "indexByName": {"mdev_type": 0, "Value": 1},
                        "renameByName": {"mdev_type": "type", "Value": "available"},
                    },
                }
            ],
        ),
    ]


def _health() -> list[Panel]:
    def of_target(name: str) -> str:
        return f"max by (instance, target) ({name}{{{EXPORTERS}}} {_OF_TARGET})"

    def rate(name: str) -> str:
        return f"sum(rate({name}{{{EXPORTERS}}}[$__rate_interval]) {_OF_TARGET})"

    return [
        Panel(
            type="timeseries",
            title="How long a refresh takes",
            description=(
                "How long does a refresh of this hypervisor take, by exporter? From "
                "hypervisor_refresh_duration_seconds."
            ),
            queries=[
                Query(
                    expr=of_target("hypervisor_refresh_duration_seconds"),
                    legend="{{instance}} {{target}}",
                    over_time=True,
                )
            ],
            width=6,
            height=7,
            unit="s",
            defaults={"min": 0, "custom": line_style(), "noValue": NO_RULES},
            options=legend(),
        ),
        Panel(
            type="timeseries",
            title="What a refresh reads",
            description=(
                "How many calls to libvirt does a refresh make, and how many guests' XML does it read? "
                "The number of calls does not depend on the number of guests. From "
                "hypervisor_refresh_libvirt_calls, hypervisor_refresh_guests_read and "
                "hypervisor_refreshes_in_flight."
            ),
            queries=[
                Query(
                    expr=f"max({of_target('hypervisor_refresh_libvirt_calls')})",
                    legend="libvirt calls",
                    over_time=True,
                ),
                Query(
                    expr=f"max({of_target('hypervisor_refresh_guests_read')})",
                    legend="guests read",
                    over_time=True,
                ),
                Query(
                    expr=f"max({of_target('hypervisor_refreshes_in_flight')})",
                    legend="in flight",
                    over_time=True,
                ),
            ],
            width=6,
            height=7,
            unit="locale",
            defaults={"min": 0, "custom": line_style(), "noValue": NO_RULES},
            overrides=[
                Override(name="libvirt calls", properties={"color": fixed(BLUE)}),
                Override(name="guests read", properties={"color": fixed(ORANGE)}),
                Override(name="in flight", properties={"color": fixed(GREY)}),
            ],
            options=legend(),
        ),
        Panel(
            type="timeseries",
            title="Events, connections and cache hits per second",
            description=(
                "Do libvirt's events arrive, is the connection stable, and do scrapes share a refresh? "
                "From hypervisor_events_total, hypervisor_connects_total and hypervisor_cache_hits_total."
            ),
            queries=[
                Query(expr=rate("hypervisor_events_total"), legend="events", over_time=True),
                Query(expr=rate("hypervisor_connects_total"), legend="connections", over_time=True),
                Query(expr=rate("hypervisor_cache_hits_total"), legend="cache hits", over_time=True),
            ],
            width=6,
            height=7,
            unit="cps",
            defaults={"min": 0, "custom": line_style(), "noValue": NO_RULES},
            overrides=[
                Override(name="events", properties={"color": fixed(BLUE)}),
                Override(name="connections", properties={"color": fixed(ORANGE)}),
                Override(name="cache hits", properties={"color": fixed(GREEN)}),
            ],
            options=legend(),
        ),
        Panel(
            type="timeseries",
            title="Errors in 10 minutes, by reason",
            description=(
                "Why did refreshes of this hypervisor fail? Empty if none failed. The runbook of "
                "HypervisorRefreshErrors has a line for each reason. From "
                "target:refresh_errors:increase10m."
            ),
            queries=[
                Query(
                    expr=f"sum by (reason) (target:refresh_errors:increase10m{{{EXPORTERS}}} {_OF_TARGET})",
                    legend="{{reason}}",
                    over_time=True,
                )
            ],
            width=6,
            height=7,
            unit="locale",
            defaults={
                "min": 0,
                "decimals": 0,
                "custom": bar_style(),
                "noValue": "no errors",
            },
            options=legend(),
        ),
    ]

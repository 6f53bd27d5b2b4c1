"""The third board: the guests of one hypervisor. It needs the exporter's collector `guests`."""

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
from grafana.guest import TABLE_OPTIONS, selected_guest
from grafana.overcommit import WAIT_THRESHOLDS
from grafana.panels import (
    BAD,
    BLUE,
    GOOD,
    GREEN,
    NEUTRAL,
    ORANGE,
    PINK,
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
    stat_options,
    thresholds,
    value_words,
)
from grafana.queries import EXPORTERS, ONE

GUESTS_UID = "hypervisor-guests"
VERSION = 1

NO_GUESTS = "no guests are known: the exporter needs --collector.guests"
_SHOWN = f'guest:info{{{ONE},project_name=~"$project"}}'
# A guest that hardly runs, or a disk that is hardly used, says little by its mean.
WAITING = f"guest:cpu_delay:ratio5m{{{ONE}}} and guest:cpu_delay:rate5m{{{ONE}}} > 0.1"
SLOW = f"guest:disk_latency:seconds5m{{{ONE}}} and guest:disk_ops:rate5m{{{ONE}}} > 1"
# From 10 % of the time on GuestWaitsForCpu fires.
DELAY_THRESHOLDS = thresholds((0.05, WARNING), (0.1, BAD))
BAR_CELL: Json = {
    "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
    "unit": "percentunit",
    "decimals": 0,
    "min": 0,
    "max": 1,
    "color": {"mode": "thresholds"},
    "mappings": [{"type": "special", "options": {"match": "null+nan", "result": {"text": "-", "index": 0}}}],
}


def make() -> Json:
    """Return the dashboard."""
    return board(
        uid=GUESTS_UID,
        version=VERSION,
        title="Hypervisors: guests",
        description=(
            "The guests of one hypervisor: who uses most, who waits, and everything about one of them."
        ),
        variables=[
            DATASOURCE_VARIABLE,
            query_variable(
                "hypervisor",
                "Hypervisor",
                "label_values(guest:info, hypervisor_hostname)",
                description="The hypervisor whose guests are shown.",
                multi=False,
            ),
            query_variable(
                "project",
                "Project",
                f"label_values(guest:info{{{ONE}}}, project_name)",
                description="The projects whose guests are shown.",
                all_value=".*",
            ),
            query_variable(
                "guest",
                "Guest",
                f"label_values({_SHOWN}, domain)",
                description=(
                    "The guest that is shown by itself, by libvirt's name. A click on a guest selects it."
                ),
                multi=False,
            ),
            JOB_VARIABLE,
            INSTANCE_VARIABLE,
            constant_variable("runbooks", RUNBOOKS),
        ],
        annotations=[
            annotation(
                "Alert fired",
                f'count by (alertname, domain) (ALERTS{{alertname=~".*Guest.+",alertstate="firing",{ONE}}})',
                color=BAD,
                title="{{alertname}}",
                text="{{domain}}",
            )
        ],
        sections=[
            Section(title=None, lines=[_facts(), _of_cpu_and_memory(), _of_disks_and_network()]),
            Section(title="All guests", lines=[[_table()], _of_events_and_answers()]),
            Section(title="The selected guest: $guest", lines=selected_guest()),
        ],
    )


def guest_link(hypervisor: str, guest: str | None = None) -> str:
    """Return the address of this board for a hypervisor, and for one of its guests.

    :param hypervisor: its name, as Grafana finds it: `${__data.fields.Hypervisor}`
    :param guest: likewise libvirt's name of the guest
    """
    selected = "" if guest is None else f"&var-guest={guest}"
    return (
        f"/d/{GUESTS_UID}?${{datasource:queryparam}}&var-hypervisor={hypervisor}{selected}"
        "&${__url_time_range}"
    )


def named(expr: str) -> str:
    """Return a query of the guests that are shown, with the label `name`: the instance's, or the domain's."""
    who = f"topk by (domain) (1, group by (domain, instance_name) ({_SHOWN}))"
    joined = f"max by (domain) ({expr}) * on (domain) group_left (instance_name) {who}"
    name = f'label_replace({joined}, "name", "$1", "domain", "(.+)")'
    return f'label_replace({name}, "name", "$1", "instance_name", "(.+)")'


def _facts() -> list[Panel]:
    def fact(title: str, description: str, expr: str, width: int, **defaults: object) -> Panel:
        unit = str(defaults.pop("unit", "locale"))
        return Panel(
            type="stat",
            title=title,
            description=description,
            queries=[Query(expr=expr)],
            width=width,
            height=3,
            unit=unit,
            defaults={"color": {"mode": "thresholds"}, "noValue": "-", **defaults},
            options=stat_options(text_mode="auto", value_size=26),
        )

    def raw(name: str) -> str:
        return f"max({name}{{{EXPORTERS},{ONE}}})"

    plain = thresholds(below=NEUTRAL)
    trouble = thresholds((1, BAD), below=NEUTRAL)
    return [
        fact(
            "Guests",
            "How many guests of the hypervisor and of the chosen projects are shown? From guest:info.",
            f"count(group by (domain) ({_SHOWN}))",
            3,
            thresholds=plain,
            noValue="needs --collector.guests",
        ),
        fact(
            "Do not answer",
            "How many guests does QEMU say nothing of? From hypervisor_guests_unresponsive.",
            raw("hypervisor_guests_unresponsive"),
            3,
            thresholds=trouble,
        ),
        fact(
            "Left out",
            "How many guests does the exporter not show, by its options? From hypervisor_guests_omitted.",
            raw("hypervisor_guests_omitted"),
            3,
            thresholds=plain,
        ),
        fact(
            "Statistics",
            "Are statistics read, or do too many guests hang? From hypervisor_guest_stats_suspended.",
            raw("hypervisor_guest_stats_suspended"),
            3,
            unit="string",
            thresholds=thresholds((0, GOOD), (1, BAD)),
            mappings=value_words({"0": ("goes on", GOOD), "1": ("SUSPENDED", BAD)}),
        ),
        fact(
            "Guests wait for a CPU",
            "Which share of the time do guests wait for a CPU? From hypervisor:guests_waiting:ratio5m.",
            f'max(hypervisor:guests_waiting:ratio5m{{resource="cpu",{ONE}}})',
            4,
            unit="percentunit",
            decimals=1,
            thresholds=WAIT_THRESHOLDS,
        ),
        fact(
            "CPUs used by guests",
            "Which share of the CPUs do all guests use? From hypervisor:guests_cpu:used_ratio.",
            f"max(hypervisor:guests_cpu:used_ratio{{{ONE}}})",
            4,
            unit="percentunit",
            decimals=0,
            thresholds=plain,
        ),
        fact(
            "vCPUs per CPU",
            "How many vCPUs are promised for each CPU? From hypervisor:resource:overcommit_ratio.",
            f'max(hypervisor:resource:overcommit_ratio{{resource_class="VCPU",{ONE}}})',
            4,
            unit="none",
            decimals=1,
            thresholds=plain,
        ),
    ]


def _top(title: str, description: str, expr: str, **defaults: object) -> Panel:
    """Return the bars of ten guests, the largest first."""
    unit = str(defaults.pop("unit"))
    return Panel(
        type="bargauge",
        title=title,
        description=description,
        queries=[Query(expr=f"sort_desc(topk(10, {named(expr)}))", legend="{{name}}")],
        width=8,
        height=9,
        unit=unit,
        defaults={
            "min": 0,
            "color": fixed(BLUE),
            "displayName": "${__field.labels.name}",
            "noValue": NO_GUESTS,
            "links": [
                {
                    "title": "Select this guest",
                    "url": guest_link("$hypervisor", "${__field.labels.domain}"),
                    "targetBlank": False,
                }
            ],
            **defaults,
        },
        options=bar_options(max_height=32),
    )


def _of_cpu_and_memory() -> list[Panel]:
    return [
        _top(
            "CPU: the ten that use most",
            "Which guests use most CPUs? From guest:cpu:rate5m.",
            f"guest:cpu:rate5m{{{ONE}}}",
            unit="none",
            decimals=1,
        ),
        _top(
            "Waiting for a CPU: the ten that wait most",
            "Which guests wait for a CPU, as a share of the time in which they want to run? The guest sees "
            "it as steal. Those that hardly run are left out. From guest:cpu_delay:ratio5m and "
            "guest:cpu_delay:rate5m.",
            WAITING,
            unit="percentunit",
            decimals=1,
            max=0.5,
            color={"mode": "thresholds"},
            thresholds=DELAY_THRESHOLDS,
            noValue="no guest waits, or the exporter needs --collector.guests",
        ),
        _top(
            "Memory: the ten that use most",
            "Which guests use most memory? By their own account, else what is resident. From "
            "guest:memory:used_bytes.",
            f"guest:memory:used_bytes{{{ONE}}}",
            unit="bytes",
            color=fixed(PINK),
        ),
    ]


def _of_disks_and_network() -> list[Panel]:
    return [
        _top(
            "IOPS: the ten that make most requests",
            "Which guests make most requests to their disks, reads and writes of all disks? From "
            "guest:disk_ops:rate5m.",
            f"sum without (device) (guest:disk_ops:rate5m{{{ONE}}})",
            unit="iops",
            decimals=0,
            color=fixed(ORANGE),
        ),
        _top(
            "Disk latency: the ten slowest",
            "Whose disks are slow? Mean time of a request to the guest's slowest disk that is in use. From "
            "50 ms on an alert fires. From guest:disk_latency:seconds5m and guest:disk_ops:rate5m.",
            SLOW,
            unit="s",
            color={"mode": "thresholds"},
            thresholds=thresholds((0.02, WARNING), (0.05, BAD)),
            noValue="no disk is in use, or the exporter needs --collector.guests",
        ),
        _top(
            "Traffic: the ten that send and receive most",
            "Which guests use the network most, in both directions? From guest:network_bytes:rate5m.",
            f"guest:network_bytes:rate5m{{{ONE}}}",
            unit="binBps",
            color=fixed(GREEN),
        ),
    ]


def _of_events_and_answers() -> list[Panel]:
    def within(share: float) -> str:
        buckets = f"hypervisor_guest_stats_duration_seconds_bucket{{{EXPORTERS},{ONE}}}"
        return f"histogram_quantile({share}, sum by (le) (rate({buckets}[$__rate_interval])))"

    return [
        Panel(
            type="timeseries",
            title="What happened to guests, in 10 minutes",
            description=(
                "Did guests come or go by a migration, did a disk have an I/O error, did a watchdog expire, "
                "did a guest panic? From hypervisor:guest_events:increase10m."
            ),
            queries=[
                Query(
                    expr=f"max by (event) (hypervisor:guest_events:increase10m{{{ONE}}}) > 0",
                    legend="{{event}}",
                    over_time=True,
                )
            ],
            width=12,
            height=7,
            unit="locale",
            defaults={
                "min": 0,
                "decimals": 0,
                "custom": bar_style(),
                "noValue": "nothing",
            },
            overrides=[
                Override(name="/^migrated_/", properties={"color": fixed(BLUE)}),
                Override(name="io_error", properties={"color": fixed(BAD)}),
                Override(name="panic", properties={"color": fixed(BAD)}),
                Override(name="watchdog", properties={"color": fixed(WARNING)}),
            ],
            options=legend(),
        ),
        Panel(
            type="timeseries",
            title="How quickly guests tell their statistics",
            description=(
                "How long does QEMU take to answer, between scrapes? Slow answers come before none. No "
                "scrape waits for them. From hypervisor_guest_stats_duration_seconds."
            ),
            queries=[
                Query(expr=within(0.5), legend="half of them within", over_time=True),
                Query(expr=within(0.99), legend="99 % of them within", over_time=True),
            ],
            width=12,
            height=7,
            unit="s",
            defaults={"min": 0, "custom": line_style(), "noValue": NO_GUESTS},
            overrides=[
                Override(name="half of them within", properties={"color": fixed(BLUE)}),
                Override(name="99 % of them within", properties={"color": fixed(ORANGE)}),
            ],
            options=legend(),
        ),
    ]


def _table() -> Panel:
    def each(name: str) -> str:
        return f"max by (domain) ({name}{{{ONE}}})"

    of_all = f"max(hypervisor:guests_cpu:rate5m{{{ONE}}})"
    labels = ("domain", "instance_name", "project_name", "flavor")
    columns = {
        "vCPUs": each("guest:vcpus:max"),
        "CPUs": each("guest:cpu:rate5m"),
        "of its vCPUs": f"{each('guest:cpu:rate5m')} / ({each('guest:vcpus:max')} > 0)",
        "waits": f"max by (domain) ({WAITING})",
        "of the host": f"{each('guest:cpu:rate5m')} / on () group_left () ({of_all} > 0)",
        "memory": each("guest:memory_size_bytes:max"),
        "used": f"{each('guest:memory:used_bytes')} / ({each('guest:memory_size_bytes:max')} > 0)",
        "IOPS": f"sum by (domain) (guest:disk_ops:rate5m{{{ONE}}})",
        "latency": f"max by (domain) ({SLOW})",
        "traffic": each("guest:network_bytes:rate5m"),
    }
    state = f"topk by (domain) (1, group by (domain, state) (guest:state:info{{{ONE}}}))"
    queries = [
        f"topk by (domain) (1, group by ({', '.join(labels)}) ({_SHOWN}))",
        state,
        *columns.values(),
    ]
    values = {f"Value #{chr(ord('C') + number)}": name for number, name in enumerate(columns)}
    shown = {
        "instance_name": "Name",
        "domain": "Guest",
        "project_name": "project",
        "flavor": "flavor",
        "state": "state",
        **values,
    }
    return Panel(
        type="table",
        title="Guests: what was given, what is used, what waits",
        description=(
            "What does each guest use of what it was given, and which share of the hypervisor's guests' CPU "
            "is it? Waits is the share of the time in which it wants to run that it waits for a CPU. Used is "
            "the share of its memory, latency that of its slowest disk. Where a guest hardly runs, or hardly "
            "uses its disks, they are not shown. From guest:info, guest:state:info, guest:vcpus:max, "
            "guest:cpu:rate5m, guest:cpu_delay:ratio5m, guest:cpu_delay:rate5m, "
            "hypervisor:guests_cpu:rate5m, guest:memory_size_bytes:max, guest:memory:used_bytes, "
            "guest:disk_ops:rate5m, guest:disk_latency:seconds5m and guest:network_bytes:rate5m."
        ),
        queries=[Query(expr=expr, as_table=True) for expr in queries],
        width=24,
        height=12,
        unit="string",
        defaults={
            "custom": {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}},
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(below=NEUTRAL),
            "noValue": "",
        },
        overrides=[
            Override(
                name="/^(Name|Guest)$/",
                properties={
                    "custom.filterable": True,
                    "links": [
                        {
                            "title": "Select this guest",
                            "url": guest_link("$hypervisor", "${__data.fields.Guest}"),
                            "targetBlank": False,
                        }
                    ],
                },
            ),
            Override(name="/^(project|flavor)$/", properties={"custom.filterable": True, "custom.width": 95}),
            Override(
                name="state",
                properties={
                    "custom.width": 85,
                    "custom.filterable": True,
                    "custom.cellOptions": {"type": "color-text"},
                    "mappings": value_words({"paused": ("paused", BAD), "crashed": ("crashed", BAD)}),
                },
            ),
            Override(name="vCPUs", properties={"unit": "locale", "custom.width": 65}),
            Override(name="CPUs", properties={"unit": "none", "decimals": 1, "custom.width": 70}),
            Override(
                name="/^of (its vCPUs|the host)$|^used$/",
                properties={**BAR_CELL, "custom.width": 100, "thresholds": thresholds(below=BLUE)},
            ),
            Override(
                name="waits",
                properties={
                    **BAR_CELL,
                    "custom.width": 100,
                    "max": 0.5,
                    "thresholds": DELAY_THRESHOLDS,
                },
            ),
            Override(name="memory", properties={"unit": "bytes", "custom.width": 80}),
            Override(name="IOPS", properties={"unit": "locale", "decimals": 0, "custom.width": 65}),
            Override(
                name="latency",
                properties={
                    "unit": "s",
                    "decimals": 1,
                    "custom.width": 80,
                    "custom.cellOptions": {"type": "color-text"},
                    "thresholds": thresholds((0.02, WARNING), (0.05, BAD), below=NEUTRAL),
                },
            ),
            Override(name="traffic", properties={"unit": "binBps", "decimals": 0, "custom.width": 100}),
        ],
        options={**TABLE_OPTIONS, "sortBy": [{"displayName": "CPUs", "desc": True}]},
        transformations=[
            {"id": "joinByField", "options": {"byField": "domain", "mode": "outer"}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {
                        **dict.fromkeys(("Time", "Value #A", "Value #B"), True),
                        **{f"Time {number}": True for number in range(1, len(queries) + 1)},
                    },
                    "includeByName": {},
                    "indexByName": {name: index for index, name in enumerate(shown)},
                    "renameByName": shown,
                },
            },
        ],
    )

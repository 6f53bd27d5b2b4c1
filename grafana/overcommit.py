"""The price of over-commit: what was promised of the CPUs, what guests use, and how long they wait."""

from __future__ import annotations

from grafana.panels import (
    BAD,
    BLUE,
    GOOD,
    GREEN,
    GREY,
    NEUTRAL,
    ORANGE,
    PINK,
    WARNING,
    Json,
    Override,
    Panel,
    Query,
    fixed,
    legend,
    line_style,
    stat_options,
    thresholds,
    value_words,
)
from grafana.queries import CLUSTER, HYPERVISORS, ONE, ONE_OF_EXPORTERS

NO_PRESSURE = "not known: needs the guests' cgroup, and a kernel with pressure (psi=1)"
# From 5 % on it is worth a look. From 10 % on HypervisorGuestsWaitForCpu fires.
WAIT_THRESHOLDS = thresholds((0.05, WARNING), (0.1, BAD))
_WORDS = {"1": ("may rise", GOOD), "0": ("keep", NEUTRAL), "-1": ("TOO HIGH", BAD)}
_WAITING = "hypervisor:guests_waiting:ratio5m"

# For a hidden variable: a graph of all hypervisors would be unreadable.
LONGEST_WAITING = f'query_result(topk(10, {_WAITING}{{resource="cpu",{HYPERVISORS}}}))'


def price_of_overcommit(detail_link: str) -> list[Panel]:
    """Return the line of the overview."""
    return [_verdicts(), _waiting_over_time(), _table(detail_link)]


def _verdicts() -> Panel:
    return Panel(
        type="stat",
        title="CPU ratio: on how many",
        description=(
            "On how many hypervisors should the CPU allocation ratio change? Too high: guests waited for a "
            "CPU more than 10 % of the time in the last 6 hours. May rise: at least 75 % of the capacity is "
            "claimed, guests use less than half of the CPUs, and they wait less than 1 % of the time. The "
            "busiest twentieth of the time does not count. From hypervisor:cpu_ratio:verdict."
        ),
        queries=[
            Query(expr=f"count(hypervisor:cpu_ratio:verdict{{{HYPERVISORS}}} == {value})", legend=text)
            for value, (text, _) in sorted(_WORDS.items())
        ],
        width=4,
        height=9,
        unit="locale",
        defaults={"color": fixed(NEUTRAL), "noValue": "not known before 6 h"},
        overrides=[
            Override(name=text, properties={"color": fixed(color)})
            for text, color in _WORDS.values()
            if color != NEUTRAL
        ],
        options=stat_options(orientation="horizontal", value_size=26, title_size=15),
    )


def _waiting_over_time() -> Panel:
    expr = f'{_WAITING}{{resource="cpu",{CLUSTER},hypervisor_hostname=~"$waiting"}}'
    return Panel(
        type="timeseries",
        title="Guests wait for a CPU, the ten that wait longest",
        description=(
            "Where does over-commit hurt? Share of the time in which guests wait for a CPU, all guests of a "
            "hypervisor together, on the ten hypervisors where they wait longest at the end of the time "
            f"range. From 10 % on an alert fires. From {_WAITING}."
        ),
        queries=[
            Query(
                expr=f"max by (hypervisor_hostname) ({expr})",
                legend="{{hypervisor_hostname}}",
                over_time=True,
            )
        ],
        width=8,
        height=9,
        unit="percentunit",
        defaults={"min": 0, "custom": line_style(lineWidth=1), "noValue": NO_PRESSURE},
        options=legend("lastNotNull", placement="right"),
    )


def _table(detail_link: str) -> Panel:
    def by_host(selector: str) -> str:
        return f"max by (hypervisor_hostname) ({selector})"

    vcpu = f'resource_class="VCPU",{HYPERVISORS}'
    columns = [
        (by_host(f'{_WAITING}{{resource="cpu",{HYPERVISORS}}}'), "guests wait"),
        (by_host(f"hypervisor:guests_cpu:used_ratio{{{HYPERVISORS}}}"), "CPUs used"),
        (by_host(f"hypervisor:resource:overcommit_ratio{{{vcpu}}}"), "promised"),
        (
            by_host(f"hypervisor:resource:capacity{{{vcpu}}} / (hypervisor:resource:physical{{{vcpu}}} > 0)"),
            "allowed",
        ),
        (by_host(f"hypervisor:cpu_ratio:verdict{{{HYPERVISORS}}}"), "the ratio"),
    ]
    bars: Json = {
        "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "unit": "percentunit",
        "decimals": 0,
        "min": 0,
        "max": 1,
        "color": {"mode": "thresholds"},
        "custom.width": 130,
        "mappings": [
            {"type": "special", "options": {"match": "null+nan", "result": {"text": "-", "index": 0}}}
        ],
    }
    return Panel(
        type="table",
        title="What is promised of the CPUs, and what it costs",
        description=(
            "How many vCPUs are promised for each CPU, how much of the CPUs do guests use, and how long do "
            "they wait? Allowed is the ratio up to which the scheduler places guests, the reserve included. "
            "The last column is what the last 6 hours say about the ratio. From "
            "hypervisor:resource:overcommit_ratio, capacity and physical, hypervisor:guests_cpu:used_ratio, "
            f"{_WAITING} and hypervisor:cpu_ratio:verdict."
        ),
        queries=[Query(expr=expr, as_table=True) for expr, _ in columns],
        width=12,
        height=9,
        unit="none",
        defaults={
            "decimals": 1,
            "custom": {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}},
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(below=NEUTRAL),
            "noValue": "",
        },
        overrides=[
            Override(
                name="Hypervisor",
                properties={
                    "custom.filterable": True,
                    "links": [{"title": "Everything about it", "url": detail_link, "targetBlank": False}],
                },
            ),
            Override(
                name="guests wait",
                properties={**bars, "decimals": 1, "max": 0.3, "thresholds": WAIT_THRESHOLDS},
            ),
            Override(name="CPUs used", properties={**bars, "thresholds": thresholds(below=BLUE)}),
            Override(name="/^(promised|allowed)$/", properties={"custom.width": 90}),
            Override(
                name="the ratio",
                properties={
                    "custom.width": 100,
                    "custom.filterable": True,
                    "custom.align": "center",
                    "custom.cellOptions": {"type": "color-text"},
                    "mappings": value_words(_WORDS),
                },
            ),
        ],
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": "guests wait", "desc": True}],
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        },
        transformations=[
            {"id": "joinByField", "options": {"byField": "hypervisor_hostname", "mode": "outer"}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {
                        "Time": True,
                        **{f"Time {n}": True for n in range(1, len(columns) + 1)},
                    },
                    "includeByName": {},
                    "indexByName": {
                        name: index
                        for index, name in enumerate(
                            ["hypervisor_hostname", *(f"Value #{chr(65 + n)}" for n in range(len(columns)))]
                        )
                    },
                    "renameByName": {
                        "hypervisor_hostname": "Hypervisor",
                        **{f"Value #{chr(65 + n)}": name for n, (_, name) in enumerate(columns)},
                    },
                },
            },
        ],
    )


def price_of_one() -> list[Panel]:
    """Return the line of the board of one hypervisor."""
    vcpu = f'resource_class="VCPU",{ONE}'
    return [
        Panel(
            type="stat",
            title="Promised, allowed, used",
            description=(
                "How many vCPUs are promised for each CPU, up to which ratio may they be, and how much of "
                "it do guests use? Used of the CPUs: of those for guests, shared and dedicated. From "
                "hypervisor:resource:overcommit_ratio, capacity and physical, "
                "hypervisor:guests_cpu:used_ratio and hypervisor:guests_cpu:used_of_claimed_ratio."
            ),
            queries=[
                Query(expr=f"max(hypervisor:resource:overcommit_ratio{{{vcpu}}})", legend="vCPUs per CPU"),
                Query(
                    expr=(
                        f"max(hypervisor:resource:capacity{{{vcpu}}}"
                        f" / (hypervisor:resource:physical{{{vcpu}}} > 0))"
                    ),
                    legend="allowed",
                ),
                Query(expr=f"max(hypervisor:guests_cpu:used_ratio{{{ONE}}})", legend="used of the CPUs"),
                Query(
                    expr=f"max(hypervisor:guests_cpu:used_of_claimed_ratio{{{ONE}}})",
                    legend="used of what is promised",
                ),
            ],
            width=4,
            height=8,
            unit="none",
            defaults={"decimals": 1, "color": fixed(NEUTRAL), "noValue": "-"},
            overrides=[Override(name="/^used/", properties={"unit": "percentunit", "decimals": 0})],
            options=stat_options(orientation="horizontal", value_size=22),
        ),
        Panel(
            type="stat",
            title="The CPU ratio",
            description=(
                "What do the last 6 hours say about the CPU allocation ratio? Too high: guests waited for a "
                "CPU more than 10 % of the time. May rise: at least 75 % of the capacity is claimed, guests "
                "use less than half of the CPUs, and wait less than 1 % of the time. From "
                "hypervisor:cpu_ratio:verdict."
            ),
            queries=[Query(expr=f"max(hypervisor:cpu_ratio:verdict{{{ONE}}})")],
            width=3,
            height=8,
            unit="string",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((0, NEUTRAL), (1, GOOD), below=BAD),
                "mappings": value_words(_WORDS),
                "noValue": "not known before 6 h",
            },
            options=stat_options(text_mode="auto", value_size=24),
        ),
        Panel(
            type="timeseries",
            title="Guests wait: share of the time",
            description=(
                "Do guests wait for a CPU, for storage or for memory? The kernel's pressure of all guests "
                "together. Stalled: none of those on a CPU could run. From 10 % for a CPU on an alert "
                f"fires. From {_WAITING} and hypervisor:guests_stalled:ratio5m."
            ),
            queries=[
                *(
                    Query(expr=f'max({_WAITING}{{resource="{resource}",{ONE}}})', legend=text, over_time=True)
                    for resource, text in (
                        ("cpu", "for a CPU"),
                        ("io", "for storage"),
                        ("memory", "for memory"),
                    )
                ),
                Query(
                    expr=f'max(hypervisor:guests_stalled:ratio5m{{resource="memory",{ONE}}})',
                    legend="stalled by memory",
                    over_time=True,
                ),
            ],
            width=8,
            height=8,
            unit="percentunit",
            defaults={"min": 0, "custom": line_style(), "noValue": NO_PRESSURE},
            overrides=[
                Override(name="for a CPU", properties={"color": fixed(BLUE), "custom.fillOpacity": 25}),
                Override(name="for storage", properties={"color": fixed(ORANGE)}),
                Override(name="for memory", properties={"color": fixed(GREEN)}),
                Override(name="stalled by memory", properties={"color": fixed(PINK)}),
            ],
            options=legend("lastNotNull", "max"),
        ),
        Panel(
            type="timeseries",
            title="CPUs in use, by the guests and in all",
            description=(
                "How many CPUs are busy, and how many of them with guests? What is above the guests is the "
                "host's own: the kernel, agents, storage. From hypervisor_cpu_seconds_total and "
                "hypervisor_guests_cpu_seconds_total."
            ),
            queries=[
                Query(
                    expr=(
                        "sum(max by (mode) (rate(hypervisor_cpu_seconds_total"
                        f'{{mode!~"idle|iowait",{ONE_OF_EXPORTERS}}}[$__rate_interval])))'
                    ),
                    legend="busy",
                    over_time=True,
                ),
                Query(
                    expr=(
                        "max(rate(hypervisor_guests_cpu_seconds_total"
                        f"{{{ONE_OF_EXPORTERS}}}[$__rate_interval]))"
                    ),
                    legend="guests",
                    over_time=True,
                ),
                Query(
                    expr=(
                        "sum(max by (mode) (rate(hypervisor_cpu_seconds_total"
                        f"{{{ONE_OF_EXPORTERS}}}[$__rate_interval])))"
                    ),
                    legend="CPUs",
                    over_time=True,
                ),
            ],
            width=9,
            height=8,
            unit="none",
            defaults={"min": 0, "decimals": 1, "custom": line_style(), "noValue": "not known"},
            overrides=[
                Override(name="busy", properties={"color": fixed(ORANGE)}),
                Override(name="guests", properties={"color": fixed(BLUE), "custom.fillOpacity": 25}),
                Override(
                    name="CPUs",
                    properties={"color": fixed(GREY), "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}},
                ),
            ],
            options=legend("lastNotNull", "max"),
        ),
    ]

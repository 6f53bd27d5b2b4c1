"""Storage that hypervisors share: each once, and who shares it. For both boards."""

from __future__ import annotations

from grafana.panels import (
    BAD,
    BLUE,
    NEUTRAL,
    SHARE_THRESHOLDS,
    WARNING,
    Json,
    Override,
    Panel,
    Query,
    fixed,
    stat_options,
    thresholds,
)
from grafana.queries import CLUSTER, HYPERVISORS, ONE

_TABLE: Json = {"align": "auto", "filterable": False, "cellOptions": {"type": "auto"}}
_BARS: Json = {
    "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
    "unit": "percentunit",
    "decimals": 0,
    "min": 0,
    "max": 1,
    "color": {"mode": "thresholds"},
    "thresholds": SHARE_THRESHOLDS,
    "custom.width": 160,
}
_NOT_SHARED = "no storage is shared"


def storages_table() -> Panel:
    """Return the table with one line for each shared storage."""
    columns = [
        (f"max by (storage) (storage:hypervisors:count{{{CLUSTER}}})", "hypervisors"),
        (f"max by (storage) (storage:resource:used_ratio{{{CLUSTER}}})", "used %"),
        (f"max by (storage) (storage:resource:physical{{{CLUSTER}}})", "physical"),
        (f"max by (storage) (storage:resource:claimed_ratio{{{CLUSTER}}})", "claimed %"),
        (f"max by (storage) (storage:resource:capacity{{{CLUSTER}}})", "capacity"),
        (f"min by (storage) (storage:resource:placeable{{{CLUSTER}}})", "left"),
        (f"min by (storage) (storage:disk_available_least:min{{{CLUSTER}}})", "disk at least"),
        (f"min by (storage) (storage:resource:seconds_until_full{{{CLUSTER}}}) / 86400", "days until full"),
    ]
    return Panel(
        type="table",
        title="Storage that hypervisors share, the fullest first",
        description=(
            "Which storage do several hypervisors share, how full is it, and how much is left? Claimed is "
            "what the guests of all of them were promised. Left is capacity - claimed; below 0, more is "
            "promised than allowed. Disk at least is what is left if the images of all of them grow to "
            "their full size. Nova knows neither: it counts the guests of one hypervisor at a time. From "
            "storage:hypervisors:count, storage:resource:used_ratio, physical, claimed_ratio, capacity, "
            "placeable and seconds_until_full, and storage:disk_available_least:min."
        ),
        queries=[Query(expr=expr, as_table=True) for expr, _ in columns],
        width=24,
        height=6,
        unit="locale",
        defaults={
            "custom": _TABLE,
            "color": {"mode": "thresholds"},
            "thresholds": thresholds(below=NEUTRAL),
            "noValue": _NOT_SHARED,
        },
        overrides=[
            Override(name="Storage", properties={"custom.filterable": True, "custom.minWidth": 220}),
            Override(name="hypervisors", properties={"custom.width": 110}),
            Override(name="/ %$/", properties=_BARS),
            Override(name="/^(physical|capacity)$/", properties={"unit": "gbytes", "custom.width": 110}),
            Override(
                name="/^(left|disk at least)$/",
                properties={
                    "unit": "gbytes",
                    "custom.width": 120,
                    "custom.cellOptions": {"type": "color-text"},
                    "thresholds": thresholds((0, NEUTRAL), below=BAD),
                },
            ),
            Override(
                name="days until full",
                properties={
                    "decimals": 1,
                    "custom.width": 120,
                    "custom.cellOptions": {"type": "color-text"},
                    "thresholds": thresholds((4, WARNING), (30, NEUTRAL), below=BAD),
                },
            ),
        ],
        options=_table_options("used %"),
        transformations=_one_line_each(["storage"], [name for _, name in columns], {"storage": "Storage"}),
    )


def sharers_table() -> Panel:
    """Return the table of the hypervisors that share a storage, with what each takes of it."""
    growth = "hypervisor:storage:shared_overcommitted_bytes"
    columns = [
        (f"max by (storage, hypervisor_hostname) (hypervisor:resource:shared{{{HYPERVISORS}}})", "shared"),
        (
            f"max by (storage, hypervisor_hostname) (hypervisor:resource:shared_claimed{{{HYPERVISORS}}})",
            "claimed",
        ),
        (
            f"max by (storage, hypervisor_hostname) ({growth}{{{HYPERVISORS}}}) / 1024 / 1024 / 1024",
            "can still grow",
        ),
    ]
    return Panel(
        type="table",
        title="Who shares it",
        description=(
            "Which hypervisors share which storage, and how much do the guests of each claim there? How "
            "much can their images still grow? For one that does not answer, the last values are shown. "
            "From hypervisor:resource:shared, hypervisor:resource:shared_claimed and "
            "hypervisor:storage:shared_overcommitted_bytes."
        ),
        queries=[Query(expr=expr, as_table=True) for expr, _ in columns],
        width=24,
        height=7,
        unit="gbytes",
        defaults={"custom": _TABLE, "noValue": _NOT_SHARED},
        overrides=[
            Override(name="/^(Storage|Hypervisor)$/", properties={"custom.filterable": True}),
            Override(name="/^(claimed|can still grow)$/", properties={"custom.width": 160}),
        ],
        options=_table_options("claimed"),
        transformations=_one_line_each(
            ["storage", "hypervisor_hostname"],
            [name for _, name in columns],
            {"storage": "Storage", "hypervisor_hostname": "Hypervisor"},
            hidden=("Value #A",),
        ),
    )


def shared_with() -> list[Panel]:
    """Return the panels of one hypervisor: with how many others it shares its storage, and what is left."""
    of_its_storage = f"and on (storage) hypervisor:resource:shared{{{ONE}}}"
    return [
        Panel(
            type="stat",
            title="Other hypervisors on the same storage",
            description=(
                "Is its storage shared, and with how many other hypervisors? The name is that of the "
                "storage, as in hypervisor_storage_info. From storage:hypervisors:count and "
                "hypervisor:resource:shared, which a shard does not have."
            ),
            queries=[
                Query(
                    expr=f"max by (storage) (storage:hypervisors:count {of_its_storage}) - 1",
                    legend="{{storage}}",
                )
            ],
            width=10,
            height=4,
            unit="locale",
            defaults={"color": fixed(BLUE), "noValue": "not shared"},
            options=stat_options(orientation="vertical", value_size=30, title_size=14),
        ),
        Panel(
            type="stat",
            title="Shared storage claimed by all",
            description=(
                "Which share of the shared storage's capacity do the guests of all its hypervisors claim? "
                "From storage:resource:claimed_ratio."
            ),
            queries=[Query(expr=f"max(storage:resource:claimed_ratio {of_its_storage})")],
            width=5,
            height=4,
            unit="percentunit",
            defaults={
                "decimals": 0,
                "color": {"mode": "thresholds"},
                "thresholds": SHARE_THRESHOLDS,
                "noValue": "not shared",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Shared storage: at least left",
            description=(
                "How much is left if the images of all its hypervisors grow to their full size? Below 0, "
                "they can fill the storage while guests run. From storage:disk_available_least:min."
            ),
            queries=[Query(expr=f"min(storage:disk_available_least:min {of_its_storage})")],
            width=5,
            height=4,
            unit="gbytes",
            defaults={
                "color": {"mode": "thresholds"},
                "thresholds": thresholds((-1e9, BAD), (0, NEUTRAL), below=NEUTRAL),
                "noValue": "not shared",
            },
            options=stat_options(text_mode="auto", value_size=30),
        ),
        Panel(
            type="stat",
            title="Shared storage: days until full",
            description=(
                "When is the shared storage full, if the growth of the last 6 hours continues? From "
                "storage:resource:seconds_until_full."
            ),
            queries=[Query(expr=f"min(storage:resource:seconds_until_full {of_its_storage}) / 86400")],
            width=4,
            height=4,
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


def _table_options(sorted_by: str) -> Json:
    return {
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": sorted_by, "desc": True}],
        "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
    }


def _one_line_each(
    keys: list[str], columns: list[str], names: dict[str, str], *, hidden: tuple[str, ...] = ()
) -> list[Json]:
    """Return the transformations that join the queries by some labels and name the columns."""
    values = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, **dict.fromkeys(hidden, True)},
                "includeByName": {},
                "indexByName": {name: index for index, name in enumerate([*keys, *values])},
                "renameByName": {**names, **values},
            },
        },
    ]

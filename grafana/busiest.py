"""The overview's row about guests: which are the noisiest of all hypervisors, and which wait for a CPU."""

from __future__ import annotations

from grafana.guest import TABLE, TABLE_OPTIONS
from grafana.guests import BAR_CELL, DELAY_THRESHOLDS, NO_GUESTS, guest_link
from grafana.overcommit import WAIT_THRESHOLDS
from grafana.panels import BLUE, Override, Panel, Query, thresholds
from grafana.queries import HYPERVISORS

_KEYS = ("hypervisor_hostname", "domain")
_BY = ", ".join(_KEYS)
_NAMES = "instance_name, project_name"
_WHO = f"topk by ({_BY}) (1, group by ({_BY}, {_NAMES}) (guest:info{{{HYPERVISORS}}}))"


def busiest_guests() -> list[Panel]:
    """Return the line of the overview."""
    used = f"max by ({_BY}) (guest:cpu:rate5m{{{HYPERVISORS}}})"
    delay = f"max by ({_BY}) (guest:cpu_delay:ratio5m{{{HYPERVISORS}}})"
    waiting = f'hypervisor:guests_waiting:ratio5m{{resource="cpu",{HYPERVISORS}}}'
    of_host = f"max by (hypervisor_hostname) ({waiting}) * on (hypervisor_hostname) group_right ()"
    share = f"max by ({_BY}) (guest:cpu:fair_share_ratio{{{HYPERVISORS}}})"
    return [
        _table(
            "The noisiest guests: the ten that use most CPU",
            "Which guests use most CPU, how many times their share of it is that, and do guests of that "
            "hypervisor wait for a CPU? The share is what all guests of the hypervisor use for each vCPU. "
            "Guests with dedicated CPUs have none and do not count. "
            "From guest:cpu:rate5m, guest:cpu:fair_share_ratio, hypervisor:guests_waiting:ratio5m and "
            "guest:info.",
            f"topk(10, {used})",
            {
                "times its share": share,
                "guests there wait": f"{of_host} group by ({_BY}) ({used})",
            },
            "CPUs used",
        ),
        _table(
            "The ten guests that wait most for a CPU",
            "Which guests wait for a CPU, as a share of the time in which they want to run? They see it as "
            "steal. Those that wait with less than 0.1 vCPU are left out. From guest:cpu_delay:ratio5m, "
            "guest:cpu_delay:rate5m, guest:cpu:rate5m and guest:info.",
            f"topk(10, {delay} and on ({_BY}) guest:cpu_delay:rate5m{{{HYPERVISORS}}} > 0.1)",
            {"CPUs used": used},
            "waits",
        ),
    ]


def _table(title: str, description: str, top: str, more: dict[str, str], first: str) -> Panel:
    """Return a table of ten guests.

    :param top: the query that chooses them
    :param more: further columns, each with its query
    :param first: the column of the query that chooses
    """
    joined = f"({top}) * on ({_BY}) group_left ({_NAMES}) {_WHO}"
    # A guest that is not Nova's has no other name than libvirt's.
    named = f'label_replace({joined}, "name", "$1", "domain", "(.+)")'
    named = f'label_replace({named}, "name", "$1", "instance_name", "(.+)")'
    queries = [named, *(f"{expr} and on ({_BY}) {top}" for expr in more.values())]
    columns = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate([first, *more])}
    shown = {
        "name": "Name",
        "domain": "Guest",
        "project_name": "project",
        "hypervisor_hostname": "Hypervisor",
        **columns,
    }
    link = guest_link("${__data.fields.Hypervisor}", "${__data.fields.Guest}")
    return Panel(
        type="table",
        title=title,
        description=description,
        queries=[Query(expr=expr, as_table=True) for expr in queries],
        width=12,
        height=11,
        unit="string",
        defaults={"custom": TABLE, "noValue": NO_GUESTS},
        overrides=[
            Override(
                name="Name",
                properties={"links": [{"title": "Everything about it", "url": link, "targetBlank": False}]},
            ),
            # The link needs it; the name says enough.
            Override(name="Guest", properties={"custom.hidden": True}),
            Override(name="/^(project|Hypervisor)$/", properties={"custom.width": 110}),
            Override(name="CPUs used", properties={"unit": "none", "decimals": 1, "custom.width": 95}),
            Override(
                name="times its share",
                properties={
                    **BAR_CELL,
                    "unit": "none",
                    "decimals": 1,
                    "max": 5,
                    "custom.width": 120,
                    "thresholds": thresholds(below=BLUE),
                },
            ),
            Override(
                name="guests there wait",
                properties={
                    **BAR_CELL,
                    "decimals": 1,
                    "max": 0.3,
                    "custom.width": 140,
                    "thresholds": WAIT_THRESHOLDS,
                },
            ),
            Override(
                name="waits",
                properties={**BAR_CELL, "max": 0.5, "custom.width": 140, "thresholds": DELAY_THRESHOLDS},
            ),
        ],
        options={**TABLE_OPTIONS, "sortBy": [{"displayName": first, "desc": True}]},
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "instance_name": True},
                    "includeByName": {},
                    "indexByName": {name: index for index, name in enumerate(shown)},
                    "renameByName": shown,
                },
            },
        ],
    )

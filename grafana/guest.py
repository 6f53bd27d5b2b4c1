"""The selected guest: who it is, its state, and its CPU, memory, disks and interfaces over time."""

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
)
from grafana.queries import EXPORTERS, ONE

GUEST = f'{ONE},domain="$guest"'
_OF_EXPORTERS = f"{EXPORTERS},{GUEST}"
TABLE: Json = {"align": "auto", "minWidth": 50, "filterable": False, "cellOptions": {"type": "auto"}}
TABLE_OPTIONS: Json = {
    "showHeader": True,
    "cellHeight": "sm",
    "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
}
_DASHED: Json = {"color": fixed(GREY), "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}}


def selected_guest() -> list[list[Panel]]:
    """Return the lines of the section."""
    return [
        [_identity(), _state(), _age()],
        [_cpu(), _memory(), _pressure()],
        [_disk_requests(), _disk_latency(), _disk_bytes()],
        [_disks()],
        [_traffic(), _drops(), _interfaces()],
    ]


def _one(name: str) -> str:
    """Return a metric of the guest; once, though two exporters may report it."""
    return f"max(hypervisor_guest_{name}{{{_OF_EXPORTERS}}})"


def _rate(name: str, *by: str) -> str:
    kept = f"max by ({', '.join(by)})" if by else "max"
    return f"{kept} (rate(hypervisor_guest_{name}{{{_OF_EXPORTERS}}}[$__rate_interval]))"


def _renamed(names: dict[str, str], *, hidden: tuple[str, ...] = ()) -> list[Json]:
    """Return the transformation that orders and names the columns of a table."""
    return [
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, **dict.fromkeys(hidden, True)},
                "includeByName": {},
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": names,
            },
        }
    ]


def _identity() -> Panel:
    names = {
        "instance_name": "name",
        "project_name": "project",
        "user_name": "user",
        "flavor": "flavor",
        "image_id": "image",
        "uuid": "uuid",
    }
    return Panel(
        type="table",
        title="Who it is",
        description="Which guest is this, whose is it, and of which flavor and image? From guest:info.",
        queries=[
            Query(expr=f"group by ({', '.join(names)}) (guest:info{{{GUEST}}})", as_table=True),
        ],
        width=17,
        height=4,
        unit="string",
        defaults={"custom": TABLE, "noValue": "not known"},
        overrides=[Override(name="/^(image|uuid)$/", properties={"custom.width": 300})],
        options=TABLE_OPTIONS,
        transformations=_renamed(names, hidden=("Value",)),
    )


def _state() -> Panel:
    return Panel(
        type="stat",
        title="State",
        description="Does it run, and why not? libvirt's state with its reason. From guest:state:info.",
        queries=[
            Query(
                expr=f'group by (state, reason) (guest:state:info{{state="running",{GUEST}}})',
                legend="{{state}} ({{reason}})",
            ),
            Query(
                expr=f'2 * group by (state, reason) (guest:state:info{{state!="running",{GUEST}}})',
                legend="{{state}} ({{reason}})",
            ),
        ],
        width=4,
        height=4,
        unit="none",
        defaults={
            "color": {"mode": "thresholds"},
            "thresholds": thresholds((2, BAD), below=GOOD),
            "noValue": "not known",
        },
        options=stat_options(text_mode="name", title_size=20),
    )


def _age() -> Panel:
    return Panel(
        type="stat",
        title="Statistics' age",
        description=(
            "How long ago did QEMU tell the statistics of its disks and memory? They stay old while the "
            "guest does not answer. From hypervisor_guest_stats_timestamp_seconds."
        ),
        queries=[Query(expr=f"time() - {_one('stats_timestamp_seconds')}")],
        width=3,
        height=4,
        unit="s",
        defaults={
            "decimals": 0,
            "color": {"mode": "thresholds"},
            "thresholds": thresholds((300, BAD), below=NEUTRAL),
            "noValue": "never told",
        },
        options=stat_options(text_mode="auto", value_size=28),
    )


def _cpu() -> Panel:
    delay, throttled = _rate("vcpu_delay_seconds_total"), _rate("cpu_throttled_seconds_total")
    return Panel(
        type="timeseries",
        title="CPU: promised, used, waited for",
        description=(
            "How many vCPUs does it have, how many CPUs does it use, and how many vCPUs wait for a CPU "
            "(steal) or for their quota? From hypervisor_guest_vcpus, hypervisor_guest_cpu_seconds_total, "
            "hypervisor_guest_vcpu_delay_seconds_total and hypervisor_guest_cpu_throttled_seconds_total."
        ),
        queries=[
            Query(expr=_one("vcpus"), legend="vCPUs", over_time=True),
            Query(expr=_rate("cpu_seconds_total"), legend="used", over_time=True),
            # The delay has what its quota takes, too.
            Query(
                expr=f"clamp_min({delay} - {throttled}, 0) or {delay}",
                legend="waits for a CPU",
                over_time=True,
            ),
            Query(expr=throttled, legend="stopped by its quota", over_time=True),
        ],
        width=8,
        height=8,
        unit="none",
        defaults={"min": 0, "decimals": 2, "custom": line_style(), "noValue": "not known"},
        overrides=[
            Override(name="vCPUs", properties={**_DASHED, "decimals": 0}),
            Override(name="used", properties={"color": fixed(BLUE), "custom.fillOpacity": 25}),
            Override(name="waits for a CPU", properties={"color": fixed(ORANGE)}),
            Override(name="stopped by its quota", properties={"color": fixed(PINK)}),
        ],
        options=legend("lastNotNull", "max"),
    )


def _memory() -> Panel:
    return Panel(
        type="timeseries",
        title="Memory: given, resident, usable",
        description=(
            "How much memory may it have, how much of it is on the host, and how much could the guest still "
            "give to a program, by its own account? From hypervisor_guest_memory_size_bytes, "
            "hypervisor_guest_memory_balloon_bytes, hypervisor_guest_memory_resident_bytes and "
            "hypervisor_guest_memory_usable_bytes."
        ),
        queries=[
            Query(expr=_one("memory_size_bytes"), legend="size", over_time=True),
            Query(expr=_one("memory_balloon_bytes"), legend="given by the balloon", over_time=True),
            Query(expr=_one("memory_resident_bytes"), legend="resident", over_time=True),
            Query(expr=_one("memory_usable_bytes"), legend="usable, says the guest", over_time=True),
        ],
        width=8,
        height=8,
        unit="bytes",
        defaults={"min": 0, "custom": line_style(), "noValue": "not known"},
        overrides=[
            Override(name="size", properties=_DASHED),
            Override(name="given by the balloon", properties={"color": fixed(PINK)}),
            Override(name="resident", properties={"color": fixed(BLUE), "custom.fillOpacity": 25}),
            Override(name="usable, says the guest", properties={"color": fixed(GREEN)}),
        ],
        options=legend("lastNotNull", "min"),
    )


def _pressure() -> Panel:
    return Panel(
        type="timeseries",
        title="Waits: share of the time",
        description=(
            "Does something of it wait for a CPU, for storage or for memory of the host? The kernel's "
            "pressure of its cgroup. From hypervisor_guest_pressure_waiting_seconds_total."
        ),
        queries=[
            Query(
                expr=_rate("pressure_waiting_seconds_total", "resource"),
                legend="{{resource}}",
                over_time=True,
            )
        ],
        width=8,
        height=8,
        unit="percentunit",
        defaults={"min": 0, "custom": line_style(), "noValue": "not known: needs a kernel with pressure"},
        overrides=[
            Override(name="cpu", properties={"color": fixed(BLUE)}),
            Override(name="io", properties={"color": fixed(ORANGE)}),
            Override(name="memory", properties={"color": fixed(GREEN)}),
        ],
        options=legend("lastNotNull", "max"),
    )


def _disk_requests() -> Panel:
    return Panel(
        type="timeseries",
        title="Disks: requests a second",
        description=(
            "How many requests does each disk make? Writes are below 0. From "
            "hypervisor_guest_disk_reads_completed_total and hypervisor_guest_disk_writes_completed_total."
        ),
        queries=[
            Query(
                expr=_rate("disk_reads_completed_total", "device"), legend="{{device}} reads", over_time=True
            ),
            Query(
                expr=f"- {_rate('disk_writes_completed_total', 'device')}",
                legend="{{device}} writes",
                over_time=True,
            ),
        ],
        width=8,
        height=8,
        unit="iops",
        defaults={"decimals": 0, "custom": line_style(fillOpacity=15), "noValue": "not known"},
        options=legend("lastNotNull"),
    )


def _disk_latency() -> Panel:
    def seconds(verb: str, kind: str) -> str:
        return (
            f"{_rate(f'disk_{verb}_time_seconds_total', 'device')}"
            f" / ({_rate(f'disk_{kind}_completed_total', 'device')} > 0)"
        )

    return Panel(
        type="timeseries",
        title="Disks: how long a request takes",
        description=(
            "Are its disks slow? Mean time of a request in QEMU. From "
            "hypervisor_guest_disk_read_time_seconds_total, hypervisor_guest_disk_write_time_seconds_total, "
            "hypervisor_guest_disk_reads_completed_total and hypervisor_guest_disk_writes_completed_total."
        ),
        queries=[
            Query(expr=seconds("read", "reads"), legend="{{device}} reads", over_time=True),
            Query(expr=seconds("write", "writes"), legend="{{device}} writes", over_time=True),
        ],
        width=8,
        height=8,
        unit="s",
        defaults={"min": 0, "custom": line_style(), "noValue": "not known"},
        options=legend("lastNotNull", "max"),
    )


def _disk_bytes() -> Panel:
    return Panel(
        type="timeseries",
        title="Disks: bytes a second",
        description=(
            "How much does each disk read and write? Writes are below 0. From "
            "hypervisor_guest_disk_read_bytes_total and hypervisor_guest_disk_written_bytes_total."
        ),
        queries=[
            Query(expr=_rate("disk_read_bytes_total", "device"), legend="{{device}} reads", over_time=True),
            Query(
                expr=f"- {_rate('disk_written_bytes_total', 'device')}",
                legend="{{device}} writes",
                over_time=True,
            ),
        ],
        width=8,
        height=8,
        unit="binBps",
        defaults={"custom": line_style(fillOpacity=15), "noValue": "not known"},
        options=legend("lastNotNull"),
    )


def _disks() -> Panel:
    def each(name: str, more: str = "") -> str:
        return f"max by (device) (hypervisor_guest_{name}{{{_OF_EXPORTERS}{more}}})"

    columns = {
        "size": each("disk_size_bytes"),
        "allocated": each("disk_allocated_bytes"),
        "requests/s": f"max by (device) (guest:disk_ops:rate5m{{{GUEST}}})",
        "limit io/s": each("disk_limit_ops_per_second"),
        "limit B/s": each("disk_limit_bytes_per_second"),
        "of its limit": f"max by (device) (guest:disk_limit:used_ratio{{{GUEST}}})",
        "latency": (
            f"max by (device) (guest:disk_latency:seconds5m{{{GUEST}}} "
            f"and guest:disk_ops:rate5m{{{GUEST}}} > 1)"
        ),
    }
    who = ["device", "type", "bus", "format", "cache", "volume_id"]
    info = f"max by ({', '.join(who)}) (hypervisor_guest_disk_info{{{_OF_EXPORTERS}}})"
    queries = [info, *columns.values()]
    values = {f"Value #{chr(ord('B') + number)}": name for number, name in enumerate(columns)}
    return Panel(
        type="table",
        title="Disks",
        description=(
            "Which disks does it have, how large are they, and how near to their limits? If a disk has "
            "several limits, the largest is shown, and the one that is nearest. From "
            "hypervisor_guest_disk_info, hypervisor_guest_disk_size_bytes, "
            "hypervisor_guest_disk_allocated_bytes, hypervisor_guest_disk_limit_ops_per_second, "
            "hypervisor_guest_disk_limit_bytes_per_second, guest:disk_ops:rate5m, "
            "guest:disk_limit:used_ratio and guest:disk_latency:seconds5m."
        ),
        queries=[Query(expr=expr, as_table=True) for expr in queries],
        width=24,
        height=5,
        unit="string",
        defaults={"custom": TABLE, "noValue": "-"},
        overrides=[
            Override(name="volume", properties={"custom.width": 295}),
            Override(name="/^(size|allocated)$/", properties={"unit": "bytes"}),
            Override(name="/requests|io/", properties={"unit": "locale", "decimals": 0}),
            Override(name="limit B/s", properties={"unit": "binBps"}),
            Override(
                name="of its limit",
                properties={
                    "unit": "percentunit",
                    "decimals": 0,
                    "custom.cellOptions": {"type": "color-text"},
                    "color": {"mode": "thresholds"},
                    "thresholds": thresholds((0.9, WARNING), below=NEUTRAL),
                },
            ),
            Override(
                name="latency",
                properties={
                    "unit": "s",
                    "custom.cellOptions": {"type": "color-text"},
                    "color": {"mode": "thresholds"},
                    "thresholds": thresholds((0.05, BAD), below=NEUTRAL),
                },
            ),
        ],
        options=TABLE_OPTIONS,
        transformations=[
            {"id": "joinByField", "options": {"byField": "device", "mode": "outer"}},
            *_renamed(
                {**{name: name for name in who}, "volume_id": "volume", **values},
                hidden=("Value #A", *(f"Time {number}" for number in range(1, len(queries) + 1))),
            ),
        ],
    )


def _traffic() -> Panel:
    return Panel(
        type="timeseries",
        title="Interfaces: bytes a second",
        description=(
            "How much does it receive and send, as the guest sees it? Sent is below 0. From "
            "hypervisor_guest_network_receive_bytes_total and hypervisor_guest_network_transmit_bytes_total."
        ),
        queries=[
            Query(
                expr=_rate("network_receive_bytes_total", "device"),
                legend="{{device}} receives",
                over_time=True,
            ),
            Query(
                expr=f"- {_rate('network_transmit_bytes_total', 'device')}",
                legend="{{device}} sends",
                over_time=True,
            ),
        ],
        width=8,
        height=7,
        unit="binBps",
        defaults={"custom": line_style(fillOpacity=15), "noValue": "not known"},
        options=legend("lastNotNull"),
    )


def _drops() -> Panel:
    return Panel(
        type="timeseries",
        title="Packets lost a second",
        description=(
            "Does it lose packets? Dropped: mostly because the guest is too slow to take them. From "
            "hypervisor_guest_network_receive_drop_total, hypervisor_guest_network_transmit_drop_total, "
            "hypervisor_guest_network_receive_errs_total and hypervisor_guest_network_transmit_errs_total."
        ),
        queries=[
            Query(expr=f"sum({_rate(f'network_{name}_total', 'device')})", legend=text, over_time=True)
            for name, text in (
                ("receive_drop", "dropped on the way in"),
                ("transmit_drop", "dropped on the way out"),
                ("receive_errs", "faulty on the way in"),
                ("transmit_errs", "faulty on the way out"),
            )
        ],
        width=6,
        height=7,
        unit="pps",
        defaults={"min": 0, "custom": line_style(), "noValue": "not known"},
        options=legend("lastNotNull"),
    )


def _interfaces() -> Panel:
    names = {"device": "device", "mac": "MAC", "bridge": "bridge", "port_id": "port", "type": "type"}
    return Panel(
        type="table",
        title="Interfaces",
        description=(
            "Which interfaces does it have, and where do they lead? From hypervisor_guest_network_info."
        ),
        queries=[
            Query(
                expr=f"max by ({', '.join(names)}) (hypervisor_guest_network_info{{{_OF_EXPORTERS}}})",
                as_table=True,
            )
        ],
        width=10,
        height=7,
        unit="string",
        defaults={"custom": TABLE, "noValue": "no interfaces"},
        overrides=[
            Override(name="device", properties={"custom.width": 105}),
            Override(name="MAC", properties={"custom.width": 135}),
            Override(name="port", properties={"custom.width": 270}),
            Override(name="/^(bridge|type)$/", properties={"custom.width": 64}),
        ],
        options=TABLE_OPTIONS,
        transformations=_renamed(names, hidden=("Value",)),
    )

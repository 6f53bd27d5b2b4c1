"""Storage that hypervisors share is in every total once: the rules against a sum that is computed apart.

Fleets are made at random: own and shared storage, several groups, two exporters for one hypervisor, exporters
too old to name a storage, hypervisors that stopped answering, numbers read at different moments, unequal
reserves.
"""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[2] / "prometheus" / "rules"
GIB = 2**30
FLEETS = 40
DISK = 'resource_class="DISK_GB"'

# Hypervisors that stop answering do so at this step; the sums are compared at a later one.
STOPS_AT, COMPARED_AT = 4, 8

Group = str
Series = dict[tuple[str, ...], float]


@dataclass(frozen=True, kw_only=True)
class Host:
    """A hypervisor as its exporters report it; amounts in GiB, but for the bytes."""

    name: str
    zone: Group
    storage: str | None  # None: its exporter does not name one
    exporters: int
    is_down: bool
    size: int
    used: int
    free_bytes: int
    overcommitted_bytes: int
    capacity: int
    claimed: int | None  # None: libvirt does not list its domains
    slots: Mapping[str, int]

    @property
    def available_least(self) -> int:
        """Nova's, in whole GiB."""
        return (self.free_bytes - self.overcommitted_bytes) // GIB


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Hypervisors, and what one guest of each flavor claims of the disk; 0: it boots from a volume."""

    hosts: tuple[Host, ...]
    requests: Mapping[str, int]


def make_fleet(chance: random.Random) -> Fleet:
    """Make a fleet of up to 9 hypervisors."""
    storages = {f"nfs:server/{number}": chance.randrange(100, 5000) for number in range(chance.randrange(4))}
    requests = {"small": chance.randrange(1, 40), "large": chance.randrange(1, 400), "volume": 0}
    zones = chance.choice((["a"], ["a", "b"], ["a", "b", "c"]))
    hosts = [
        make_host(chance, f"kvm{number}", chance.choice(zones), storages, requests)
        for number in range(chance.randrange(1, 10))
    ]
    return Fleet(hosts=tuple(hosts), requests=requests)


def make_host(
    chance: random.Random, name: str, zone: Group, storages: Mapping[str, int], requests: Mapping[str, int]
) -> Host:
    """Make a hypervisor, on one of the storages or its own."""
    storage = chance.choice([*storages, None, f"host:{name}"])
    whole = storages.get(storage, chance.randrange(50, 900)) if storage else chance.randrange(50, 900)
    size = whole - chance.choice((0, 0, 0, 1))  # it changed between two reads
    used = chance.randrange(size // 2)
    capacity = chance.choice((size, size, size - 10, 2 * size, 0))
    return Host(
        name=name,
        zone=zone,
        storage=storage,
        exporters=chance.choice((1, 1, 2)),
        is_down=chance.random() < 0.15,
        size=size,
        used=used,
        free_bytes=(size - used) * GIB - chance.randrange(3 * GIB),
        overcommitted_bytes=chance.randrange(size) * GIB + chance.randrange(GIB),
        capacity=capacity,
        claimed=chance.choice((None, *[chance.randrange(size) for _ in range(6)])),
        slots={flavor: chance.randrange(12) for flavor in requests},
    )


def write_series(fleet: Fleet) -> Iterator[dict[str, str]]:
    """Yield what Prometheus scrapes from the exporters of a fleet."""
    for host in fleet.hosts:
        for exporter in range(host.exporters):
            labels = f'job="hv",instance="{host.name}-{exporter}:9177",zone="{host.zone}"'
            named = f'{labels},hypervisor_hostname="{host.name}"'
            last = f"stale _x{COMPARED_AT}" if host.is_down else ""
            lasts = STOPS_AT if host.is_down else 2 * COMPARED_AT
            values: dict[str, float] = {
                f'hypervisor_info{{{named},target="{host.name}"}}': 1,
                f'hypervisor_up{{{labels},target="{host.name}"}}': 1,
                f"hypervisor_storage_size_bytes{{{named}}}": host.size * GIB,
                f"hypervisor_storage_used_bytes{{{named}}}": host.used * GIB,
                f"hypervisor_storage_free_bytes{{{named}}}": host.free_bytes,
                f"hypervisor_storage_overcommitted_bytes{{{named}}}": host.overcommitted_bytes,
                f"hypervisor_disk_available_least{{{named}}}": host.available_least,
                f"hypervisor_capacity{{{named},{DISK}}}": host.capacity,
            }
            if host.claimed is not None:
                values[f"hypervisor_claimed{{{named},{DISK}}}"] = host.claimed
            if host.storage is not None:
                source = "mount" if exporter else "pool"
                identity = f'storage="{host.storage}",kind="nfs",source="{source}"'
                values[f"hypervisor_storage_info{{{named},{identity}}}"] = 1
            for flavor, slots in host.slots.items():
                values[f'hypervisor_flavor_slots{{{named},flavor="{flavor}"}}'] = slots
                if fleet.requests[flavor]:
                    request = f'hypervisor_flavor_request{{{named},flavor="{flavor}",{DISK}}}'
                    values[request] = fleet.requests[flavor]
            for series, value in values.items():
                yield {"series": series, "values": f"{value}x{lasts} {last}"}
            ups = f"1x{STOPS_AT} 0x{COMPARED_AT}" if host.is_down else f"1x{2 * COMPARED_AT}"
            yield {"series": f"up{{{labels}}}", "values": ups}


def list_shared(fleet: Fleet) -> dict[str, list[Host]]:
    """Return the storages that more than one hypervisor named, with all of these."""
    storages: dict[str, list[Host]] = {}
    for host in fleet.hosts:
        if host.storage is not None:
            storages.setdefault(host.storage, []).append(host)
    return {storage: hosts for storage, hosts in storages.items() if len(hosts) > 1}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one storage adds to the total of a group, or is None if it is not known."""

    physical: int | None
    used: int | None
    capacity: int | None
    claimed: int | None
    available_least: int | None
    slots: Mapping[str, int]
    lost_with_a_host: int


def list_parts(fleet: Fleet, zone: Group) -> list[Part]:
    """Return every storage that a hypervisor of the group sees, each once."""
    shared = list_shared(fleet)
    here = [host for host in fleet.hosts if host.zone == zone]
    parts = [make_own_part(host) for host in here if host.storage not in shared and not host.is_down]
    for hosts in shared.values():
        members = [host for host in hosts if host.zone == zone]
        if members:
            parts.append(make_shared_part(hosts, members, fleet.requests))
    return parts


def make_own_part(host: Host) -> Part:
    """Return the storage that only this hypervisor sees: Nova's numbers."""
    return Part(
        physical=host.size,
        used=host.used,
        capacity=None if host.claimed is None else host.capacity,
        claimed=host.claimed,
        available_least=host.available_least,
        slots=host.slots,
        lost_with_a_host=0 if host.claimed is None else host.capacity,
    )


def make_shared_part(hosts: Iterable[Host], members: Iterable[Host], requests: Mapping[str, int]) -> Part:
    """Return a shared storage: what those see that answer, and everybody's claims and over-commit."""
    hosts = list(hosts)
    seeing = [host for host in hosts if not host.is_down]
    offered = [host.capacity for host in seeing if host.capacity > 0] or [host.capacity for host in seeing]
    claims = [host.claimed for host in hosts if host.claimed is not None]
    free = [host.free_bytes for host in seeing]
    is_placed = bool(offered and claims)
    capacity, claimed = (min(offered), sum(claims)) if is_placed else (None, None)
    slots = {}
    for flavor, request in requests.items():
        counts = [host.slots[flavor] for host in members if not host.is_down]
        if counts:
            has_limit = capacity is not None and claimed is not None and request
            limit = max(0, capacity - claimed) // request if has_limit else math.inf
            slots[flavor] = min(sum(counts), limit)
    return Part(
        physical=min((host.size for host in seeing), default=None),
        used=max((host.used for host in seeing), default=None),
        capacity=capacity,
        claimed=claimed,
        available_least=(min(free) - sum(host.overcommitted_bytes for host in hosts)) // GIB
        if free
        else None,
        slots=slots,
        lost_with_a_host=0,
    )


def expect(fleet: Fleet) -> Iterator[tuple[str, Series]]:
    """Yield each rule of the totals with what it must be, by group."""
    zones = {host.zone for host in fleet.hosts}
    parts = {zone: list_parts(fleet, zone) for zone in zones}
    for rule in ("physical", "used", "capacity", "claimed"):
        yield f"cluster:resource:{rule}{{{DISK}}}", _add(parts, lambda part, rule=rule: getattr(part, rule))
    yield f"cluster:resource:placeable{{{DISK}}}", _add(parts, _placeable)
    yield "cluster:disk_available_least:sum", _add(parts, lambda part: part.available_least)
    for flavor in fleet.requests:
        query = f'cluster:flavor_slots:sum{{flavor="{flavor}"}}'
        yield query, _add(parts, lambda part, flavor=flavor: part.slots.get(flavor))
    yield f"cluster:resource:placeable_after_host_loss{{{DISK}}}", dict(_after_loss(fleet, parts))


def _placeable(part: Part) -> int | None:
    if part.capacity is None or part.claimed is None:
        return None
    return max(0, part.capacity - part.claimed)


def _add(parts: Mapping[Group, list[Part]], get: Any) -> Series:
    sums: Series = {}
    for zone, members in parts.items():
        known = [get(part) for part in members if get(part) is not None]
        if known:
            sums[(zone,)] = sum(known)
    return sums


def _after_loss(fleet: Fleet, parts: Mapping[Group, list[Part]]) -> Iterator[tuple[tuple[str], float]]:
    for zone, members in parts.items():
        placed = [part for part in members if part.capacity is not None and part.claimed is not None]
        hosts = [
            host
            for host in fleet.hosts
            if host.zone == zone and not host.is_down and host.claimed is not None
        ]
        left = sum(part.capacity or 0 for part in placed) - max(
            (part.lost_with_a_host for part in placed), default=0
        )
        if len(hosts) > 1 and left > 0:
            yield (zone,), left - sum(part.claimed or 0 for part in placed)


def make_test(number: int) -> dict[str, Any]:
    """Return the unit test of one fleet."""
    fleet = make_fleet(random.Random(number))
    checks = [
        {
            "expr": f"sum by (zone) ({query})",
            "eval_time": f"{COMPARED_AT}m",
            "exp_samples": [
                {"labels": f'{{zone="{zone}"}}', "value": value} for (zone,), value in expected.items()
            ],
        }
        for query, expected in expect(fleet)
    ]
    return {
        "name": f"fleet {number}",
        "interval": "1m",
        "input_series": list(write_series(fleet)),
        "promql_expr_test": checks,
    }


def test_every_total_has_each_storage_once(tmp_path: Path) -> None:
    document = {
        "rule_files": [str(RULES / "hypervisor.yaml"), str(RULES / "cluster.yaml")],
        "evaluation_interval": "1m",
        "group_eval_order": [
            "hypervisor-resources",
            "hypervisor-trends",
            "cluster-resources",
            "cluster-trends",
        ],
        "tests": [make_test(number) for number in range(FLEETS)],
    }
    path = tmp_path / "fleets.yaml"
    path.write_text(yaml.safe_dump(document))
    result = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr

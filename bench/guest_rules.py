"""What the rules about guests cost a Prometheus: how long they take, and how many series they record.

usage: python -m bench.guest_rules [--guests 1000] [--repeat 5]

Simulated guests of ten minutes go into a real Prometheus, and beside them seven days of what the rules of
right-sizing look back over. Then each rule's query is asked. The time of a group is the sum of the fastest
answers of its rules. Prints a table in Markdown; takes some minutes.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.simulated_fleet import SimulatedFleet

_MINUTES = 10
_STEP = 30
_DAYS = 7
_RIGHT_SIZING_STEP = 240  # the interval of the group guests-right-sizing
_DAY = 86400


def write_past(path: Path, *, guests: int, ends: int) -> None:
    """Write what the rules of right-sizing have recorded of so many guests in seven days."""
    with path.open("w", encoding="utf-8") as out:
        for guest in range(guests):
            for resource_class, measured_by in (("VCPU", "host"), ("MEMORY_MB", "guest")):
                labels = (
                    f'domain="d{guest}",uuid="u{guest}",flavor="f",resource_class="{resource_class}",'
                    f'measured_by="{measured_by}"'
                )
                out.writelines(
                    f"guest:resource:used{{{labels}}} {(guest + number * 7919) % 997} {when}\n"
                    for number, when in enumerate(range(ends - _DAYS * _DAY, ends + 1, _RIGHT_SIZING_STEP))
                )
        out.write("# EOF\n")


def read_groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the groups of the rules about guests: each rule's series and query."""
    for group in yaml.safe_load((RULES / "guests.yaml").read_text(encoding="utf-8"))["groups"]:
        yield group["name"], [(rule["record"], str(rule["expr"])) for rule in group["rules"]]


def measure(prometheus: PrometheusServer, expr: str, *, ends: int, repeat: int) -> tuple[float, int]:
    """Return the time of the fastest answer in seconds, and the number of its series."""
    fastest, series = float("inf"), 0
    for _ in range(repeat):
        started = time.monotonic()
        series = len(prometheus.query(expr, at=ends))
        fastest = min(fastest, time.monotonic() - started)
    return fastest, series


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    ends = int(time.time()) // _RIGHT_SIZING_STEP * _RIGHT_SIZING_STEP
    # The simulated hypervisors have 15 guests on average.
    hypervisors = max(1, arguments.guests // 15)
    fleet = SimulatedFleet(hypervisors=hypervisors, ends=ends, guests_of=frozenset(range(hypervisors)))
    prometheus = PrometheusServer(interval="1h")
    try:
        samples = prometheus.root / "samples"
        fleet.write(samples, seconds=_MINUTES * 60, step=_STEP)
        prometheus.fill(samples)
        write_past(samples, guests=arguments.guests, ends=ends)
        prometheus.fill(samples)
        samples.unlink()
        prometheus.start()
        groups = dict(read_groups())
        asked = [expr for rules in groups.values() for _, expr in rules]
        prometheus.fill_rules(start=ends - 120, end=ends, interval=f"{_STEP}s", read_by=asked)
        found = len(prometheus.query("guest:info", at=ends))
        print(f"{found} guests\n\n| group | seconds | series recorded |\n|---|---:|---:|")
        for name, rules in groups.items():
            answers = [measure(prometheus, expr, ends=ends, repeat=arguments.repeat) for _, expr in rules]
            print(f"| {name} | {sum(each[0] for each in answers):.2f} | {sum(each[1] for each in answers)} |")
        p95 = dict(groups["guests-right-sizing"])["guest:resource:used_p95"]
        quantiles = " or ".join(re.findall(r"quantile_over_time\([^()]*\)", p95))
        seconds, series = measure(prometheus, quantiles, ends=ends, repeat=arguments.repeat)
        print(f"| of these, the quantiles over {_DAYS} days | {seconds:.2f} | {series} |")
    finally:
        prometheus.__exit__(None, None, None)


if __name__ == "__main__":
    main()

"""Every query on the page about capacity is one that Prometheus takes, and means what the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
TABLE = PAGE.read_text().partition("## Which number answers which question")[2].partition("\n## ")[0]
QUERIES: dict[str, str] = dict(re.findall(r"^\| (.+?) \| `(.+?)`", TABLE, re.MULTILINE)[1:])


def series(name: str, value: int, **labels: str) -> dict[str, Any]:
    pairs = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return {"series": f"{name}{{{pairs}}}", "values": f"{value}x3"}


def make_fleet() -> list[dict[str, Any]]:
    """Two hosts: 12 more m1.large fit on the first, by memory; the second is promised beyond its capacity."""
    first, second = {"hypervisor_hostname": "a"}, {"hypervisor_hostname": "b"}
    memory = {"resource_class": "MEMORY_MB"}
    return [
        series("hypervisor_capacity", 100, **first, **memory),
        series("hypervisor_claimed", 40, **first, **memory),
        series("hypervisor_capacity", 50, **second, **memory),
        series("hypervisor_claimed", 60, **second, **memory),
        series("hypervisor_flavor_slots", 12, **first, flavor="m1.large"),
        series("hypervisor_flavor_slots", 0, **second, flavor="m1.large"),
        series("hypervisor_flavor_slots_limited_by", 1, **first, flavor="m1.large", **memory),
        series("hypervisor_flavor_slots_limited_by", 0, **first, flavor="m1.large", resource_class="VCPU"),
        series("hypervisor_flavor_slots_limited_by", 1, **second, flavor="m1.large", **memory),
    ]


def evaluate(tmp_path: Path, query: str, expected: dict[str, float]) -> None:
    """Fail unless the query yields these samples and no others."""
    samples = [{"labels": labels, "value": value} for labels, value in expected.items()]
    test = {"expr": query, "eval_time": "1m", "exp_samples": samples}
    document = {"tests": [{"interval": "1m", "input_series": make_fleet(), "promql_expr_test": [test]}]}
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    result = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_query_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    assert len(QUERIES) > 15
    rules = [
        {"record": f"page:query:{number}", "expr": query} for number, query in enumerate(QUERIES.values())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}))
    result = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "What is left for the scheduler?",
            {
                '{hypervisor_hostname="a",resource_class="MEMORY_MB"}': 60,
                '{hypervisor_hostname="b",resource_class="MEMORY_MB"}': -10,
            },
        ),
        (
            "Is more promised than there is room for?",
            {'hypervisor_claimed{hypervisor_hostname="b",resource_class="MEMORY_MB"}': 60},
        ),
        (
            '"12 more m1.large here, limited by memory"',
            {
                '{hypervisor_hostname="a",flavor="m1.large",resource_class="MEMORY_MB"}': 12,
                '{hypervisor_hostname="b",flavor="m1.large",resource_class="MEMORY_MB"}': 0,
            },
        ),
        ("How many fit in the whole fleet?", {'{flavor="m1.large"}': 12}),
        ("Can the fleet lose its largest host?", {}),
    ],
)
def test_queries_yield_what_the_page_says(tmp_path: Path, question: str, expected: dict[str, float]) -> None:
    evaluate(tmp_path, QUERIES[question], expected)

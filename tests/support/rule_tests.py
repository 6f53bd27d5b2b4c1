"""The unit tests of the rules (prometheus/tests), written anew for one engine or another.

Each test gets a file of its own, and only the rules that it needs, so that a run takes a quarter of the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Rule = Mapping[str, Any]

# The rules that have series only if hypervisors share storage.
RULES_OF_SHARED_STORAGE = (
    *("hypervisor:flavor_slots:limited_by_storage", "hypervisor:flavor_slots:shared"),
    *("hypervisor:resource:shared", "hypervisor:resource:shared_claimed"),
    *("hypervisor:storage:shared_overcommitted_bytes", "storage:available_least:bytes"),
    *("storage:available_least:ratio", "storage:common_group:info", "storage:disk_available_least:min"),
    *("storage:flavor_slots:limit", "storage:flavor_slots:max", "storage:flavor_slots:sum"),
    *("storage:group:info", "storage:hypervisors:count", "storage:resource:capacity"),
    *("storage:resource:claimed", "storage:resource:claimed_ratio", "storage:resource:free"),
    *("storage:resource:physical", "storage:resource:placeable", "storage:resource:seconds_until_full"),
    *("storage:resource:used", "storage:resource:used_ratio"),
)

# How the rules begin that have no series where libvirt's test driver runs. It has no guests in a cgroup, and
# its CPU times stand still. The collectors guests and projects are off.
RULES_OF_GUESTS = (
    *("guest:", "hypervisor:guests_", "hypervisor:cpu:", "hypervisor:cpu_ratio:"),
    *("hypervisor:flavor_guests:", "cluster:flavor_guests:"),
    *("hypervisor:project_claimed:", "cluster:project_claimed:"),
    *("hypervisor:flavor_claimed:", "cluster:flavor_claimed:"),
)

_RECORDED = re.compile(r"\b(?:guest|hypervisor|storage|cluster|target):\w+:\w+")


def write_for_promtool(unit_tests: Path, directory: Path) -> list[Path]:
    """Write the tests of a file for promtool, and return the new files."""
    return [
        _write(directory / f"{unit_tests.stem}-{number:02}.yaml", document, test, rules)
        for number, (document, test, rules) in enumerate(_read(unit_tests))
    ]


def write_for_vmalert_tool(unit_tests: Path, directory: Path) -> list[Path]:
    """Write the tests of a file for vmalert-tool, and return the new files.

    It calls the queries of a test otherwise.
    """
    written = []
    for number, (document, test, rules) in enumerate(_read(unit_tests)):
        if "promql_expr_test" in test:
            test["metricsql_expr_test"] = test.pop("promql_expr_test")
        written.append(_write(directory / f"{unit_tests.stem}-{number:02}.yaml", document, test, rules))
    return written


def _read(unit_tests: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[Rule]]]:
    """Yield the document, each of its tests, and the rules that this one needs, as they are evaluated."""
    # A value such as 0x60 is text (60 times 0) to the tools, and a number in base 16 to YAML.
    document = yaml.load(unit_tests.read_text(), yaml.BaseLoader)
    groups = {
        group["name"]: group["rules"]
        for pattern in document["rule_files"]
        for path in sorted((unit_tests.parent / pattern).parent.glob(Path(pattern).name))
        for group in yaml.safe_load(path.read_text())["groups"]
    }
    order = document.get("group_eval_order", groups)
    rules = [rule for name in order for rule in groups[name]]
    for test in document["tests"]:
        for expected in test.get("promql_expr_test", ()):
            for sample in expected["exp_samples"]:
                sample["value"] = float(sample["value"])
        yield document, test, _choose(rules, test)


def _choose(rules: Sequence[Rule], test: Mapping[str, Any]) -> list[Rule]:
    """Return the rules that a test is about, and those that they read, one from the other."""
    alerts = {expected["alertname"] for expected in test.get("alert_rule_test", ())}
    chosen = [rule for rule in rules if rule.get("alert") in alerts]
    while True:
        # The text of an alert may have a query, too.
        expressions = [
            f"{each['expr']} {each.get('annotations', {}).get('summary')}"
            for each in (*test.get("promql_expr_test", ()), *chosen)
        ]
        more = [rule for rule in rules if rule not in chosen and _is_read(rule, expressions)]
        if not more:
            return [rule for rule in rules if rule in chosen]
        chosen += more


def _is_read(rule: Rule, expressions: Sequence[str]) -> bool:
    """Whether an expression reads what a rule records; of the thresholds most read that of one alert only."""
    if "record" not in rule:
        return False
    alert = rule.get("labels", {}).get("alert")
    selector = "" if alert is None else rf"""(?:(?!{{)|{{alert="{alert}"[,}}])"""
    reading = re.compile(rf"\b{rule['record']}\b{selector}")
    return any(reading.search(expression) for expression in expressions)


def _names(rule: Mapping[str, Any]) -> set[str]:
    """Return the names of the recorded series that an expression reads."""
    return set(_RECORDED.findall(str(rule["expr"])))


def _split(rules: Sequence[Rule]) -> Iterator[list[Rule]]:
    """Yield the rules in groups. No group reads a series that it records itself.

    In a group of Prometheus' a rule sees what the rules before it have just recorded. In VictoriaMetrics it
    sees what they recorded the last time; the unit tests know the moments of Prometheus.
    """
    group: list[Rule] = []
    for rule in rules:
        if _names(rule) & {other.get("record") for other in group} - {rule.get("record")}:
            yield group
            group = []
        group.append(rule)
    yield group


def _write(path: Path, document: Mapping[str, Any], test: Mapping[str, Any], rules: Sequence[Rule]) -> Path:
    groups = [{"name": f"part-{number}", "rules": list(part)} for number, part in enumerate(_split(rules))]
    rule_file = path.with_name(f"{path.stem}-rules.yaml")
    rule_file.write_text(yaml.safe_dump({"groups": groups}, sort_keys=False))
    unit_test = {
        "rule_files": [rule_file.name],
        "evaluation_interval": document["evaluation_interval"],
        "group_eval_order": [group["name"] for group in groups],
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(unit_test, sort_keys=False))
    return path

"""Prometheus takes the rules, and they yield what their own unit tests say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).resolve().parents[2] / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))

# What tells one exporter, pod or replica from another, and so is no group of hypervisors.
SCRAPE_LABELS = {
    *("container", "endpoint", "namespace", "node", "pod"),
    *("prometheus", "prometheus_replica", "replica", "service"),
}
TARGET_LABELS = {"instance", "job", "target"}


def _promtool(*arguments: str | Path) -> str:
    """Run promtool, and return what it says; it has to be content."""
    result = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def _rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(path: Path) -> None:
    assert "SUCCESS" in _promtool("check", "rules", path)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_rules_yield_what_their_unit_tests_say(path: Path) -> None:
    assert "SUCCESS" in _promtool("test", "rules", path)


def test_every_rule_leaves_out_the_same_labels_of_the_scrape() -> None:
    """A group label that one rule drops and another keeps would make series that no longer match."""
    for rule in _rules():
        for text in re.findall(r"without \(([a-z_, \n]+)\)", rule["expr"]):
            labels = set(re.findall(r"\w+", text))
            if labels & SCRAPE_LABELS:
                assert labels >= SCRAPE_LABELS, rule
                assert not labels & TARGET_LABELS or labels >= TARGET_LABELS, rule


def test_no_rule_names_a_group() -> None:
    """Aggregations keep whatever labels the scrape adds: no list of labels to keep but that of a target."""
    for rule in _rules():
        for text in re.findall(r"\bby \(([a-z_, ]+)\)", rule["expr"]):
            assert set(re.findall(r"\w+", text)) == TARGET_LABELS, rule

"""Prometheus takes the rules, and they yield what their own unit tests say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target

CHECKOUT = Path(__file__).resolve().parents[2]
PROMETHEUS = CHECKOUT / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
SCRAPE_CONFIGURATIONS = sorted((PROMETHEUS / "scrape").glob("*.yaml"))
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
PAGES = [PROMETHEUS / "README.md", *sorted(RUNBOOKS.glob("*.md"))]

# What tells one exporter, pod or replica from another, and so is no group of hypervisors.
SCRAPE_LABELS = {
    *("container", "endpoint", "namespace", "node", "pod"),
    *("prometheus", "prometheus_replica", "replica", "service"),
}
TARGET_LABELS = {"instance", "job", "target"}


def _run(*command: str | Path) -> str:
    """Run a command that has to succeed, and return what it says.

    promtool computes for half a minute where it is alone, which on a busy machine may be minutes.
    """
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


RULES: list[dict[str, Any]] = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
each_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=list(ALERTS))


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(path: Path) -> None:
    assert "SUCCESS" in _run("promtool", "check", "rules", path)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_rules_yield_what_their_unit_tests_say(path: Path) -> None:
    assert "SUCCESS" in _run("promtool", "test", "rules", path)


@pytest.mark.parametrize("path", SCRAPE_CONFIGURATIONS, ids=lambda path: path.stem)
def test_prometheus_takes_the_example(path: Path) -> None:
    """The examples name the rule files by paths that exist; an agent's is checked as an agent's."""
    mode = ["--agent"] if path.stem == "agent" else []
    output = _run("promtool", "check", "config", *mode, path)
    assert "SUCCESS" in output
    assert "no file" not in output


def test_alertmanager_takes_its_example_and_that_knows_the_alerts() -> None:
    path = PROMETHEUS / "alertmanager.yaml"
    assert "SUCCESS" in _run("amtool", "check-config", path)
    named = set(re.findall(r"\b(?:Hypervisor|Cluster|Guest)[A-Z]\w+", path.read_text()))
    assert named <= set(ALERTS)


def test_every_rule_leaves_out_the_same_labels_of_the_scrape() -> None:
    """A group label that one rule drops and another keeps would make series that no longer match.

    A target is told apart by all of its labels, or without its job, as two jobs may scrape one.
    """
    for rule in RULES:
        for text in re.findall(r"without \(([a-z_, \n]+)\)", str(rule["expr"])):
            labels = set(re.findall(r"\w+", text))
            if labels & SCRAPE_LABELS:
                assert labels >= SCRAPE_LABELS, rule
                assert labels & TARGET_LABELS in (set(), {"job"}, TARGET_LABELS), rule


def test_no_rule_names_a_group() -> None:
    """Aggregations keep whatever labels the scrape adds: none lists labels to keep, save to know a host.

    A storage may be shared across groups. Its numbers are computed without groups, and then get them back.
    A guest may move from one group to another: its past is kept without groups.
    """
    of_a_guest: set[frozenset[str]] = {frozenset({"domain", "uuid"}), frozenset({"domain", "uuid", "flavor"})}
    of_a_storage = {"storage", "resource_class", "hypervisor_hostname"}
    for rule in RULES:
        for text in re.findall(r"\bby \(([a-z_, ]+)\)", str(rule["expr"])):
            kept = set(re.findall(r"\w+", text))
            if "storage" in kept:
                assert kept <= of_a_storage, rule
            else:
                assert kept in (TARGET_LABELS, {"hypervisor_hostname", "uuid"}, *of_a_guest), rule


def test_every_recorded_series_that_is_used_is_recorded() -> None:
    for rule in RULES:
        used = set(re.findall(r"\b(?:guest|hypervisor|storage|cluster|target):\w+:\w+", str(rule["expr"])))
        assert used <= RECORDED, rule


@each_alert
def test_an_alert_says_how_bad_it_is_what_to_do_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """The summary has a figure, and the description is a sentence."""
    assert alert["labels"]["severity"] in ("info", "warning", "critical")
    assert alert["for"]
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert "$value" in annotations["summary"] or re.search(r"\b[01]\b", annotations["summary"])
    assert annotations["description"].endswith((".", "?"))
    assert annotations["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    readme = (PROMETHEUS / "README.md").read_text()
    assert set(re.findall(r"docs/runbooks/(\w+)\.md", readme)) == set(ALERTS)


@each_alert
def test_a_runbook_has_all_its_parts(alert: dict[str, Any]) -> None:
    page = (RUNBOOKS / f"{alert['alert']}.md").read_text()
    assert page.startswith(f"# {alert['alert']}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_threshold_belongs_to_an_alert_and_every_alert_finds_its_own() -> None:
    """A threshold of another name would leave its alert silent for ever."""
    recorded = {
        rule["labels"]["alert"] for rule in RULES if rule.get("record") == "hypervisor:alert:threshold"
    }
    compared = {
        (rule["alert"], name)
        for rule in ALERTS.values()
        if rule["alert"] != "HypervisorThresholdsMissing"
        for name in re.findall(
            r'hypervisor:alert:threshold\{alert="(\w+)"(?:,of="\w*")?\}', str(rule["expr"])
        )
    }
    assert compared == {(name, name) for name in recorded}


def test_each_threshold_that_an_alert_needs_is_missed_by_name() -> None:
    """Somebody may keep an older file with changed numbers. Only a class may be without a threshold."""
    recorded = {
        (rule["labels"]["alert"], rule["labels"].get("of"))
        for rule in RULES
        if rule.get("record") == "hypervisor:alert:threshold"
    }
    missed = re.findall(
        r'absent\(hypervisor:alert:threshold\{alert="(\w+)"(,of(?:="(\w+)"|!~"\.\+"))?\}\)',
        str(ALERTS["HypervisorThresholdsMissing"]["expr"]),
    )
    assert len(missed) == len(recorded)
    assert {(alert, of if has_of else None) for alert, has_of, of in missed} == recorded


def test_every_alert_is_tested_firing_and_silent() -> None:

    checks = [
        check
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for check in test.get("alert_rule_test", [])
    ]
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == set(ALERTS)
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == set(ALERTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_and_every_recorded_series_of_a_page_is_there(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert set(re.findall(r"\b(?:guest|hypervisor|storage|cluster|target):\w+:\w+", text)) <= RECORDED


DECLARED = {
    *(metric.name for metrics in (target.METRICS, scrape.METRICS, own.METRICS) for metric in metrics),
    *(metric.name for collector in COLLECTORS for metric in collector.metrics),
}
NOT_METRICS = {"hypervisor_hostname", "hypervisor_type", "hypervisor_version"}


def test_every_metric_that_a_rule_reads_is_exported() -> None:
    for rule in RULES:
        named = set(re.findall(r"(?<![:\w])hypervisor_[a-z_]+(?![:\w])", str(rule["expr"])))
        assert named - NOT_METRICS <= DECLARED, rule


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_metric_that_a_page_names_is_exported(page: Path) -> None:
    named = set(re.findall(r"(?<![:\w/])hypervisor_[a-z_]+(?![:\w*])", page.read_text()))
    assert named - NOT_METRICS <= DECLARED


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_every_series_of_the_unit_tests_is_one_that_is_exported(path: Path) -> None:
    """A test of what never comes would prove nothing."""
    tests = yaml.safe_load(path.read_text())["tests"]
    named = {series["series"].partition("{")[0] for test in tests for series in test["input_series"]}
    # An older file's thresholds are given as series.
    assert named - {"up", "hypervisor:alert:threshold"} <= DECLARED

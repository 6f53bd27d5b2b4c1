"""The rules of Grafana's dashboard linter in strict mode, for every type of panel, as tests of our own.

https://github.com/grafana/dashboard-linter is a program in Go, which these tests shall not need. What is
excluded from a rule stands here, with its reason.
"""

from __future__ import annotations

import re

import pytest

from tests.grafana.boards import BOARDS, Json, interpolate, panels, queries, selectors
from tests.support.prometheus_api import QueryError
from tests.support.prometheus_server import PrometheusServer

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))

# The units among Grafana's that are of use here.
UNITS = {
    *("none", "string", "locale", "percentunit", "bool_yes_no"),
    *("bytes", "mbytes", "gbytes", "binBps", "s", "cps", "iops", "pps"),
}

# A recording rule counts a hypervisor once, whichever job and instance report it, so it has neither label;
# target:refresh_errors:increase10m, which is about targets, has both.
HAVE_NO_JOB = re.compile(r"(guest|hypervisor|storage|cluster):")


def _variable(board: Json, name: str) -> Json:
    found: Json = next(each for each in board["templating"]["list"] if each["name"] == name)
    return found


@each_board
def test_template_datasource(board: Json) -> None:
    sources = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert [(each["name"], each["label"], each["query"]) for each in sources] == [
        ("datasource", "Data source", "prometheus")
    ]


@each_board
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance(board: Json, name: str) -> None:
    variable = _variable(board, name)
    assert variable["type"] == "query"
    assert variable["label"] == name.title()
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"
    assert variable["datasource"]["uid"] == "${datasource}"


@each_board
def test_template_reloads_when_the_time_range_changes(board: Json) -> None:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["refresh"] == 2, variable["name"]


@each_board
def test_template_label_functions(board: Json) -> None:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert re.fullmatch(r"(label_values|query_result)\(.+\)", variable["query"]["query"])


@each_board
def test_panel_datasource(board: Json) -> None:
    for panel in panels(board):
        assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {
            "${datasource}"
        }


@each_board
def test_panel_title_description_and_targets(board: Json) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert all(target["expr"] for target in panel["targets"])


@each_board
def test_panel_units(board: Json) -> None:
    for panel in panels(board):
        config = panel["fieldConfig"]
        units = [config["defaults"]["unit"]] + [
            prop["value"]
            for each in config["overrides"]
            for prop in each["properties"]
            if prop["id"] == "unit"
        ]
        assert set(units) <= UNITS, panel["title"]


@each_board
@pytest.mark.parametrize("label", ["job", "instance"])
def test_target_job_and_instance_matchers(board: Json, label: str) -> None:
    for panel, query in queries(board):
        for selector in selectors(query["expr"]):
            if HAVE_NO_JOB.match(selector.name):
                assert label not in selector.matchers, panel["title"]
            else:
                assert selector.matchers.get(label) == ("=~", f"${label}"), (panel["title"], selector.name)


@each_board
def test_target_rate_interval(board: Json) -> None:
    for panel, query in queries(board):
        for selector in selectors(query["expr"]):
            if selector.call in ("rate", "irate"):
                assert selector.window == "$__rate_interval", panel["title"]
            elif selector.window is not None:
                assert selector.window == "$__range", panel["title"]


@each_board
def test_a_job_that_is_scraped_every_two_minutes_has_rates(board: Json) -> None:
    """Grafana's $__rate_interval is four times the panel's interval, at least."""
    for panel in panels(board):
        has_rates = any("$__rate_interval" in target["expr"] for target in panel["targets"])
        assert panel.get("interval") == ("1m" if has_rates else None), panel["title"]


@each_board
def test_target_counters_are_aggregated(board: Json) -> None:
    for panel, query in queries(board):
        for selector in selectors(query["expr"]):
            if selector.name.endswith("_total"):
                assert selector.call in ("rate", "irate", "increase"), panel["title"]


@each_board
def test_board_is_uneditable(board: Json) -> None:
    assert board["editable"] is False


def test_the_reader_of_queries_sees_what_the_rules_are_about() -> None:
    """Names, matchers, windows and functions of selectors; no labels of clauses, no functions, no strings."""
    expr = (
        'sum by (a, job) (rate(x_total{job=~"$job",b="c{d}"}[5m])) / on (e) group_left () max(y:z) '
        'or label_replace(vector(0), "q", "$1", "r", "(.+)") > bool 3'
    )
    found = list(selectors(expr))
    assert [(each.name, each.window, each.call) for each in found] == [
        ("x_total", "5m", "rate"),
        ("y:z", None, "max"),
    ]
    assert found[0].matchers == {"job": ("=~", "$job"), "b": ("=", "c{d}")}


def test_target_promql_is_valid() -> None:
    """Prometheus itself takes every query, annotation and variable, and refuses one that is none."""
    with PrometheusServer() as prometheus:
        for board in BOARDS.values():
            for panel, query in queries(board):
                assert prometheus.query(interpolate(query["expr"])) is not None, panel["title"]
            for annotation in board["annotations"]["list"]:
                prometheus.query(interpolate(annotation["expr"]))
        with pytest.raises(QueryError, match="parse error"):
            prometheus.query("sum by (")

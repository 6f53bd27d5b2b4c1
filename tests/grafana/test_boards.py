"""The boards are what their source says, have the form that Grafana wants, and keep this project's habits."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import yaml

from exporter import own, scrape
from exporter.collectors import COLLECTORS, target
from grafana.generate import render_boards
from grafana.panels import BAD, GOOD, WARNING
from tests.grafana.boards import BOARDS, DASHBOARDS, Json, panels, queries, selectors
from tests.support.prometheus_server import CHECKOUT, RULES

DECLARED = {
    metric.name + suffix
    for metrics in (target.METRICS, scrape.METRICS, own.METRICS, *(each.metrics for each in COLLECTORS))
    for metric in metrics
    for suffix in (("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",))
}
RECORDED = {
    rule["record"]
    for path in RULES.glob("*.yaml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
# They say of whom a number is, and are no number that a panel shows.
ONLY_JOINED = {
    *(
        "guest:info",
        "guest:home:info",
        "hypervisor:target:info",
        "hypervisor_up",
        "hypervisor:resource:shared",
    ),
    # What a total has twice, because a storage is shared across groups, is subtracted.
    *(f"storage:resource:{word}" for word in ("physical", "used", "capacity", "claimed", "placeable")),
}
# Keys of Prometheus' plugin in annotations; the models know only the dashboard's own.
OF_THE_DATA_SOURCE = {"step", "titleFormat", "textFormat"}
OF_PROMETHEUS = {"up", "scrape_duration_seconds", "ALERTS"}

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))


def test_the_committed_boards_are_what_make_dashboards_writes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.iterdir()}
    assert committed == render_boards()


def test_the_boards_keep_their_address() -> None:
    """Links and bookmarks point at the uid; a board's version is raised with its content."""
    assert {uid: (board["uid"], board["version"]) for uid, board in BOARDS.items()} == {
        "hypervisor-overview": ("hypervisor-overview", 4),
        "hypervisor-detail": ("hypervisor-detail", 4),
        "hypervisor-guests": ("hypervisor-guests", 1),
        "hypervisor-right-sizing": ("hypervisor-right-sizing", 1),
    }


@each_board
def test_grafanas_own_models_lose_nothing_of_a_board(board: Json) -> None:
    """Read into typed models and written again, every key is there, but for a plugin's own."""
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="the SDK needs Python 3.11 or newer"
    )
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()
    again = json.loads(encoder.JSONEncoder(sort_keys=True).encode(models.Dashboard.from_json(board)))
    assert {place.rpartition(".")[2] for place in _lost(board, again)} <= OF_THE_DATA_SOURCE


_NOTHING = object()


def _lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the places where something of ours is missing or different."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [path]
        return [
            place
            for key, value in ours.items()
            for place in (
                [f"{path}.{key}"] if key not in theirs else _lost(value, theirs[key], f"{path}.{key}")
            )
        ]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [path]
        return [
            place
            for number, (one, other) in enumerate(zip(ours, theirs, strict=True))
            for place in _lost(one, other, f"{path}[{number}]")
        ]
    return [] if ours == theirs else [path]


@each_board
def test_a_board_is_provisioned_and_imported_as_it_is(board: Json) -> None:
    """Provisioning resolves no inputs, an id is one Grafana's own, and 11 and 12 take the schema."""
    assert not {"__inputs", "__requires", "id"} & set(board)
    assert 39 <= board["schemaVersion"] <= 41
    assert board["editable"] is False
    assert board["tags"] == ["hypervisor-exporter"]
    assert (board["timezone"], board["refresh"]) == ("browser", "30s")


@each_board
def test_every_panel_says_what_it_answers_and_from_which_metrics(board: Json) -> None:
    for panel in panels(board):
        assert "?" in panel["description"], panel["title"]
        for query in panel["targets"]:
            for selector in selectors(query["expr"]):
                if selector.name in ONLY_JOINED:
                    continue
                last = re.sub("^(cluster|hypervisor|storage):resource:|_bucket$", "", selector.name)
                assert last in panel["description"], (panel["title"], selector.name)


@each_board
def test_bytes_are_shown_in_binary_units(board: Json) -> None:
    """Nova's MB and GB are MiB and GiB."""
    decimal = {"decbytes", "decmbytes", "decgbytes", "kbytes", "deckbytes"}
    for panel in panels(board):
        config = panel["fieldConfig"]
        units = {config["defaults"]["unit"]} | {
            prop["value"]
            for each in config["overrides"]
            for prop in each["properties"]
            if prop["id"] == "unit"
        }
        assert not units & decimal, panel["title"]


@each_board
def test_every_metric_of_a_board_is_exported_or_recorded(board: Json) -> None:
    names = {selector.name for _, query in queries(board) for selector in selectors(query["expr"])}
    names |= {selector.name for each in board["annotations"]["list"] for selector in selectors(each["expr"])}
    assert names - DECLARED - RECORDED - OF_PROMETHEUS == set()


@each_board
def test_no_hypervisor_is_named_in_a_board(board: Json) -> None:
    """It grows by itself: which hypervisors there are, only variables say."""
    for _, query in queries(board):
        for selector in selectors(query["expr"]):
            _, value = selector.matchers.get("hypervisor_hostname", ("=~", "$"))
            assert value.startswith("$")


@each_board
def test_panels_do_not_overlap_and_fill_every_line(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height


def test_the_overview_answers_on_the_first_screen() -> None:
    """1600 x 900 pixels show 20 units of 38 below Grafana's own bars: the table's top, and all above."""
    table = next(panel for panel in BOARDS["hypervisor-overview"]["panels"] if panel["type"] == "table")
    assert table["gridPos"]["y"] <= 14


@each_board
def test_numbers_of_panels_are_unique(board: Json) -> None:
    """Links to a panel go by its number."""
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


# How much of red, green and blue reaches eyes that lack one kind of cone (Machado et al. 2009, severity 1.0).
_EYES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


@pytest.mark.parametrize("eyes", _EYES.values(), ids=list(_EYES))
def test_the_colours_of_thresholds_differ_for_all_eyes(eyes: tuple[tuple[float, ...], ...]) -> None:
    """Two colours that differ by more than 25 in CIELAB are told apart at a glance, side by side or not."""
    for one, other in itertools.combinations((GOOD, WARNING, BAD), 2):
        assert _distance(_seen(one, eyes), _seen(other, eyes)) > 25, (one, other)


def _seen(color: str, eyes: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """Return the colour in CIELAB as those eyes see it."""
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    red, green, blue = (
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in eyes
    )
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def _distance(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)


def test_provisioning_names_what_the_boards_want() -> None:
    """The provisioned data source is a Prometheus, and the boards' folder is read."""
    provisioning = CHECKOUT / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())
    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    providers = yaml.safe_load((provisioning / "dashboards" / "hypervisor-exporter.yaml").read_text())
    assert [provider["type"] for provider in providers["providers"]] == ["file"]
    compose = (CHECKOUT / "deploy" / "compose" / "compose.yaml").read_text()
    assert f"grafana/dashboards:{providers['providers'][0]['options']['path']}:ro" in compose

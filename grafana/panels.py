"""Panels: the parts of a dashboard, typed, and how they become Grafana's JSON.

Only what the boards use, with this project's habits as defaults: every panel has a description and a unit,
every query the data source variable, and every colour is one that a colour-blind person tells from the
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39  # Grafana 11's, which 12 migrates by itself
TAG = "hypervisor-exporter"

# The colours differ in hue and in brightness, also for colour-blind people. tests/grafana checks it.
GOOD = "#5794F2"
WARNING = "#F2A93B"
BAD = "#C4254D"
NEUTRAL = "text"

BLUE, ORANGE, GREY, PINK, GREEN = "#56B4E9", "#E69F00", "#8E8E8E", "#CC79A7", "#009E73"

_COLUMNS = 24
# $__rate_interval is four times as long. So a job that is scraped every two minutes has numbers, whatever the
# data source has been told.
_MIN_STEP = "1m"


@dataclass(frozen=True, kw_only=True)
class Query:
    """A PromQL query.

    :param legend: the name of a series, with `{{label}}`
    :param over_time: whether it is asked for the whole time range, or for its end only
    :param as_table: whether labels become columns and samples rows
    """

    expr: str
    legend: str = "__auto"
    over_time: bool = False
    as_table: bool = False

    def to_json(self, ref_id: str) -> Json:
        """Return Grafana's target."""
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "format": "table" if self.as_table else "time_series",
            "instant": not self.over_time,
            "range": self.over_time,
            "legendFormat": self.legend,
            "refId": ref_id,
        }


@dataclass(frozen=True, kw_only=True)
class Override:
    """What is different for the fields of one name.

    :param names: a field's display name, or a regular expression between slashes
    """

    name: str
    properties: Json

    def to_json(self) -> Json:
        """Return Grafana's override."""
        matcher = "byRegexp" if self.name.startswith("/") else "byName"
        return {
            "matcher": {"id": matcher, "options": self.name},
            "properties": [{"id": key, "value": value} for key, value in self.properties.items()],
        }


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel of any type.

    :param description: which question it answers, and by which metric
    :param width: of the board's 24 columns
    :param height: in units of 38 pixels
    """

    type: Literal["stat", "gauge", "bargauge", "table", "timeseries"]
    title: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int
    unit: str
    defaults: Json = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    options: Json = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    max_data_points: int | None = None

    def to_json(self, panel_id: int, x: int, y: int) -> Json:
        """Return Grafana's panel at that place of the grid."""
        targets = [query.to_json(_ref_id(number)) for number, query in enumerate(self.queries)]
        panel: Json = {
            "id": panel_id,
            "type": self.type,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {
                "defaults": {"unit": self.unit, **self.defaults},
                "overrides": [override.to_json() for override in self.overrides],
            },
            "options": self.options,
            "targets": targets,
            "transformations": list(self.transformations),
        }
        if any("$__rate_interval" in query.expr for query in self.queries):
            panel["interval"] = _MIN_STEP
        if self.max_data_points is not None:
            panel["maxDataPoints"] = self.max_data_points
        return panel


@dataclass(frozen=True, kw_only=True)
class Section:
    """A titled part of a board: lines of panels, each line as high as its panels.

    :param title: nothing for what stands at the top, above any title
    """

    title: str | None
    lines: Sequence[Sequence[Panel]]


def lay_out(sections: Iterable[Section]) -> list[Json]:
    """Return the panels of all sections, each with its place and number.

    :raises ValueError: when a line is not exactly as wide as the board, or its panels differ in height
    """
    panels: list[Json] = []
    y = 0
    for section in sections:
        if section.title is not None:
            panels.append(_row(section.title, panel_id=len(panels) + 1, y=y))
            y += 1
        for line in section.lines:
            if sum(panel.width for panel in line) != _COLUMNS or len({panel.height for panel in line}) != 1:
                raise ValueError(f"the line of {line[0].title!r} is no rectangle of {_COLUMNS} columns")
            x = 0
            for panel in line:
                panels.append(panel.to_json(len(panels) + 1, x, y))
                x += panel.width
            y += line[0].height
    return panels


def thresholds(*steps: tuple[float, str], below: str = GOOD) -> Json:
    """Return thresholds: each colour from its value on, and `below` before the first."""
    return {
        "mode": "absolute",
        "steps": [{"color": below, "value": None}, *({"color": c, "value": v} for v, c in steps)],
    }


SHARE_THRESHOLDS = thresholds((0.75, WARNING), (0.9, BAD))


def fixed(color: str) -> Json:
    """Return a field's colour that does not depend on its value."""
    return {"mode": "fixed", "fixedColor": color}


def value_words(words: dict[str, tuple[str, str]]) -> list[Json]:
    """Return mappings: each value's word and colour."""
    return [
        {
            "type": "value",
            "options": {
                value: {"text": text, "color": color, "index": index}
                for index, (value, (text, color)) in enumerate(words.items())
            },
        }
    ]


def reduced(*, rows: bool = False) -> Json:
    """Return which values of the answer are shown: each series' last one, or every row of a table."""
    return {"values": rows, "calcs": ["lastNotNull"], "fields": ""}


def stat_options(
    *,
    color_mode: Literal["value", "background_solid", "none"] = "value",
    text_mode: Literal["auto", "name", "value_and_name"] = "value_and_name",
    orientation: Literal["auto", "horizontal", "vertical"] = "auto",
    value_size: int | None = None,
    title_size: int | None = 13,
) -> Json:
    """Return the options of a stat panel."""
    sizes = {"titleSize": title_size, "valueSize": value_size}
    return {
        "reduceOptions": reduced(),
        "colorMode": color_mode,
        "graphMode": "none",
        "textMode": text_mode,
        "orientation": orientation,
        "justifyMode": "center",
        "wideLayout": False,
        "text": {name: size for name, size in sizes.items() if size is not None},
    }


def bar_options(
    *,
    orientation: Literal["horizontal", "vertical"] = "horizontal",
    rows: bool = False,
    max_height: int | None = None,
) -> Json:
    """Return the options of a panel of bars.

    :param max_height: of a bar in pixels, where there may be one only; else they fill the panel
    """
    return {
        "reduceOptions": reduced(rows=rows),
        "orientation": orientation,
        "displayMode": "basic",
        "valueMode": "text",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto" if max_height is None else "manual",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 300 if max_height is None else max_height,
    }


def legend(*calcs: str, placement: Literal["bottom", "right"] = "bottom") -> Json:
    """Return the options of a graph: a table with those figures, or a list of the names."""
    return {
        "legend": {
            "showLegend": True,
            "displayMode": "table" if calcs else "list",
            "placement": placement,
            "calcs": list(calcs),
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def line_style(**more: Any) -> Json:
    """Return how the lines of a graph are drawn."""
    return {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 2,
        "fillOpacity": 0,
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        **more,
    }


def bar_style() -> Json:
    """Return the style of bars over time, for what happens now and then. They stand on one another."""
    stacking = {"mode": "normal", "group": "A"}
    return line_style(drawStyle="bars", fillOpacity=60, lineWidth=0, stacking=stacking)


def _ref_id(number: int) -> str:
    return chr(ord("A") + number)


def _row(title: str, *, panel_id: int, y: int) -> Json:
    return {
        "id": panel_id,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
        "panels": [],
    }

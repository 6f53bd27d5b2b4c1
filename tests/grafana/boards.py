"""The committed boards as tests look at them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

DASHBOARDS = Path(__file__).resolve().parents[2] / "grafana" / "dashboards"
BOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))
}

_WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "inf",
    "nan",
}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"(?<![\w:$.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\[[^\]]*\])?(?![\w:]|\s*\()")
_MATCHER = re.compile(r"([\w$]+)\s*(=~|!~|!=|=)\s*@(\d+)@")


class Selector:
    """A metric in a query.

    :ivar name: the metric's
    :ivar matchers: label -> (operator, value)
    :ivar window: what stands in brackets, None for an instant vector
    :ivar call: the function that it is the argument of
    """

    def __init__(self, name: str, matchers: Mapping[str, tuple[str, str]], window: str | None, call: str):
        self.name = name
        self.matchers = matchers
        self.window = window
        self.call = call

    @property
    def is_recorded(self) -> bool:
        """Whether a recording rule makes it: those names have colons."""
        return ":" in self.name


def selectors(expr: str) -> Iterator[Selector]:
    """Yield the selectors of a PromQL query, which is known to be valid."""
    strings: list[str] = []

    def put_away(match: re.Match[str]) -> str:
        strings.append(match[0][1:-1])
        return f"@{len(strings) - 1}@"

    bare = _CLAUSE.sub("", _STRING.sub(put_away, expr))
    for match in _SELECTOR.finditer(bare):
        name, braces, window = match.groups()
        if name in _WORDS or (
            braces is None and bare[: match.start()].count("{") > bare[: match.start()].count("}")
        ):
            continue
        found = {label: (op, strings[int(index)]) for label, op, index in _MATCHER.findall(braces or "")}
        before = re.search(r"(\w+)\s*\($", bare[: match.start()])
        yield Selector(name, found, window and window[1:-1], before[1] if before else "")


def panels(board: Json) -> list[Json]:
    """Return a board's panels without the titles of its sections."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Json) -> list[tuple[Json, Json]]:
    """Return every query of a board with its panel."""
    return [(panel, target) for panel in panels(board) for target in panel["targets"]]


def interpolate(text: str, **values: str) -> str:
    """Return the text as Grafana would send it, with everything chosen."""
    chosen = {
        "job": ".+",
        "instance": ".+",
        "group_label": "zone",
        "group": ".*",
        "hypervisor": ".*",
        "fullest": ".*",
        "waiting": ".*",
        "flavor": "m1.small",
        "project": ".*",
        "guest": "instance-00000001",
        "__rate_interval": "1m",
        "__range": "1h",
        **values,
    }
    return re.sub(r"\$([a-z_]+)", lambda match: chosen[match[1]], text)

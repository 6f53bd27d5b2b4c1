"""The parts that both dashboards share: variables, annotations, links, refresh."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grafana.panels import DATASOURCE, SCHEMA_VERSION, TAG, Json, Section, lay_out

# The address of the runbooks; links add the alert's name to it. Grafana resolves no relative addresses, so
# `make dashboards RUNBOOKS=https://...` sets the address of your copy of docs/runbooks.
RUNBOOKS = "https://example.org/hypervisor-exporter/docs/runbooks"

_ALL = {"selected": True, "text": ["All"], "value": ["$__all"]}

DATASOURCE_VARIABLE: Json = {
    "name": "datasource",
    "label": "Data source",
    "description": "The Prometheus that scrapes the exporters and has the recording rules.",
    "type": "datasource",
    "query": "prometheus",
    "regex": "",
    "refresh": 1,
    "hide": 0,
    "multi": False,
    "includeAll": False,
    "current": {},
    "options": [],
}


def query_variable(
    name: str,
    label: str,
    query: str,
    *,
    description: str,
    all_value: str | None = None,
    multi: bool = True,
    hide: int = 0,
    regex: str = "",
) -> Json:
    """Return a variable whose values Prometheus tells, again with every change of the time range.

    :param all_value: the regular expression that stands for all of them; None lists them one by one
    """
    variable: Json = {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "regex": regex,
        "refresh": 2,
        "sort": 7,
        "hide": hide,
        "multi": multi,
        "includeAll": multi,
        "current": _ALL if multi else {},
        "options": [],
    }
    if all_value is not None:
        variable["allValue"] = all_value
    return variable


JOB_VARIABLE = query_variable(
    "job",
    "Job",
    "label_values(hypervisor_up, job)",
    description=(
        "Scrape jobs of the exporters. The recorded series of hypervisors have no job: each hypervisor "
        "is counted once."
    ),
    all_value=".+",
)
INSTANCE_VARIABLE = query_variable(
    "instance",
    "Instance",
    'label_values(hypervisor_up{job=~"$job"}, instance)',
    description=(
        "Exporters. The recorded series of hypervisors have no instance: each hypervisor is counted once."
    ),
    all_value=".+",
)


def custom_variable(name: str, label: str, values: Sequence[str], *, description: str) -> Json:
    """Return a variable of a few values; any other may be typed in."""
    options = [{"selected": value == values[0], "text": value, "value": value} for value in values]
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "custom",
        "query": ",".join(values),
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "allowCustomValue": True,
        "current": {"selected": True, "text": values[0], "value": values[0]},
        "options": options,
    }


def constant_variable(name: str, value: str) -> Json:
    """Return a hidden variable that never changes."""
    return {
        "name": name,
        "type": "constant",
        "query": value,
        "hide": 2,
        "current": {"selected": True, "text": value, "value": value},
        "options": [],
    }


def annotation(name: str, expr: str, *, color: str, title: str, text: str) -> Json:
    """Return marks in all graphs where the query has a value."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "60s",
        "titleFormat": title,
        "textFormat": text,
    }


def board(
    *,
    uid: str,
    version: int,
    title: str,
    description: str,
    variables: Iterable[Json],
    annotations: Iterable[Json],
    sections: Iterable[Section],
) -> Json:
    """Return a dashboard as Grafana imports and provisions it."""
    return {
        "uid": uid,
        "version": version,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "annotations": {"list": list(annotations)},
        "links": _links(),
        "templating": {"list": list(variables)},
        "panels": lay_out(sections),
    }


def _links() -> list[Json]:
    common = {"icon": "external link", "includeVars": False, "asDropdown": False, "tooltip": ""}
    return [
        {
            **common,
            "type": "dashboards",
            "title": "Boards",
            "tags": [TAG],
            "url": "",
            "keepTime": True,
            "includeVars": True,
            "targetBlank": False,
        },
        {
            **common,
            "type": "link",
            "title": "Runbooks",
            "tags": [],
            "url": "${runbooks}",
            "keepTime": False,
            "targetBlank": True,
            "tooltip": "What each alert means and what to do about it",
            "icon": "doc",
        },
    ]

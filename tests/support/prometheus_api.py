"""What Prometheus' HTTP API answers; VictoriaMetrics and vmalert have the same."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any


class QueryError(Exception):
    """Prometheus refuses a query; the message is its own."""


class PrometheusApi:
    """The API of one server.

    :ivar url: where it is, without a slash at the end
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """Return the samples of an instant query.

        :raises QueryError: when Prometheus refuses it
        """
        return self._ask("query", {"query": expr, "time": time.time() if at is None else at})

    def query_range(self, expr: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of a range query.

        :raises QueryError: when Prometheus refuses it
        """
        return self._ask("query_range", {"query": expr, "start": start, "end": end, "step": step})

    def ask(self, path: str) -> Any:
        """Return what one of the other endpoints of its API says, such as `rules`."""
        return self._get(path, {})

    def values_of(self, label: str, selector: str = "") -> list[str]:
        """Return a label's values, as a dashboard's variable asks for them."""
        parameters = {"match[]": selector} if selector else {}
        found: list[str] = self._get(f"label/{label}/values", parameters)
        return found

    def _ask(self, path: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = self._get(path, parameters)
        result = answer["result"]
        return [{"metric": {}, "value": result}] if answer["resultType"] in ("scalar", "string") else result

    def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        url = f"{self.url}/api/v1/{path}"
        body = urllib.parse.urlencode(parameters)
        try:
            if path.startswith("query"):
                request = urllib.request.Request(url, data=body.encode())  # a long query fits no address
            else:
                request = urllib.request.Request(f"{url}?{body}")
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise QueryError(json.load(error)["error"]) from error

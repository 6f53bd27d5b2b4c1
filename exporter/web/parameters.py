"""What a request asks for in its query and headers: parameters, and how long a scrape may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from urllib.parse import parse_qs

from exporter.web.messages import BadRequestError, Request

# Prometheus measures its timeout itself. This much of it is left for rendering and the network.
SCRAPE_TIMEOUT_MARGIN_SECONDS = 0.5
# A client that promises less waits for this long all the same.
MIN_SCRAPE_TIMEOUT_SECONDS = 0.25
SCRAPE_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"


def parse_parameters(request: Request) -> dict[str, list[str]]:
    """Return the values of each parameter of the query, by its name.

    :raises BadRequestError: if there are too many
    """
    try:
        return parse_qs(request.query, keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise BadRequestError("too many parameters") from error


def get_one(parameters: Mapping[str, list[str]], name: str) -> str:
    """Return the parameter's value, or an empty text if it is not given.

    :raises BadRequestError: if it has several
    """
    values = parameters.get(name, [""])
    if len(values) > 1:
        raise BadRequestError(f"the parameter {name} is given more than once")
    return values[0]


def scrape_timeout(headers: Mapping[str, str], upper_bound: float) -> float:
    """Return how many seconds a scrape may take: Prometheus' header minus a margin, within bounds.

    A header that is not a positive number is ignored.

    :param upper_bound: the most; also where there is no header
    """
    try:
        promised = float(headers.get(SCRAPE_TIMEOUT_HEADER, ""))
    except ValueError:
        return upper_bound
    if not math.isfinite(promised) or promised <= 0:
        return upper_bound
    margin = min(SCRAPE_TIMEOUT_MARGIN_SECONDS, promised / 2)
    return min(upper_bound, max(MIN_SCRAPE_TIMEOUT_SECONDS, promised - margin))

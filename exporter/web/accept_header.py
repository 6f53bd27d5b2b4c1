"""The headers `Accept` and `Accept-Encoding`: what a client accepts, and what it refuses."""

from __future__ import annotations


def parse_weights(header: str) -> dict[str, float]:
    """Return each name in the header, in lower case, with its weight (RFC 9110, 12.4.2); 0 refuses it.

    If a name is there several times, with different parameters, its highest weight counts.
    """
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = max(weights.get(name, 0.0), _weigh(parameters))
    return weights


def _weigh(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return float(value.strip().strip('"'))
            except ValueError:
                return 1.0
    return 1.0

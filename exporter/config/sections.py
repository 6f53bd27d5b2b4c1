"""Sections of a strict YAML file: the allowed keys, and their values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from exporter.config.mistakes import Mistakes
from exporter.config.strict_yaml import Item
from exporter.deprecation import Deprecation


class Readable(Protocol):
    """A declared key."""

    @property
    def deprecated(self) -> Deprecation | None:
        """Since when it is deprecated, and what takes its place."""

    def read(self, item: Item) -> object:
        """Return the value.

        :raises ConfigError: if it is not of the key's kind
        """


def suggest_nearest(unknown: str, known: Iterable[str]) -> str:
    """Suggest the most similar key."""
    for candidate in difflib.get_close_matches(unknown, known, n=1):
        return f"did you mean {candidate}?"
    return f"expected one of {', '.join(known)}"


def read_mapping(
    item: Item,
    known: Iterable[str],
    mistakes: Mistakes,
    *,
    suggest: Callable[[str, Iterable[str]], str] = suggest_nearest,
) -> dict[str, Item]:
    """Return a mapping's entries; none if it is empty. Each unknown key is a mistake.

    :param suggest: suggests a known key for an unknown one
    """
    if item.value is None:
        return {}
    if not isinstance(item.value, dict):
        mistakes.add(item.place, f"found {item.describe()}, expected a mapping")
        return {}
    for name, child in item.value.items():
        if name not in known:
            mistakes.add(child.place, f"unknown key, {suggest(name, known)}")
    return item.value


def read_keys(items: Mapping[str, Item], keys: Mapping[str, Readable], mistakes: Mistakes) -> dict[str, Any]:
    """Return the values of the present keys, by name. A value of the wrong kind is a mistake.

    A deprecated key is a warning.
    """
    values: dict[str, Any] = {}
    for name, key in keys.items():
        if name not in items:
            continue
        if key.deprecated is not None:
            mistakes.warn(items[name].place, str(key.deprecated))
        with mistakes.collected():
            values[name] = key.read(items[name])
    return values

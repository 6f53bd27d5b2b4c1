"""Nova's groups [mdev_TYPE]: which cards have a type of mediated devices, how many, and of which class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from exporter.config import kinds
from exporter.config.kinds import Kind
from exporter.config.mistakes import Mistakes
from exporter.config.sections import read_keys, read_mapping
from exporter.config.strict_yaml import Item
from exporter.deprecation import Deprecation
from exporter.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MdevTypeConfig:
    """What Nova's group of one type says. Names are Nova's."""

    name: str  # "nvidia-35"
    device_addresses: tuple[str, ...] = ()  # of the cards with this type; none if it is the default type
    max_instances: int | None = None  # how many there may be on the host
    mdev_class: str = "VGPU"


@dataclass(frozen=True, slots=True)
class _Field:
    """A key of a type."""

    kind: Kind[Any]
    is_list: bool = False
    deprecated: Deprecation | None = None

    def read(self, item: Item) -> object:
        """Return the value; a list for one or several.

        :raises ConfigError: if it is not of the key's kind
        """
        if not self.is_list:
            return _read(item, self.kind)
        items = item.value if isinstance(item.value, tuple) else (item,)
        mistakes = Mistakes()
        values = []
        for each in items:
            with mistakes.collected():
                values.append(_read(each, self.kind))
        mistakes.raise_if_any()
        return tuple(values)


MDEV_TYPE_KEYS: Mapping[str, _Field] = MappingProxyType(
    {
        "name": _Field(kinds.NAME),
        "device_addresses": _Field(kinds.MDEV_ADDRESS, is_list=True),
        "max_instances": _Field(kinds.POSITIVE_COUNT),
        "mdev_class": _Field(kinds.MDEV_CLASS),
    }
)


@dataclass(frozen=True, slots=True)
class MdevTypesKey:
    """A key of the configuration file that takes a list of types of mediated devices."""

    meaning: str
    deprecated: Deprecation | None = None

    @property
    def expected(self) -> str:
        """The text after "expected"."""
        return f"a list of types, each with {', '.join(MDEV_TYPE_KEYS)}"

    def read(self, item: Item) -> tuple[MdevTypeConfig, ...]:
        """Return the written types, none for null or an empty list.

        :raises ConfigError: with every mistake in them
        """
        if item.value is None:
            return ()
        if not isinstance(item.value, tuple):
            raise ConfigError([f"{item.place}: found {item.describe()}, expected {self.expected}"])
        mistakes = Mistakes()
        types: list[MdevTypeConfig] = []
        for child in item.value:
            values = read_keys(read_mapping(child, MDEV_TYPE_KEYS, mistakes), MDEV_TYPE_KEYS, mistakes)
            if not isinstance(child.value, dict):
                continue
            if "name" not in child.value:
                mistakes.add(child.place, f"found no name, expected {kinds.NAME.expected}")
            elif any(each.name == values.get("name") for each in types):
                mistakes.add(child.place, f"found {values['name']} twice, expected it once")
            types.append(MdevTypeConfig(**{"name": "", **values}))
        mistakes.raise_if_any()
        return tuple(types)


def _read(item: Item, kind: Kind[Any]) -> Any:
    try:
        return kind.read(item.value, item.describe())
    except ValueError as error:
        raise ConfigError([f"{item.place}: {error}"]) from error

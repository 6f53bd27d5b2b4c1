"""Keys of the configuration file: what a record declares of each of its fields that is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporter.config import kinds
from exporter.config.kinds import Kind
from exporter.config.mistakes import Mistakes
from exporter.config.strict_yaml import Item
from exporter.deprecation import Deprecation
from exporter.errors import ConfigError
from exporter.model import DeviceClass


def read_item(item: Item, kind: Kind[Any]) -> Any:
    """Return the written value as a value of this kind.

    :raises ConfigError: saying where, what was found and what was expected
    """
    try:
        return kind.read(item.value, item.describe())
    except ValueError as error:
        raise ConfigError([f"{item.place}: {error}"]) from error


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration file: its kind, and its meaning in one sentence.

    `nova_group` is the group of Nova's option of the same name, if the key's value may come from nova.conf.
    """

    kind: Kind[Any]
    meaning: str
    nullable: bool = False
    nova_group: str | None = None
    deprecated: Deprecation | None = None

    @property
    def expected(self) -> str:
        """The text after "expected"."""
        return f"{self.kind.expected}, or null" if self.nullable else self.kind.expected

    def read(self, item: Item) -> object:
        """Return the value.

        :raises ConfigError: if it is not of the key's kind
        """
        if item.value is None and self.nullable:
            return None
        return read_item(item, self.kind)


@dataclass(frozen=True, slots=True)
class ListKey:
    """A key of the configuration file with one value or a list of different values.

    `nova_group` is as in `Key`. With `may_repeat`, the list may have a value twice.
    """

    kind: Kind[Any]
    meaning: str
    nullable: bool = False
    may_repeat: bool = False
    nova_group: str | None = None
    deprecated: Deprecation | None = None

    @property
    def expected(self) -> str:
        """The text after "expected"."""
        return f"{self.kind.expected}, or a list of these" + (", or null" if self.nullable else "")

    def read(self, item: Item) -> tuple[object, ...]:
        """Return the written values, none for null or an empty list.

        :raises ConfigError: if one is not of the key's kind or is there twice, or if there has to be one
        """
        if item.value is None and self.nullable:
            return ()
        if not isinstance(item.value, tuple):
            return (read_item(item, self.kind),)
        if not item.value and not self.nullable:
            raise ConfigError([f"{item.place}: found an empty list, expected {self.kind.expected}"])
        return self._read_items(item.value)

    def _read_items(self, items: tuple[Item, ...]) -> tuple[object, ...]:
        values: list[object] = []
        mistakes = Mistakes()
        for item in items:
            with mistakes.collected():
                value = read_item(item, self.kind)
                if value in values and not self.may_repeat:
                    mistakes.add(item.place, f"found {item.describe()} twice, expected it once")
                values.append(value)
        mistakes.raise_if_any()
        return tuple(values)


@dataclass(frozen=True, slots=True)
class NovaOnly:
    """A value that is no key of the file, but comes from Nova's option of the same name in nova.conf."""

    kind: Kind[Any]
    nova_group: str


@dataclass(frozen=True, slots=True)
class LabelsKey:
    """A key of the configuration file that takes labels: the administrator chooses their names.

    :param reserved: the names that metrics have already; a target label of that name would rename theirs
    """

    meaning: str
    reserved: frozenset[str] = frozenset()
    deprecated: Deprecation | None = None

    @property
    def expected(self) -> str:
        """The text after "expected"."""
        return "labels such as {zone: a}"

    def read(self, item: Item) -> tuple[tuple[str, str], ...]:
        """Return the written labels, sorted by name, none if it is empty.

        :raises ConfigError: if one is not a label, or has a reserved name
        """
        if item.value is None:
            return ()
        if not isinstance(item.value, dict):
            raise ConfigError([f"{item.place}: found {item.describe()}, expected {self.expected}"])
        labels: list[tuple[str, str]] = []
        mistakes = Mistakes()
        for name, child in item.value.items():
            with mistakes.collected():
                label = read_item(Item(child.place, name), kinds.LABEL_NAME)
                labels.append((label, read_item(child, kinds.LABEL_VALUE)))
                if label in self.reserved:
                    mistakes.add(
                        child.place,
                        f"found {Item(child.place, name).describe()}, expected {kinds.LABEL_NAME.expected}"
                        " (the exporter's own metrics or Prometheus use that one)",
                    )
        mistakes.raise_if_any()
        return tuple(sorted(labels))


@dataclass(frozen=True, slots=True)
class ResourcesKey:
    """A key of the configuration file that takes amounts of devices by their resource class."""

    meaning: str
    deprecated: Deprecation | None = None

    @property
    def expected(self) -> str:
        """The text after "expected"."""
        return "devices by resource class such as {VGPU: 1}"

    def read(self, item: Item) -> tuple[tuple[DeviceClass, int], ...]:
        """Return the written amounts, none if it is empty.

        :raises ConfigError: if one is not a class of devices, or no amount
        """
        if item.value is None:
            return ()
        if not isinstance(item.value, dict):
            raise ConfigError([f"{item.place}: found {item.describe()}, expected {self.expected}"])
        amounts: list[tuple[DeviceClass, int]] = []
        mistakes = Mistakes()
        for name, child in item.value.items():
            with mistakes.collected():
                device_class = DeviceClass(read_item(Item(child.place, name), kinds.DEVICE_CLASS))
                amounts.append((device_class, read_item(child, kinds.POSITIVE_COUNT)))
        mistakes.raise_if_any()
        return tuple(sorted(amounts))

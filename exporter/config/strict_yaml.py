"""Strict YAML: every value has its place in the file, and nothing is guessed silently.

These are refused, because each can hide a mistake or worse: a key written twice (PyYAML keeps the last),
anchors and aliases (a few lines can expand to gigabytes), tags, several documents in one file. Numbers with a
special meaning in YAML 1.1 (010 is 8, 1:30 is 90, 1_0 is 10) are not numbers here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from exporter.config.files import read_file
from exporter.config.libvirt_uri import quote
from exporter.config.mistakes import Mistakes

# Deeper than any configuration, but not too deep for PyYAML's recursive composer.
_MAX_DEPTH = 16

# A float has 15 exact digits, and a sample is a float.
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,14})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w.-]{1,60}", re.ASCII)

_TAG_PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a value. The line that reports a mistake begins with it."""

    source: str  # "config.yaml:3", or "--log.level"
    path: str = ""  # "hypervisors[1].uri"; empty for the whole document and for a flag

    def __str__(self) -> str:
        return f"{self.source}: {self.path}" if self.path else self.source


@dataclass(frozen=True, slots=True)
class Other:
    """A scalar that no key accepts, such as a date."""

    text: str
    kind: str  # "date"


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its place."""

    place: Place
    value: str | int | float | bool | Other | tuple[Item, ...] | dict[str, Item] | None

    def describe(self) -> str:
        """Return a description such as "'four' (text)" or "a list", without a password."""
        match self.value:
            case None:
                return "nothing"
            case bool():
                return f"{str(self.value).lower()} (boolean)"
            case str():
                return f"{quote(self.value)} (text)"
            case Other(text, kind):
                return f"{quote(text)[1:-1]} ({kind})"
            case tuple():
                return "a list"
            case dict():
                return "a mapping"
        return f"{self.value} (number)"


def read_yaml(path: Path, mistakes: Mistakes) -> Item:
    """Read a YAML file. A file that cannot be read gives an empty document, like an empty file."""
    source = str(path)
    text = _read_text(path, mistakes)
    return _build(_compose(text, source, mistakes), source, mistakes)


def _read_text(path: Path, mistakes: Mistakes) -> str:
    try:
        return read_file(path).decode("utf-8-sig")
    except OSError as error:
        mistakes.add(path, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"found the byte 0x{error.object[error.start]:02x}"
        mistakes.add(f"{path}:{line}", f"{found}, expected UTF-8")
    return ""


def _compose(text: str, source: str, mistakes: Mistakes) -> yaml.Node | None:
    try:
        forbidden = list(_find_forbidden(text, source))
        for place, mistake in forbidden:
            mistakes.add(place, mistake)
        return None if forbidden else yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"found the character U+{ord(text[error.position]):04X}"
        mistakes.add(f"{source}:{line}", f"not YAML: {found}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        mistakes.add(f"{source}{position}", f"not YAML: {error.problem or error.context}")
    except (ValueError, OverflowError):
        # PyYAML passes the number in an escape such as "\UFFFFFFFF" to chr() without a check.
        mistakes.add(source, "not YAML: found an escape or a number that is out of bounds")
    return None


def _find_forbidden(text: str, source: str) -> Iterator[tuple[str, str]]:
    """Return what is not allowed, each with its place.

    It reads the file's events before it is composed: events need no recursion and expand nothing.
    """
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{source}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                yield place, "found a second document, expected one"
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            yield place, "found an anchor or alias (& or *), expected every value to be written out"
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            yield place, "found a tag (!), expected a plain value"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            yield place, f"found more than {_MAX_DEPTH} values inside one another"
            return


def _build(root: yaml.Node | None, source: str, mistakes: Mistakes) -> Item:
    """Turn PyYAML's nodes into items."""

    def build(node: yaml.Node, place: Place) -> Item:
        if isinstance(node, yaml.SequenceNode):
            return Item(place, tuple(build_list(node, place)))
        if isinstance(node, yaml.MappingNode):
            return Item(place, build_mapping(node, place))
        return Item(place, _read_scalar(node))

    def build_list(node: yaml.SequenceNode, place: Place) -> Iterator[Item]:
        for index, child in enumerate(node.value):
            yield build(child, Place(line_of(child), f"{place.path}[{index}]"))

    def build_mapping(node: yaml.MappingNode, place: Place) -> dict[str, Item]:
        entries: dict[str, Item] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                mistakes.add(Place(line_of(key), place.path), "found a list or mapping as a key")
                continue
            # The key's line is used for the value, which may begin on a later line.
            child_place = Place(line_of(key), join_path(place.path, key.value))
            if key.value in entries:
                first = entries[key.value].place.source.rpartition(":")[2]
                mistakes.add(child_place, f"written twice, first on line {first}")
                continue
            entries[key.value] = build(child, child_place)
        return entries

    def line_of(node: yaml.Node) -> str:
        return f"{source}:{node.start_mark.line + 1}"

    if root is None:
        return Item(Place(source), None)
    return build(root, Place(line_of(root)))


def join_path(parent: str, key: str) -> str:
    """Return the path of a key. Quote a key that could be misread, or contain a password."""
    written = key if _PLAIN_KEY.fullmatch(key) else quote(key)
    return f"{parent}.{written}" if parent else written


def _read_scalar(node: yaml.Node) -> str | int | float | bool | Other | None:
    text: str = node.value
    match node.tag.removeprefix(_TAG_PREFIX):
        case "null":
            return None
        case "bool":
            return bool(yaml.SafeLoader.bool_values[text.lower()])
        case "int":
            return int(text) if _INTEGER.fullmatch(text) else Other(text, "number")
        case "float":
            return float(text) if _FLOAT.fullmatch(text) else Other(text, "number")
        case "timestamp":
            return Other(text, "date")
    return text

"""Files in the dialect of oslo.config, such as nova.conf, alone or several together.

In one file (oslo_config.iniparser): a line that begins with a blank continues the value before it, even where
it looks like a comment; `=` and `:` both assign; one pair of quotes around a value is dropped; of an option
written twice the last one counts. Names of groups are alike in upper and lower case, but for DEFAULT; names
of options are not.

Of several files (oslo_config.cfg): an option that a later file sets is not looked for in the earlier ones,
even where the later one uses an older name of it. The values of an option that may be set several times add
up. `$option`, `${group.option}` and `$$` in a value are replaced, whichever file sets the other option.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from exporter.config.files import find_encoding, read_file
from exporter.config.kinds import Kind
from exporter.config.libvirt_uri import quote
from exporter.config.mistakes import Mistakes
from exporter.model import Ignored

T = TypeVar("T")

_REFERENCE = re.compile(r"\$(?:(\$)|([_a-z][._a-z0-9]*)|\{([_a-z][._a-z0-9]*)\})", re.IGNORECASE | re.ASCII)
_MAX_REFERENCE_DEPTH = 10
# The limit of all references together. A few lines that refer to each other several times multiply.
_MAX_EXPANDED_CHARACTERS = 100_000
# These options exist only in [DEFAULT]. Written into another group, they are not found by a reference, as in
# oslo.config.
_ONLY_IN_DEFAULT = frozenset({"my_ip", "host", "state_path", "instances_path"})


class Option(NamedTuple):
    """The name of an option, as in `[libvirt] virt_type`."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"[{self.group}] {self.name}"


class _Setting(NamedTuple):
    lines: list[str]  # the value as written, with its references, and the continuation lines
    file: str
    line: int
    earlier: _Setting | None = None  # the one of the same name before it; only some options still use it

    @property
    def value(self) -> str:
        """The value as written. Continuation lines come after line ends."""
        return "\n".join(self.lines)


class _UnknownReferenceError(Exception):
    """A value refers to an option that is not set."""


class _CircularReferenceError(Exception):
    """A value refers to itself, directly or through others."""


class _EndlessReferencesError(Exception):
    """The references multiply: replaced, they have more than _MAX_EXPANDED_CHARACTERS."""


def list_files(paths: Iterable[Path], mistakes: Mistakes) -> Iterator[Path]:
    """Yield the files in the order in which they are read: a folder stands for its *.conf, by name.

    As in oslo.config a hidden file does not count, and what is named twice is read twice.
    """
    for path in paths:
        yield from _list_path(path, mistakes)


def _list_path(path: Path, mistakes: Mistakes) -> Sequence[Path]:
    try:
        return list_folder(path) if path.is_dir() else [path]
    except OSError as error:
        mistakes.add(path, f"cannot be read: {error.strerror}")
        return ()


def list_folder(folder: Path, end: str = ".conf") -> list[Path]:
    """Return the files of a folder that count, by name.

    :param end: of their names
    :raises OSError: if it cannot be read
    """
    names = sorted(each.name for each in folder.iterdir())
    return [folder / name for name in names if name.endswith(end) and not name.startswith(".")]


class ConfFiles:
    """Files while their options are read, the last one of the highest rank.

    :ivar mistakes: what is wrong in them
    :ivar ignored: what is valid but not supported
    """

    def __init__(self, files: Sequence[Path], mistakes: Mistakes) -> None:
        self.mistakes = mistakes
        self.ignored: list[Ignored] = []
        self._files = [_parse_file(file, mistakes) for file in files]
        self._expanded_characters = 0  # by all references until now
        self._is_endless = False

    def has(self, option: Option) -> bool:
        """Return whether an option is set. Blanks alone are no value to Nova."""
        setting = self._find_setting((option,))
        return setting is not None and bool(setting[1].value.strip())

    def read(self, option: Option, kind: Kind[T], *, older: Sequence[Option] = ()) -> T | None:
        """Return an option's value; None if it is unset, or wrong, which is recorded as a mistake.

        :param older: other names of the option, by falling rank
        """
        found = self._find_setting((option, *older))
        return None if found is None else self._read(*found, kind)

    def read_all(self, option: Option, kind: Kind[T], *, older: Sequence[Option] = ()) -> tuple[T, ...]:
        """Return the values of an option that may be set several times, in order.

        In each file, those under older names come first.
        """
        names = (option, *older)[::-1]
        settings = [
            (name, setting)
            for settings in self._files
            for name in names
            for setting in _list_settings(settings.get(name))
        ]
        values = (self._read(name, setting, kind) for name, setting in settings)
        return tuple(value for value in values if value is not None)

    def ignore(self, option: Option, consequence: str, *, older: Sequence[Option] = ()) -> None:
        """Note a value of an option that is set and not supported, and what happens instead."""
        found = self._find_setting((option, *older))
        if found is not None:
            self._ignore(*found, consequence)

    def _find_setting(self, names: Sequence[Option]) -> tuple[Option, _Setting] | None:
        """Return the setting that counts, and its name. A later file comes before a better name."""
        return next(
            (
                (name, settings[name])
                for settings in reversed(self._files)
                for name in names
                if name in settings
            ),
            None,
        )

    def _read(self, option: Option, setting: _Setting, kind: Kind[T]) -> T | None:
        try:
            value = self._expand(setting.value, option.group, (option,))
        except _UnknownReferenceError as error:
            self._ignore(option, setting, f"refers to ${error}, which is not set; the option counts as unset")
            return None
        except _CircularReferenceError as error:
            self._report_mistake(
                option, setting, f"refers to ${error} in a circle, or through too many others"
            )
            return None
        except _EndlessReferencesError:
            self._report_endless(option, setting)
            return None
        if not value.strip():
            return None
        try:
            return kind.read(value, quote(value))
        except ValueError as error:
            self._report_mistake(option, setting, str(error))
            return None

    def _ignore(self, option: Option, setting: _Setting, consequence: str) -> None:
        quoted = quote(setting.value)[1:-1]
        ignored = Ignored(
            option=str(option),
            file=setting.file,
            line=setting.line,
            message=f"{option} = {quoted}: {consequence}",
        )
        if ignored not in self.ignored:
            self.ignored.append(ignored)

    def _report_endless(self, option: Option, setting: _Setting) -> None:
        """Report it once. No later value can be read either."""
        if not self._is_endless:
            limit = _MAX_EXPANDED_CHARACTERS
            self._report_mistake(option, setting, f"its references expand to more than {limit} characters")
        self._is_endless = True

    def _report_mistake(self, option: Option, setting: _Setting, mistake: str) -> None:
        self.mistakes.add(f"{setting.file}:{setting.line}: {option}", mistake)

    def _expand(self, value: str, group: str, trail: tuple[Option, ...]) -> str:
        """Replace the references in a value. `trail` has the options that led to it."""

        def expand_reference(match: re.Match[str]) -> str:
            dollar, bare, braced = match.groups()
            if dollar:
                return "$"
            name = bare or braced
            found = self._find_reference(name, group)
            if found is None:
                raise _UnknownReferenceError(name)
            target, setting = found
            if target in trail or len(trail) > _MAX_REFERENCE_DEPTH:
                raise _CircularReferenceError(name)
            text = setting.value
            self._expanded_characters += 1 + len(text)  # 1, because an empty value takes time too
            if self._expanded_characters > _MAX_EXPANDED_CHARACTERS:
                raise _EndlessReferencesError
            return self._expand(text, target.group, (*trail, target))

        # In oslo.config a backslash also escapes the dollar sign.
        return _REFERENCE.sub(expand_reference, value.replace(r"\$", "$$"))

    def _find_reference(self, name: str, group: str) -> tuple[Option, _Setting] | None:
        """Find the option of a reference: in its own group, else in DEFAULT. ${DEFAULT.x} finds nothing."""
        head, dot, tail = name.partition(".")
        own = Option(head.lower(), tail) if dot else Option(group, name)
        common = Option("DEFAULT", name)
        candidates = (common,) if name in _ONLY_IN_DEFAULT else (own, common)
        found = (self._find_setting((option,)) for option in candidates)
        return next((each for each in found if each is not None), None)


def _list_settings(last: _Setting | None) -> list[_Setting]:
    """Return the settings of one name in one file, in their order."""
    settings = []
    while last is not None:
        settings.append(last)
        last = last.earlier
    return settings[::-1]


def _parse_file(path: Path, mistakes: Mistakes) -> dict[Option, _Setting]:
    try:
        content = read_file(path)
    except OSError as error:
        mistakes.add(path, f"cannot be read: {error.strerror}")
        return {}
    encoding = find_encoding(content)
    if encoding != "utf-8-sig":
        mistakes.add(path, f"found {encoding.upper()}, expected UTF-8: Nova cannot read this either")
        return {}
    # oslo.config uses the locale's encoding. A comment in another encoding must not be an error.
    text = content.decode(encoding, "replace")
    return _parse_settings(str(path), text, mistakes)


def _parse_settings(file: str, text: str, mistakes: Mistakes) -> dict[Option, _Setting]:
    """Split a file into settings, line by line as oslo_config.iniparser.BaseParser.parse does.

    A line that is a mistake is kept under a name that nobody reads, so that its continuation lines are not
    mistakes too. No mistake quotes a line, because any line may hold a password.
    """
    settings: dict[Option, _Setting] = {}
    group: str | None = None
    current: Option | None = None
    for number, line in enumerate(map(str.rstrip, _split_lines(text)), start=1):
        mistake = ""
        if not line or line.startswith(("#", ";")):
            current = None
        elif line.startswith((" ", "\t")):
            if current is None:
                mistake = "found a line that begins with a blank, expected an option before it"
            else:
                settings[current].lines.append(line.lstrip())
        elif line.startswith("["):
            current, group = None, _parse_group(line)
            mistake = "" if group else "found a group without a name or without its ], expected [GROUP]"
        else:
            name, value = _parse_assignment(line)
            current = Option(group or "", name)
            settings[current] = _Setting([value], file, number, settings.get(current))
            if not name:
                mistake = "found a line that sets nothing, expected NAME = VALUE"
            elif group is None:
                mistake = "found an option, expected a [GROUP] before it"
        if mistake:
            mistakes.add(f"{file}:{number}", mistake)
    return settings


def _split_lines(text: str) -> list[str]:
    """Split like Python's text files. str.splitlines would also split at a form feed and others."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _parse_group(line: str) -> str:
    """Return the group of a line such as "[libvirt]"; empty if it has none."""
    return _normalize_group(line[1:-1]) if line.endswith("]") else ""


def _normalize_group(name: str) -> str:
    return name if name == "DEFAULT" else name.lower()


def _parse_assignment(line: str) -> tuple[str, str]:
    """Split at the first `=` or `:`. The name is empty if there is neither, or nothing before it."""
    sign = re.search("[=:]", line)
    if sign is None:
        return "", ""
    name, value = line[: sign.start()].strip(), line[sign.end() :].strip()
    if value and value[0] in "\"'" and value[0] == value[-1]:
        value = value[1:-1]
    return name, value

"""The options of nova-compute's own nova.conf that count here.

The dialect is oslo.config's (oslo_config.iniparser and oslo_config.cfg): a line that begins with a blank
continues the value before it, even where it looks like a comment; `=` and `:` both assign; one pair of
quotes around a value is dropped; of an option written twice the last one counts; `$option`,
`${group.option}` and `$$` in a value are replaced. Names of groups are alike in upper and lower case, but
for DEFAULT; names of options are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from exporter.config.files import read_file
from exporter.config.kinds import COUNT, CPU_SET, DEVICE_SPEC, NAME, RATIO, URI, Kind
from exporter.config.libvirt_uri import quote
from exporter.config.mistakes import Mistakes
from exporter.config.settings import NOVA_OPTIONS, NovaKey
from exporter.errors import ConfigError

T = TypeVar("T")

_REFERENCE = re.compile(r"\$(?:(\$)|([_a-z][._a-z0-9]*)|\{([_a-z][._a-z0-9]*)\})", re.IGNORECASE | re.ASCII)
_MAX_REFERENCE_DEPTH = 10
# The limit of all references of a file together. A few lines that refer to each other several times multiply.
_MAX_EXPANDED_CHARACTERS = 100_000
# These options exist only in [DEFAULT]. Written into another group, they are not found by a reference, as in
# oslo.config.
_ONLY_IN_DEFAULT = frozenset({"my_ip", "host", "state_path", "instances_path"})
_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaConf:
    """What a nova.conf says.

    :ivar options: the values of `settings.NOVA_OPTIONS`, by name; what the file leaves to Nova's
        default is not in it
    :ivar connection_uri: where nova-compute finds libvirt
    :ivar unsupported: what this exporter cannot honour: one sentence each, with file, line, value and what
        happens instead
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    connection_uri: str | None = None
    unsupported: tuple[str, ...] = ()


class Option(NamedTuple):
    """The name of an option, as in `[libvirt] virt_type`."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"[{self.group}] {self.name}"


def read_nova_conf(path: Path) -> NovaConf:
    """Read one nova.conf.

    Only the named file is read. Not read are /etc/nova/nova.conf.d, other files that nova-compute is started
    with (--config-file, --config-dir), and the environment variables of oslo.config. A value that refers to
    an option which the file does not set, and a relative path, are reported as unsupported and count as
    unset.

    :raises ConfigError: with every mistake of the file: it cannot be read, a line is no assignment, a value
        is of the wrong kind, references go in a circle or multiply
    """
    try:
        # oslo.config uses the locale's encoding. A comment in another encoding must not be an error.
        text = read_file(path).decode("utf-8-sig", "replace")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    conf = _ConfFile(str(path), text)
    nova_conf = NovaConf(
        options=_read_options(conf),
        connection_uri=conf.read(Option("libvirt", "connection_uri"), URI),
        unsupported=_list_unsupported(conf),
    )
    conf.mistakes.raise_if_any()
    return nova_conf


def _read_options(conf: _ConfFile) -> dict[str, Any]:
    """Return the options that have the name of one of our keys. An unset option is left out."""
    values = {name: _read_option(conf, name, key) for name, key in NOVA_OPTIONS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _read_option(conf: _ConfFile, name: str, key: NovaKey) -> object:
    option = Option(key.nova_group or "", name)
    if name in _READERS:
        return _READERS[name](conf, option)
    if key.kind == RATIO:
        return _read_allocation_ratio(conf, option)
    return conf.read(option, _AS_TEXT.get(key.kind, _TEXT))


def _read_allocation_ratio(conf: _ConfFile, option: Option) -> float | None:
    """Do the same as ComputeDriver._get_allocation_ratios for a new resource provider."""
    # Both are read, so that a mistake in either is reported. 0.0 means unset, as in old releases of Nova.
    initial = conf.read(Option(option.group, f"initial_{option.name}"), _RATIO)
    return conf.read(option, _RATIO_OR_ZERO) or initial


def _read_instances_path(conf: _ConfFile, option: Option) -> str | None:
    if conf.has(option):
        return _read_path(conf, option)
    state_path = _read_path(conf, Option("DEFAULT", "state_path"))
    return state_path and f"{state_path}/instances"


def _read_path(conf: _ConfFile, option: Option) -> str | None:
    path = conf.read(option, _TEXT)
    if path is None or path.startswith("/"):
        return path
    conf.report_unsupported(option, "the path is relative, the option counts as unset")
    return None


def _read_device_spec(conf: _ConfFile, option: Option) -> tuple[str, ...] | None:
    """Return all specifications, also those under older names of the option."""
    names = (Option("DEFAULT", "pci_passthrough_whitelist"), Option("pci", "passthrough_whitelist"), option)
    return tuple(spec for name in names for spec in conf.read_all(name, DEVICE_SPEC)) or None


def _read_enabled_mdev_types(conf: _ConfFile, option: Option) -> tuple[str, ...] | None:
    """Return a list, under the name of the option today or the older name."""
    for name in (option, Option("devices", "enabled_vgpu_types")):
        listed = conf.read(name, _TEXT)
        if listed is not None:
            return tuple(each for item in listed.split(",") if (each := item.strip())) or None
    return None


# Options with rules of their own.
_READERS: Mapping[str, Callable[[_ConfFile, Option], object]] = {
    "instances_path": _read_instances_path,
    "device_spec": _read_device_spec,
    "enabled_mdev_types": _read_enabled_mdev_types,
}


@dataclass(frozen=True, slots=True)
class _Limit:
    """An option with some unsupported values."""

    option: Option
    honoured: frozenset[str]
    consequence: str


_LIMITS = (
    _Limit(
        Option("DEFAULT", "compute_driver"),
        frozenset({"libvirt.libvirtdriver", "nova.virt.libvirt.libvirtdriver"}),
        "only what libvirt shows is reported",
    ),
    _Limit(
        Option("libvirt", "virt_type"),
        frozenset({"kvm", "qemu"}),
        "without [libvirt] connection_uri, qemu:///system is read",
    ),
    _Limit(
        Option("libvirt", "images_type"),
        frozenset({"default", "flat", "raw", "qcow2", "lvm", "rbd"}),
        "disk space is that of instances_path or storage_pool",
    ),
    _Limit(
        Option("libvirt", "file_backed_memory"),
        frozenset({"0"}),
        "the hypervisor's own memory is reported",
    ),
    _Limit(
        Option("libvirt", "cpu_power_management"),
        frozenset({"false", "0", "off", "no"}),
        "a CPU that Nova has powered down counts as offline",
    ),
    _Limit(
        Option("workarounds", "reserve_disk_resource_for_image_cache"),
        frozenset({"false", "0", "off", "no"}),
        "the disk reserve is that of reserved_host_disk_mb alone",
    ),
    _Limit(
        Option("DEFAULT", "reserved_huge_pages"),
        frozenset(),
        "huge pages that are free count as free for guests",
    ),
)


def _list_unsupported(conf: _ConfFile) -> tuple[str, ...]:
    for limit in _LIMITS:
        value = conf.read(limit.option, _TEXT)
        if value is not None and value.lower() not in limit.honoured:
            conf.report_unsupported(limit.option, f"not supported, {limit.consequence}")
    return tuple(dict.fromkeys(conf.unsupported))


def _parse_text(value: str) -> str:
    if "\ufffd" in value:
        raise ValueError("it is not UTF-8")
    return NAME.parse(value)


def _parse_count(value: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(value.strip()):
        raise ValueError
    return COUNT.parse(int(value))


def _parse_ratio_or_zero(value: str) -> float:
    if not _NUMBER.fullmatch(value.strip()):
        raise ValueError
    return float(value) and RATIO.parse(float(value))


def _parse_ratio(value: str) -> float:
    return RATIO.parse(_parse_ratio_or_zero(value))


def _parse_cpu_set(value: str) -> str:
    # Remove the line ends of continuation lines for the log.
    return CPU_SET.parse(" ".join(value.split()))


# An option takes the same values as our own key, but in nova.conf every value is text.
_TEXT = Kind("one line of text", _parse_text)
_RATIO = Kind(RATIO.expected, _parse_ratio)
_RATIO_OR_ZERO = Kind("a number, 0 or more", _parse_ratio_or_zero)
_AS_TEXT: Mapping[Kind[Any], Kind[Any]] = {
    COUNT: Kind(COUNT.expected, _parse_count),
    CPU_SET: Kind(CPU_SET.expected, _parse_cpu_set),
}


class _Setting(NamedTuple):
    lines: list[str]  # the value as written, with its references, and the continuation lines
    line: int
    earlier: _Setting | None = None  # the one of the same name before it; only some options still use it

    @property
    def value(self) -> str:
        """The value as written. Continuation lines come after line ends."""
        return "\n".join(self.lines)


class _UnknownReferenceError(Exception):
    """A value refers to an option that the file does not set."""


class _CircularReferenceError(Exception):
    """A value refers to itself, directly or through others."""


class _EndlessReferencesError(Exception):
    """The references of the file multiply: replaced, they have more than _MAX_EXPANDED_CHARACTERS."""


class _ConfFile:
    """One nova.conf while it is read, with its mistakes and its unsupported values."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.mistakes = Mistakes()
        self.unsupported: list[str] = []
        self._settings = _parse_settings(file, text, self.mistakes)
        self._expanded_characters = 0  # by all references until now
        self._is_endless = False

    def has(self, option: Option) -> bool:
        """Return whether the file sets an option. Blanks alone are no value to Nova."""
        return option in self._settings and bool(self._settings[option].value.strip())

    def read(self, option: Option, kind: Kind[T]) -> T | None:
        """Return an option's value; None if it is unset, or wrong, which is recorded as a mistake."""
        setting = self._settings.get(option)
        return None if setting is None else self._read(option, setting, kind)

    def read_all(self, option: Option, kind: Kind[T]) -> tuple[T, ...]:
        """Return the values of an option that may be set several times, in order."""
        values: list[T] = []
        setting = self._settings.get(option)
        while setting is not None:
            value = self._read(option, setting, kind)
            if value is not None:
                values.append(value)
            setting = setting.earlier
        return tuple(reversed(values))

    def _read(self, option: Option, setting: _Setting, kind: Kind[T]) -> T | None:
        try:
            value = self._expand(setting.value, option.group, (option,))
        except _UnknownReferenceError as error:
            reason = f"refers to ${error}, which the file does not set; the option counts as unset"
            self.report_unsupported(option, reason)
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

    def report_unsupported(self, option: Option, consequence: str) -> None:
        """Note an unsupported value, and what happens instead."""
        setting = self._settings[option]
        quoted = quote(setting.value)[1:-1]
        self.unsupported.append(f"{self.file}:{setting.line}: {option} = {quoted}: {consequence}")

    def _report_endless(self, option: Option, setting: _Setting) -> None:
        """Report it once. No later value can be read either."""
        if not self._is_endless:
            limit = _MAX_EXPANDED_CHARACTERS
            self._report_mistake(option, setting, f"its references expand to more than {limit} characters")
        self._is_endless = True

    def _report_mistake(self, option: Option, setting: _Setting, mistake: str) -> None:
        self.mistakes.add(f"{self.file}:{setting.line}: {option}", mistake)

    def _expand(self, value: str, group: str, trail: tuple[Option, ...]) -> str:
        """Replace the references in a value. `trail` has the options that led to it."""

        def expand_reference(match: re.Match[str]) -> str:
            dollar, bare, braced = match.groups()
            if dollar:
                return "$"
            name = bare or braced
            target = self._find(name, group)
            if target is None:
                raise _UnknownReferenceError(name)
            if target in trail or len(trail) > _MAX_REFERENCE_DEPTH:
                raise _CircularReferenceError(name)
            text = self._settings[target].value
            self._expanded_characters += 1 + len(text)  # 1, because an empty value takes time too
            if self._expanded_characters > _MAX_EXPANDED_CHARACTERS:
                raise _EndlessReferencesError
            return self._expand(text, target.group, (*trail, target))

        # In oslo.config a backslash also escapes the dollar sign.
        return _REFERENCE.sub(expand_reference, value.replace(r"\$", "$$"))

    def _find(self, name: str, group: str) -> Option | None:
        """Find the option of a reference: in its own group, else in DEFAULT. ${DEFAULT.x} finds nothing."""
        head, dot, tail = name.partition(".")
        own = Option(head.lower(), tail) if dot else Option(group, name)
        common = Option("DEFAULT", name)
        candidates = (common,) if name in _ONLY_IN_DEFAULT else (own, common)
        return next((option for option in candidates if option in self._settings), None)


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
            settings[current] = _Setting([value], number, settings.get(current))
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

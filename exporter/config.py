"""The strict configuration: its records, what each key means and takes, and how the sources are merged.

A value that several sources give counts by rank: a flag, the hypervisor's own key, the nova.conf that the
hypervisor names, the `defaults` key, the nova.conf that `defaults` names, the default written here.
"""

from __future__ import annotations

import difflib
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from exporter import config_kinds as kinds
from exporter.config_kinds import Kind, LogFormat, LogLevel
from exporter.cpu_spec import format_cpu_spec, parse_cpu_spec
from exporter.errors import ConfigError

# `redact_uri as redact_uri` exports it from here too: a target's name and a URI in a log read the same.
from exporter.libvirt_uri import LibvirtUri
from exporter.libvirt_uri import redact_uri as redact_uri
from exporter.nova_conf import NovaConf, read_nova_conf
from exporter.strict_yaml import Item, Place, read_yaml

DEFAULT_URI = "qemu:///system"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration file: what it takes, and what it means in one sentence."""

    kind: Kind[Any]
    meaning: str
    nullable: bool = False

    @property
    def expected(self) -> str:
        """What the key takes, to follow "expected"."""
        return f"{self.kind.expected}, or null" if self.nullable else self.kind.expected

    def read(self, item: Item) -> object:
        """Return the value that was written.

        :raises ConfigError: if it is not of the key's kind
        """
        if item.value is None and self.nullable:
            return None
        return _read_item(item, self.kind)


@dataclass(frozen=True, slots=True)
class ListKey:
    """A key of the configuration file that takes one value or a list of them, each once."""

    kind: Kind[Any]
    meaning: str
    nullable: bool = False

    @property
    def expected(self) -> str:
        """What the key takes, to follow "expected"."""
        return f"{self.kind.expected}, or a list of these" + (", or null" if self.nullable else "")

    def read(self, item: Item) -> tuple[object, ...]:
        """Return the values that were written; none where it was null or an empty list.

        :raises ConfigError: if one is not of the key's kind or is there twice, or if there has to be one
        """
        if item.value is None and self.nullable:
            return ()
        if not isinstance(item.value, tuple):
            return (_read_item(item, self.kind),)
        if not item.value and not self.nullable:
            raise ConfigError([f"{item.place}: found an empty list, expected {self.kind.expected}"])
        return self._read_items(item.value)

    def _read_items(self, items: tuple[Item, ...]) -> tuple[object, ...]:
        values: list[object] = []
        mistakes: list[str] = []
        for item in items:
            try:
                value = _read_item(item, self.kind)
            except ConfigError as error:
                mistakes += error.mistakes
                continue
            if value in values:
                mistakes.append(f"{item.place}: found {item.describe()} twice, expected it once")
            values.append(value)
        if mistakes:
            raise ConfigError(mistakes)
        return tuple(values)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebConfig:
    """The HTTP server."""

    listen_address: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.ADDRESS, "Where to listen, as HOST:PORT; without HOST on every address of the machine."
        ),
    ] = (":9177",)
    telemetry_path: Annotated[str, Key(kinds.URL_PATH, "The path under which the metrics are served.")] = (
        "/metrics"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """The log, on standard error."""

    level: Annotated[LogLevel, Key(kinds.LOG_LEVEL, "The least severe messages that are still written.")] = (
        "info"
    )
    format: Annotated[LogFormat, Key(kinds.LOG_FORMAT, "How a message is written.")] = "logfmt"


@dataclass(frozen=True, kw_only=True, slots=True)
class HypervisorConfig:
    """One hypervisor, with everything that decides what its capacity is. Names and units are Nova's."""

    uri: Annotated[str, Key(kinds.URI, "libvirt's URI of the hypervisor.")]
    name: Annotated[
        str | None,
        Key(kinds.NAME, "Its name in the label target, instead of the URI.", nullable=True),
    ] = None
    nova_conf: Annotated[
        str | None,
        Key(kinds.FILE, "A nova.conf to take the options below from, where they are not set.", nullable=True),
    ] = None
    instances_path: Annotated[
        str | None,
        Key(kinds.ABSOLUTE_PATH, "The directory whose file system holds the guests' disks.", nullable=True),
    ] = None
    storage_pool: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.STORAGE_POOL,
            "The libvirt storage pools to measure instead of instances_path.",
            nullable=True,
        ),
    ] = ()
    vcpu_pin_set: Annotated[
        str | None,
        Key(
            kinds.CPU_SET, "The CPUs that guests may use (before Nova had the two sets below).", nullable=True
        ),
    ] = None
    cpu_shared_set: Annotated[
        str | None,
        Key(kinds.CPU_SET, "The CPUs that guests' unpinned vCPUs share.", nullable=True),
    ] = None
    cpu_dedicated_set: Annotated[
        str | None,
        Key(kinds.CPU_SET, "The CPUs for guests' pinned vCPUs (PCPUs).", nullable=True),
    ] = None
    reserved_host_cpus: Annotated[int, Key(kinds.COUNT, "CPUs that are kept for the host.")] = 0
    reserved_host_memory_mb: Annotated[int, Key(kinds.COUNT, "MiB of memory that are kept for the host.")] = (
        512
    )
    reserved_host_disk_mb: Annotated[int, Key(kinds.COUNT, "MiB of disk that are kept for the host.")] = 0
    cpu_allocation_ratio: Annotated[float, Key(kinds.RATIO, "vCPUs that may be placed on each CPU.")] = 4.0
    ram_allocation_ratio: Annotated[
        float, Key(kinds.RATIO, "Memory that may be promised to guests for each MiB there is.")
    ] = 1.0
    disk_allocation_ratio: Annotated[
        float, Key(kinds.RATIO, "Disk that may be promised to guests for each GiB there is.")
    ] = 1.0

    # These come out of nova_conf alone.
    images_type: str = "default"
    my_ip: str | None = None

    @property
    def target(self) -> str:
        """What the hypervisor is called in the label target."""
        return self.name or redact_uri(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether the hypervisor is this machine, so that paths are those seen here."""
        return LibvirtUri.parse(self.uri).is_local

    @property
    def is_remote(self) -> bool:
        """Whether the hypervisor is another machine, so that connecting costs the network something."""
        return not self.is_local and not self.is_embedded

    @property
    def is_embedded(self) -> bool:
        """Whether it is libvirt's test driver, whose storage is its pools."""
        return LibvirtUri.parse(self.uri).is_embedded


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleConfig:
    """Which hypervisors `/probe` may be asked for, and how they are reached and counted."""

    uri: Annotated[str, Key(kinds.URI_TEMPLATE, "libvirt's URI, with {target} where the probed host goes.")]
    target: Annotated[
        str, Key(kinds.PATTERN, "What the whole of a probed target has to match; others are refused.")
    ]
    options: HypervisorConfig  # of each hypervisor but for its URI and name

    def make_hypervisor(self, target: str) -> HypervisorConfig:
        """Return the hypervisor that a target stands for; the caller has checked the target."""
        return replace(self.options, uri=self.uri.replace(kinds.TARGET_PLACE, target), name=target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything that was configured. Durations are seconds."""

    web: WebConfig = WebConfig()
    log: LogConfig = LogConfig()
    cache_ttl: Annotated[
        float,
        Key(
            kinds.DURATION, "A younger snapshot of a hypervisor is served again; 0s reads it on every scrape."
        ),
    ] = 5.0
    scrape_timeout: Annotated[
        float,
        Key(kinds.POSITIVE_DURATION, "A scrape is answered by then; Prometheus' own timeout may lower it."),
    ] = 9.0
    stale_grace: Annotated[
        float,
        Key(kinds.DURATION, "How long a hypervisor that stopped answering is shown by its last snapshot."),
    ] = 120.0
    resync_interval: Annotated[
        float,
        Key(kinds.DURATION, "A guest's definition is read again at least this often."),
    ] = 60.0
    hypervisors: tuple[HypervisorConfig, ...] = (HypervisorConfig(uri=DEFAULT_URI),)
    modules: Mapping[str, ModuleConfig] = field(default_factory=dict)
    disabled_collectors: frozenset[str] = frozenset()

    # What can be understood and not honoured: a finished line each, for the log.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """What the command line says of the configuration; None and () are flags that were not given."""

    libvirt_uri: tuple[str, ...] = ()
    instances_path: str | None = None
    listen_address: tuple[str, ...] = ()
    telemetry_path: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    collectors: Mapping[str, bool] = field(default_factory=dict)  # False for --no-collector.NAME


def _declared_keys(record: type) -> dict[str, Key | ListKey]:
    """Collect the keys that a record's fields are annotated with; a field without one is no key."""
    return {
        name: key
        for name, hint in get_type_hints(record, include_extras=True).items()
        for key in getattr(hint, "__metadata__", ())
        if isinstance(key, (Key, ListKey))
    }


_ONE_HYPERVISOR_ONLY = ("uri", "name")
_TOP_KEYS = _declared_keys(Config)
_WEB_KEYS = _declared_keys(WebConfig)
_LOG_KEYS = _declared_keys(LogConfig)
_HYPERVISOR_KEYS = _declared_keys(HypervisorConfig)
_DEFAULTS_KEYS = {name: key for name, key in _HYPERVISOR_KEYS.items() if name not in _ONE_HYPERVISOR_ONLY}
_NOVA_OPTIONS = {each.name for each in fields(HypervisorConfig)} & NovaConf.__dataclass_fields__.keys()
_MODULE_KEYS = {**_declared_keys(ModuleConfig), **_DEFAULTS_KEYS}
_SECTIONS = ("web", "log", "defaults", "hypervisors", "modules")


@dataclass(frozen=True, slots=True)
class Declaration:
    """A key as an example file or a page of documentation shows it."""

    path: str  # "defaults.storage_pool", "hypervisors[].uri"
    expected: str  # "a duration such as 5s or 1m30s"
    meaning: str


def list_declarations() -> tuple[Declaration, ...]:
    """List every key of the file; a hypervisor takes all that `defaults` takes, which is listed there."""
    keys = {
        **{f"web.{name}": key for name, key in _WEB_KEYS.items()},
        **{f"log.{name}": key for name, key in _LOG_KEYS.items()},
        **_TOP_KEYS,
        **{f"defaults.{name}": key for name, key in _DEFAULTS_KEYS.items()},
        **{f"hypervisors[].{name}": _HYPERVISOR_KEYS[name] for name in _ONE_HYPERVISOR_ONLY},
        **{f"modules.NAME.{name}": key for name, key in _declared_keys(ModuleConfig).items()},
    }
    return tuple(Declaration(path, key.expected, key.meaning) for path, key in keys.items())


@dataclass(frozen=True, slots=True)
class _Entry:
    """A hypervisor that was asked for, with its own options by their names."""

    place: Place
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Source:
    """What the file says, or what the flags say: checked, and not yet merged."""

    top: Mapping[str, Any]
    web: Mapping[str, Any]
    log: Mapping[str, Any]
    options: Mapping[str, Any]  # for every hypervisor
    entries: tuple[_Entry, ...]
    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # each one's options, by its name


def load_config(path: Path | None, flags: Flags) -> Config:
    """Read the configuration file, where there is one, and merge it with the flags and with nova.conf.

    :raises ConfigError: with every mistake in the file, the flags and each nova.conf
    """
    mistakes: list[str] = []
    from_file = _read_file(path, mistakes)
    from_flags = _read_flags(flags, mistakes)
    entries = _choose_entries(from_file.entries, from_flags.entries)
    _refuse_duplicates(entries, mistakes)
    own_options = [*(entry.options for entry in entries), *from_file.modules.values()]
    nova_confs = _read_nova_confs([from_file.options, *own_options], mistakes)
    if mistakes:
        raise ConfigError(mistakes)

    hypervisors = [
        _merge_hypervisor(entry.options, from_flags.options, from_file.options, nova_confs)
        for entry in entries or [_make_default_entry(from_file.options, nova_confs)]
    ]
    config = Config(
        **from_file.top,
        web=WebConfig(**{**from_file.web, **from_flags.web}),
        log=LogConfig(**{**from_file.log, **from_flags.log}),
        hypervisors=tuple(HypervisorConfig(**options) for options in hypervisors),
        modules={
            name: _make_module(options, from_file.options, nova_confs)
            for name, options in from_file.modules.items()
        },
        disabled_collectors=frozenset(name for name, enabled in flags.collectors.items() if not enabled),
    )
    return replace(config, warnings=tuple(_find_warnings(config, nova_confs)))


def _read_file(path: Path | None, mistakes: list[str]) -> _Source:
    if path is None:
        return _Source({}, {}, {}, {}, ())
    items = _take_mapping(read_yaml(path, mistakes), (*_TOP_KEYS, *_SECTIONS), mistakes)
    top = _read_keys(items, _TOP_KEYS, mistakes)
    web = _read_section(items.get("web"), _WEB_KEYS, mistakes)
    log = _read_section(items.get("log"), _LOG_KEYS, mistakes)
    defaults = _read_section(items.get("defaults"), _DEFAULTS_KEYS, mistakes)
    # In `defaults`, null says no more than a key that is left out: nova.conf may still have it.
    options = {name: value for name, value in defaults.items() if value not in (None, ())}
    entries = _read_entries(items.get("hypervisors"), path.parent, mistakes)
    modules = _read_modules(items.get("modules"), path.parent, mistakes)
    return _Source(
        top, web, log, _locate_nova_conf(options, path.parent), tuple(entries), modules=dict(modules)
    )


def _read_entries(item: Item | None, directory: Path, mistakes: list[str]) -> Iterator[_Entry]:
    if item is None or item.value is None:
        return
    if not isinstance(item.value, tuple):
        mistakes.append(f"{item.place}: found {item.describe()}, expected a list of hypervisors")
        return
    for child in item.value:
        taken = _take_mapping(child, _HYPERVISOR_KEYS, mistakes)
        if "uri" not in taken and isinstance(child.value, (dict, type(None))):
            mistakes.append(f"{child.place}: found no uri, expected {kinds.URI.expected}")
        options = _read_keys(taken, _HYPERVISOR_KEYS, mistakes)
        yield _Entry(child.place, _locate_nova_conf(options, directory))


def _read_modules(
    item: Item | None, directory: Path, mistakes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if item is None or item.value is None:
        return
    if not isinstance(item.value, dict):
        mistakes.append(f"{item.place}: found {item.describe()}, expected modules by their names")
        return
    for name, child in item.value.items():
        taken = _take_mapping(child, _MODULE_KEYS, mistakes)
        mistakes += [
            f"{child.place}: found no {key}, expected {_MODULE_KEYS[key].expected}"
            for key in ("uri", "target")
            if key not in taken and isinstance(child.value, (dict, type(None)))
        ]
        yield name, _locate_nova_conf(_read_keys(taken, _MODULE_KEYS, mistakes), directory)


def _locate_nova_conf(options: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Take a relative path from where the configuration file is, as Prometheus does."""
    if options.get("nova_conf") is None:
        return options
    return {**options, "nova_conf": str(directory / options["nova_conf"])}


def _read_section(
    item: Item | None, keys: Mapping[str, Key | ListKey], mistakes: list[str]
) -> dict[str, Any]:
    return {} if item is None else _read_keys(_take_mapping(item, keys, mistakes), keys, mistakes)


def _take_mapping(item: Item, known: Iterable[str], mistakes: list[str]) -> dict[str, Item]:
    """Return a mapping's entries; one without any may also be left empty."""
    if item.value is None:
        return {}
    if not isinstance(item.value, dict):
        mistakes.append(f"{item.place}: found {item.describe()}, expected a mapping")
        return {}
    for name, child in item.value.items():
        if name not in known:
            mistakes.append(f"{child.place}: unknown key, {_suggest(name, known)}")
    return item.value


def _suggest(unknown: str, known: Iterable[str]) -> str:
    """Say which key may have been meant: the same one elsewhere, else the nearest one here."""
    elsewhere = [each.path for each in list_declarations() if each.path.rpartition(".")[2] == unknown]
    nearest = difflib.get_close_matches(unknown, known, n=1)
    for candidate in (*elsewhere, *nearest):
        return f"did you mean {candidate}?"
    return f"expected one of {', '.join(known)}"


def _read_keys(
    items: Mapping[str, Item], keys: Mapping[str, Key | ListKey], mistakes: list[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, key in keys.items():
        if name not in items:
            continue
        try:
            values[name] = key.read(items[name])
        except ConfigError as error:
            mistakes += error.mistakes
    return values


def _read_item(item: Item, kind: Kind[Any]) -> Any:
    try:
        return kind.read(item.value, item.describe())
    except ValueError as error:
        raise ConfigError([f"{item.place}: {error}"]) from error


def _read_flags(flags: Flags, mistakes: list[str]) -> _Source:
    """Check what the flags say by the keys that they stand for."""
    uri_items = _make_items(uri=("--libvirt.uri", flags.libvirt_uri))
    web_items = _make_items(
        listen_address=("--web.listen-address", flags.listen_address),
        telemetry_path=("--web.telemetry-path", flags.telemetry_path),
    )
    log_items = _make_items(
        level=("--log.level", flags.log_level),
        format=("--log.format", flags.log_format),
    )
    option_items = _make_items(instances_path=("--instances-path", flags.instances_path))
    uris = _read_keys(uri_items, {"uri": ListKey(kinds.URI, "Replace the file's hypervisors.")}, mistakes)
    return _Source(
        top={},
        web=_read_keys(web_items, _WEB_KEYS, mistakes),
        log=_read_keys(log_items, _LOG_KEYS, mistakes),
        options=_read_keys(option_items, _DEFAULTS_KEYS, mistakes),
        entries=tuple(_Entry(Place("--libvirt.uri"), {"uri": uri}) for uri in uris.get("uri", ())),
    )


def _make_items(**given: tuple[str, str | tuple[str, ...] | None]) -> dict[str, Item]:
    """Give flags the shape of what is read from a file, by the names of the keys that they stand for."""
    items = {}
    for name, (flag, value) in given.items():
        place = Place(flag)
        if isinstance(value, str):
            items[name] = Item(place, value)
        elif value:
            items[name] = Item(place, tuple(Item(place, each) for each in value))
    return items


def _choose_entries(from_file: tuple[_Entry, ...], from_flags: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
    """Let the flags' hypervisors replace the file's; one that the file has too keeps its options."""
    chosen: list[_Entry] = []
    for entry in from_flags:
        uri = entry.options["uri"]
        chosen += [same for same in from_file if same.options.get("uri") == uri] or [entry]
    return tuple(chosen) if from_flags else from_file


def _refuse_duplicates(entries: Iterable[_Entry], mistakes: list[str]) -> None:
    places: dict[str, Place] = {}
    for entry in entries:
        target = entry.options.get("name") or redact_uri(entry.options.get("uri", ""))
        if target in places:
            found = f"found the target name {target!r} again (first at {places[target].source})"
            mistakes.append(f"{entry.place}: {found}, expected a name of its own")
        elif target:
            places[target] = entry.place


def _read_nova_confs(all_options: Iterable[Mapping[str, Any]], mistakes: list[str]) -> dict[str, NovaConf]:
    """Read each nova.conf that is named, once."""
    nova_confs = {}
    for path in dict.fromkeys(options.get("nova_conf") for options in all_options):
        if path is None:
            continue
        try:
            nova_confs[path] = read_nova_conf(Path(path))
        except ConfigError as error:
            mistakes += error.mistakes
    return nova_confs


def _make_default_entry(defaults: Mapping[str, Any], nova_confs: Mapping[str, NovaConf]) -> _Entry:
    """Where nobody names a hypervisor, it is the one that nova-compute uses here, or libvirt's own."""
    nova_conf = nova_confs.get(defaults.get("nova_conf", ""), NovaConf())
    return _Entry(Place(""), {"uri": nova_conf.connection_uri or DEFAULT_URI})


def _merge_hypervisor(
    own: Mapping[str, Any],
    flags: Mapping[str, Any],
    defaults: Mapping[str, Any],
    nova_confs: Mapping[str, NovaConf],
) -> dict[str, Any]:
    """Merge the sources of a hypervisor's options by rank; its own nova.conf stands in for the common one."""
    own_nova_conf = _list_nova_options(nova_confs, own.get("nova_conf"))
    common_nova_conf = _list_nova_options(
        nova_confs, None if "nova_conf" in own else defaults.get("nova_conf")
    )
    by_rank = (flags, own, own_nova_conf, defaults, common_nova_conf)
    merged = dict(ChainMap(*map(dict, by_rank)))
    if LibvirtUri.parse(own["uri"]).is_local:
        merged["storage_pool"] = _choose_storage_pool(by_rank)
    return merged


def _make_module(
    own: Mapping[str, Any], defaults: Mapping[str, Any], nova_confs: Mapping[str, NovaConf]
) -> ModuleConfig:
    options = {key: value for key, value in own.items() if key != "target"}
    options["uri"] = own["uri"].replace(kinds.TARGET_PLACE, "host")
    merged = _merge_hypervisor(options, {}, defaults, nova_confs)
    return ModuleConfig(uri=own["uri"], target=own["target"], options=HypervisorConfig(**merged))


def _list_nova_options(nova_confs: Mapping[str, NovaConf], path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    nova_conf = nova_confs[path]
    options = {name: getattr(nova_conf, name) for name in _NOVA_OPTIONS}
    return {name: value for name, value in options.items() if value is not None}


def _choose_storage_pool(by_rank: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Let an instances_path replace storage pools of a lower rank: disks are in one place or the other."""
    for options in by_rank:
        if "storage_pool" in options:
            return tuple(options["storage_pool"])
        if options.get("instances_path") is not None:
            return ()
    return ()


def _find_warnings(config: Config, nova_confs: Mapping[str, NovaConf]) -> Iterator[str]:
    for nova_conf in nova_confs.values():
        yield from nova_conf.unsupported
    for hypervisor in config.hypervisors:
        for conflict in _find_conflicts(hypervisor):
            yield f"{hypervisor.target}: {conflict}: nova-compute refuses to start with that"


def _find_conflicts(hypervisor: HypervisorConfig) -> Iterator[str]:
    """Check what LibvirtDriver._check_cpu_set_configuration checks; the numbers do not depend on it."""
    shared, dedicated = hypervisor.cpu_shared_set, hypervisor.cpu_dedicated_set
    if hypervisor.vcpu_pin_set:
        if dedicated:
            yield "both vcpu_pin_set and cpu_dedicated_set are set"
        return
    if shared and dedicated and (both := parse_cpu_spec(shared) & parse_cpu_spec(dedicated)):
        yield f"cpu_shared_set and cpu_dedicated_set both have the CPUs {format_cpu_spec(both)}"
    if hypervisor.reserved_host_cpus and (shared or dedicated):
        yield "reserved_host_cpus is set beside cpu_shared_set or cpu_dedicated_set"

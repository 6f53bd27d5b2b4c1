"""Load the configuration: check and merge file, flags and each nova.conf, and report all mistakes at once.

If several sources have a value, the first of these counts: a flag, the hypervisor's own key, the hypervisor's
nova.conf, the `defaults` key, the nova.conf of `defaults`, the built-in default.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exporter.config import kinds
from exporter.config.keys import LabelsKey, ListKey, read_item
from exporter.config.kinds import LibvirtNames
from exporter.config.libvirt_uri import LibvirtUri, redact_uri
from exporter.config.mistakes import Mistakes
from exporter.config.nova_conf import NovaConf, read_nova_conf
from exporter.config.sections import read_keys, read_mapping, suggest_nearest
from exporter.config.settings import (
    DEFAULT_URI,
    DEFAULTS_KEYS,
    FLAVOR_KEYS,
    GUESTS_KEYS,
    HYPERVISOR_KEYS,
    LOG_KEYS,
    MODULE_KEYS,
    REQUIRED_FLAVOR_KEYS,
    SECTIONS,
    TOP_KEYS,
    WEB_KEYS,
    AnyKey,
    Config,
    Flags,
    FlavorConfig,
    GuestsConfig,
    HypervisorConfig,
    LogConfig,
    ModuleConfig,
    WebConfig,
    is_this_machine,
    list_declarations,
)
from exporter.config.strict_yaml import Item, Place, read_yaml
from exporter.config.this_machine import ThisMachine, is_loopback, read_this_machine
from exporter.cpu_spec import format_cpu_spec, parse_cpu_spec
from exporter.model import Flavor, Ignored

# Prometheus gives these to every series itself.
_PROMETHEUS_LABELS = frozenset(("instance", "job"))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A configured hypervisor, with its own options by name."""

    place: Place
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Source:
    """The values of the file, or of the flags: checked, not yet merged."""

    top: Mapping[str, Any]
    web: Mapping[str, Any]
    log: Mapping[str, Any]
    guests: Mapping[str, Any]
    options: Mapping[str, Any]  # for every hypervisor
    entries: tuple[_Entry, ...]
    flavors: tuple[Flavor, ...] = ()
    modules: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # the options of each module, by its name


# The names of labels that no hypervisor may be given, beside Prometheus' own: by the chosen `libvirt_names`.
ListLabels = Callable[[LibvirtNames | None], Collection[str]]


def _list_none(_names: LibvirtNames | None) -> Collection[str]:
    return ()


def load_config(path: Path | None, flags: Flags, *, list_reserved_labels: ListLabels = _list_none) -> Config:
    """Read the configuration file, if there is one, and merge it with the flags and nova.conf.

    :raises ConfigError: with every mistake in the file, the flags and each nova.conf
    """
    mistakes = Mistakes()
    from_file = _read_file(path, list_reserved_labels, mistakes)
    from_flags = _read_flags(flags, mistakes)
    entries = _choose_entries(from_file.entries, from_flags.entries)
    _refuse_duplicates(entries, mistakes)
    this_machine = read_this_machine()
    own_options = [*(entry.options for entry in entries), *from_file.modules.values()]
    nova_confs = _read_nova_confs([from_file.options, *own_options], mistakes)
    mistakes.raise_if_any()

    hypervisors = [
        _merge_hypervisor(entry.options, from_flags.options, from_file.options, nova_confs, this_machine)
        for entry in entries or [_make_default_entry(from_file.options, nova_confs)]
    ]
    guests = GuestsConfig(**from_file.guests)
    common = {
        "flavors": from_file.flavors,
        "flavors_from_guests": from_file.top.get("flavors_from_guests", False),
        "guests": guests,
    }
    config = Config(
        **from_file.top,
        web=WebConfig(**{**from_file.web, **from_flags.web}),
        log=LogConfig(**{**from_file.log, **from_flags.log}),
        guests=guests,
        hypervisors=tuple(HypervisorConfig(**options, **common) for options in hypervisors),
        modules={
            name: _make_module(options, from_file.options, nova_confs, this_machine, common)
            for name, options in from_file.modules.items()
        },
        disabled_collectors=frozenset(name for name, enabled in flags.collectors.items() if not enabled),
    )
    _require_volume_groups(config, mistakes)
    mistakes.raise_if_any()
    warnings = (
        *mistakes.warnings,
        *_find_warnings(config),
        *_doubt_this_machine(config, entries, this_machine),
    )
    return replace(config, warnings=warnings)


def _reserve(labels: Collection[str]) -> Mapping[str, AnyKey]:
    """Return the keys of a hypervisor. `labels` accepts none of these names."""
    reserved = _PROMETHEUS_LABELS.union(labels)
    return {
        name: replace(key, reserved=reserved) if isinstance(key, LabelsKey) else key
        for name, key in HYPERVISOR_KEYS.items()
    }


def _read_file(path: Path | None, list_reserved_labels: ListLabels, mistakes: Mistakes) -> _Source:
    if path is None:
        return _Source({}, {}, {}, {}, {}, ())
    items = read_mapping(read_yaml(path, mistakes), (*TOP_KEYS, *SECTIONS), mistakes, suggest=_suggest)
    top = read_keys(items, TOP_KEYS, mistakes)
    web = _read_section(items.get("web"), WEB_KEYS, mistakes)
    log = _read_section(items.get("log"), LOG_KEYS, mistakes)
    guests = _read_section(items.get("guests"), GUESTS_KEYS, mistakes)
    defaults = _read_section(items.get("defaults"), DEFAULTS_KEYS, mistakes)
    # In `defaults`, null is the same as a missing key: nova.conf may still set it.
    options = {name: value for name, value in defaults.items() if value not in (None, ())}
    hypervisor_keys = _reserve(list_reserved_labels(top.get("libvirt_names")))
    entries = _read_entries(items.get("hypervisors"), hypervisor_keys, path.parent, mistakes)
    flavors = tuple(_read_flavors(items.get("flavors"), mistakes))
    modules = _read_modules(items.get("modules"), path.parent, mistakes)
    return _Source(
        top,
        web,
        log,
        guests,
        _locate_nova_conf(options, path.parent),
        tuple(entries),
        flavors=flavors,
        modules=dict(modules),
    )


def _read_entries(
    item: Item | None, keys: Mapping[str, AnyKey], directory: Path, mistakes: Mistakes
) -> Iterator[_Entry]:
    if item is None or item.value is None:
        return
    if not isinstance(item.value, tuple):
        mistakes.add(item.place, f"found {item.describe()}, expected a list of hypervisors")
        return
    for child in item.value:
        entries = read_mapping(child, keys, mistakes, suggest=_suggest)
        _require_keys(child, ("uri",), keys, mistakes)
        options = read_keys(entries, keys, mistakes)
        yield _Entry(child.place, _locate_nova_conf(options, directory))


def _read_flavors(item: Item | None, mistakes: Mistakes) -> Iterator[Flavor]:
    if item is None or item.value is None:
        return
    if not isinstance(item.value, dict):
        mistakes.add(item.place, f"found {item.describe()}, expected flavors by their names")
        return
    for name, child in item.value.items():
        entries = read_mapping(child, FLAVOR_KEYS, mistakes, suggest=_suggest)
        with mistakes.collected():
            read_item(Item(child.place, name), kinds.FLAVOR_NAME)
        _require_keys(child, REQUIRED_FLAVOR_KEYS, FLAVOR_KEYS, mistakes)
        values = read_keys(entries, FLAVOR_KEYS, mistakes)
        if values.keys() >= set(REQUIRED_FLAVOR_KEYS):
            yield FlavorConfig(**values).make_flavor(name)


def _require_keys(
    item: Item, required: Iterable[str], keys: Mapping[str, AnyKey], mistakes: Mistakes
) -> None:
    """Note the keys that a mapping needs and does not have."""
    written = {} if item.value is None else item.value
    if isinstance(written, dict):
        for key in required:
            if key not in written:
                mistakes.add(item.place, f"found no {key}, expected {keys[key].expected}")


def _read_modules(
    item: Item | None, directory: Path, mistakes: Mistakes
) -> Iterator[tuple[str, dict[str, Any]]]:
    if item is None or item.value is None:
        return
    if not isinstance(item.value, dict):
        mistakes.add(item.place, f"found {item.describe()}, expected modules by their names")
        return
    for name, child in item.value.items():
        entries = read_mapping(child, MODULE_KEYS, mistakes, suggest=_suggest)
        _require_keys(child, ("uri", "target"), MODULE_KEYS, mistakes)
        yield name, _locate_nova_conf(read_keys(entries, MODULE_KEYS, mistakes), directory)


def _locate_nova_conf(options: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Resolve relative paths from the configuration file's directory, as Prometheus does."""
    if "nova_conf" not in options:
        return options
    return {**options, "nova_conf": tuple(str(directory / path) for path in options["nova_conf"])}


def _read_section(item: Item | None, keys: Mapping[str, AnyKey], mistakes: Mistakes) -> dict[str, Any]:
    return (
        {}
        if item is None
        else read_keys(read_mapping(item, keys, mistakes, suggest=_suggest), keys, mistakes)
    )


def _suggest(unknown: str, known: Iterable[str]) -> str:
    """Suggest a key: the same name in another section, else the nearest name in this one."""
    elsewhere = [each.path for each in list_declarations() if each.path.rpartition(".")[2] == unknown]
    return f"did you mean {elsewhere[0]}?" if elsewhere else suggest_nearest(unknown, known)


def _read_flags(flags: Flags, mistakes: Mistakes) -> _Source:
    """Check the values of the flags. Each flag has the kind of its key in the file."""
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
    uris = read_keys(uri_items, {"uri": ListKey(kinds.URI, "Replace the file's hypervisors.")}, mistakes)
    return _Source(
        top={},
        web=read_keys(web_items, WEB_KEYS, mistakes),
        log=read_keys(log_items, LOG_KEYS, mistakes),
        guests={},
        options=read_keys(option_items, DEFAULTS_KEYS, mistakes),
        entries=tuple(_Entry(Place("--libvirt.uri"), {"uri": uri}) for uri in uris.get("uri", ())),
    )


def _make_items(**given: tuple[str, str | tuple[str, ...] | None]) -> dict[str, Item]:
    """Return flags in the form in which a file is read, by the names of their keys."""
    items = {}
    for name, (flag, value) in given.items():
        place = Place(flag)
        if isinstance(value, str):
            items[name] = Item(place, value)
        elif value:
            items[name] = Item(place, tuple(Item(place, each) for each in value))
    return items


def _choose_entries(from_file: tuple[_Entry, ...], from_flags: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
    """Return the flags' hypervisors, else the file's. A hypervisor in both keeps its options of the file."""
    chosen: list[_Entry] = []
    for entry in from_flags:
        uri = entry.options["uri"]
        chosen += [same for same in from_file if same.options.get("uri") == uri] or [entry]
    return tuple(chosen) if from_flags else from_file


def _refuse_duplicates(entries: Iterable[_Entry], mistakes: Mistakes) -> None:
    places: dict[str, Place] = {}
    for entry in entries:
        target = entry.options.get("name") or redact_uri(entry.options.get("uri", ""))
        if target in places:
            found = f"found the target name {target!r} again (first at {places[target].source})"
            mistakes.add(entry.place, f"{found}, expected a name of its own")
        elif target:
            places[target] = entry.place


_NovaConfs = Mapping[tuple[str, ...], NovaConf]


def _read_nova_confs(all_options: Iterable[Mapping[str, Any]], mistakes: Mistakes) -> _NovaConfs:
    """Read the files of each nova-compute once. Those of none say nothing."""
    nova_confs: dict[tuple[str, ...], NovaConf] = {(): NovaConf()}
    for paths in dict.fromkeys(options.get("nova_conf", ()) for options in all_options):
        if paths:
            with mistakes.collected():
                nova_confs[paths] = read_nova_conf(*map(Path, paths))
    return nova_confs


def _make_default_entry(defaults: Mapping[str, Any], nova_confs: _NovaConfs) -> _Entry:
    """Return the hypervisor if none is configured: nova-compute's on this machine, else libvirt's default."""
    nova_conf = nova_confs[defaults.get("nova_conf", ())]
    uri = nova_conf.connection_uri
    if uri is None:
        return _Entry(Place(""), {"uri": DEFAULT_URI})
    # A nova.conf is that of this machine, by whatever name it calls it.
    own = {} if LibvirtUri.parse(uri).is_local else {"local": defaults.get("local", True)}
    return _Entry(Place(""), {"uri": uri, **own})


def _merge_hypervisor(
    own: Mapping[str, Any],
    flags: Mapping[str, Any],
    defaults: Mapping[str, Any],
    nova_confs: _NovaConfs,
    this_machine: ThisMachine,
) -> dict[str, Any]:
    """Merge the sources of a hypervisor's options by rank. Its own nova.conf replaces that of `defaults`."""
    own_nova_conf = nova_confs[own.get("nova_conf", ())]
    common_nova_conf = nova_confs[() if "nova_conf" in own else defaults.get("nova_conf", ())]
    by_rank = (flags, own, own_nova_conf.options, defaults, common_nova_conf.options)
    merged = dict(ChainMap(*map(dict, by_rank)))
    merged["nova_conf"] = own.get("nova_conf", defaults.get("nova_conf", ()))
    if merged.get("local") is None:
        merged["local"] = is_this_machine(own["uri"], this_machine, nova_conf=merged["nova_conf"])
    if HypervisorConfig(uri=own["uri"], local=merged["local"]).is_local:
        merged["storage_pool"] = _choose_storage_pool(by_rank)
    own_keys, common_keys = {*flags, *own}, {*flags, *own, *defaults}
    merged["ignored"] = (
        *_list_ignored(own_nova_conf, overridden=own_keys),
        *_list_ignored(common_nova_conf, overridden=common_keys),
    )
    return merged


def _list_ignored(nova_conf: NovaConf, *, overridden: Collection[str]) -> Iterator[Ignored]:
    """Return what a nova.conf says in vain, but for options that our own file sets."""
    for each in nova_conf.ignored:
        if each.option.rpartition(" ")[2] not in overridden:
            yield each


def _make_module(
    own: Mapping[str, Any],
    defaults: Mapping[str, Any],
    nova_confs: _NovaConfs,
    this_machine: ThisMachine,
    common: Mapping[str, Any],
) -> ModuleConfig:
    options = {key: value for key, value in own.items() if key != "target"}
    # The host of no URI is this machine: what is one is found out for each target.
    options["uri"] = own["uri"].replace(kinds.TARGET_PLACE, "host")
    merged = _merge_hypervisor(options, {}, defaults, nova_confs, ThisMachine())
    return ModuleConfig(
        uri=own["uri"],
        target=own["target"],
        options=HypervisorConfig(**merged, **common),
        this_machine=this_machine,
    )


def _choose_storage_pool(by_rank: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the storage pools, or none if a source of higher rank has an instances_path."""
    for options in by_rank:
        if "storage_pool" in options:
            return tuple(options["storage_pool"])
        if options.get("instances_path") is not None:
            return ()
    return ()


def _require_volume_groups(config: Config, mistakes: Mistakes) -> None:
    """Note where one is missing. Nova does not start without it either."""
    modules = {f"module {name}": module.options for name, module in config.modules.items()}
    for name, each in {**{each.target: each for each in config.hypervisors}, **modules}.items():
        if each.images_type == "lvm" and not each.images_volume_group and not each.storage_pool:
            mistakes.add(
                name, "found images_type lvm without images_volume_group, expected that group's name"
            )


def _find_warnings(config: Config) -> Iterator[str]:
    all_options = (*config.hypervisors, *(module.options for module in config.modules.values()))
    yield from dict.fromkeys(str(each) for options in all_options for each in options.ignored)
    for hypervisor in config.hypervisors:
        for conflict in _find_conflicts(hypervisor):
            yield f"{hypervisor.target}: {conflict}: nova-compute refuses to start with that"


def _doubt_this_machine(
    config: Config, entries: Collection[_Entry], this_machine: ThisMachine
) -> Iterator[str]:
    """Say so if a nova.conf calls this machine by a name or address that it is not known to have."""
    (only, *_others) = config.hypervisors
    host = LibvirtUri.parse(only.uri).host
    if not entries and only.is_local and not is_loopback(host) and not this_machine.is_named(host):
        yield (
            f"{only.target}: {host} is not known to be this machine, and counts as such because its nova_conf"
            " does; set local: false if it is another one, or local: true under hypervisors to agree"
        )


def _find_conflicts(hypervisor: HypervisorConfig) -> Iterator[str]:
    """Check the same as LibvirtDriver._check_cpu_set_configuration and _get_supported_vgpu_types."""
    enabled = [each for each in hypervisor.mdev_types if each.name in hypervisor.enabled_mdev_types]
    addresses = Counter(address for each in enabled for address in each.device_addresses)
    for address, count in addresses.items():
        if count > 1:
            yield f"device_addresses of enabled_mdev_types have {address} {count} times"
    yield from _find_memory_conflicts(hypervisor)
    shared, dedicated = hypervisor.cpu_shared_set, hypervisor.cpu_dedicated_set
    if hypervisor.vcpu_pin_set:
        if dedicated:
            yield "both vcpu_pin_set and cpu_dedicated_set are set"
        return
    if shared and dedicated and (both := parse_cpu_spec(shared) & parse_cpu_spec(dedicated)):
        yield f"cpu_shared_set and cpu_dedicated_set both have the CPUs {format_cpu_spec(both)}"
    if hypervisor.reserved_host_cpus and (shared or dedicated):
        yield "reserved_host_cpus is set beside cpu_shared_set or cpu_dedicated_set"


def _find_memory_conflicts(hypervisor: HypervisorConfig) -> Iterator[str]:
    """Check the same as Host._check_file_backed_memory_support."""
    total, reserved = hypervisor.file_backed_memory, hypervisor.reserved_host_memory_mb
    if total and hypervisor.ram_allocation_ratio != 1:
        yield f"file_backed_memory is set with a ram_allocation_ratio of {hypervisor.ram_allocation_ratio:g}"
    if total and reserved >= total:
        yield f"file_backed_memory {total} is no more than reserved_host_memory_mb {reserved}"

"""The options of nova-compute's own nova.conf, in one file or several, that count here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.config.kinds import (
    BOOLEAN,
    COUNT,
    CPU_SET,
    DEVICE_SPEC,
    MDEV_ADDRESS,
    MDEV_CLASS,
    NAME,
    POSITIVE_COUNT,
    RATIO,
    RESERVED_PAGES,
    URI,
    Kind,
)
from exporter.config.mdev_types import MdevTypeConfig
from exporter.config.mistakes import Mistakes
from exporter.config.oslo_conf import ConfFiles, Option, list_files, list_folder
from exporter.config.settings import NOVA_OPTIONS, NovaKey
from exporter.model import Ignored, ReservedPages

# nova-compute reads these of its own accord: the files, then the folders. The packages of Debian and Kolla
# name the files on its command line.
_STANDARD_FILES = ("nova.conf", "nova-compute.conf")
_PROVIDER_CONFIG_FOLDER = "provider_config"  # Nova's default is the one in /etc/nova
_STANDARD_FOLDERS = ("nova.conf.d", "nova-compute.conf.d")

_WHOLE_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_TRUE = frozenset({"true", "1", "on", "yes"})
_FALSE = frozenset({"false", "0", "off", "no"})
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class NovaConf:
    """What the files of one nova-compute say.

    :ivar options: the values of `settings.NOVA_OPTIONS`, by name; what the files leave to Nova's default is
        not in it
    :ivar connection_uri: where nova-compute finds libvirt
    :ivar ignored: what this exporter cannot honour, and files beside that were not read
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    connection_uri: str | None = None
    ignored: tuple[Ignored, ...] = ()


def read_nova_conf(*paths: Path) -> NovaConf:
    """Read one nova.conf, or several files together; of an option in two of them, the later file's counts.

    A folder stands for its files *.conf in the order of their names, as with nova-compute's --config-dir.
    Nothing else is read: no file beside these, and no environment variable of oslo.config. A file beside them
    that nova-compute would read is reported as ignored. So is a value that refers to an option which is not
    set, and a relative path: they count as unset.

    :raises ConfigError: with every mistake of the files: one cannot be read, a line is no assignment, a value
        is of the wrong kind, references go in a circle or multiply
    """
    mistakes = Mistakes()
    files = list(list_files(paths, mistakes))
    conf = ConfFiles(files, mistakes)
    options = _read_options(conf)
    connection_uri = conf.read(Option("libvirt", "connection_uri"), URI)
    _ignore_unsupported(conf)
    beside = (*_list_unread(paths, files), *_list_provider_configs(conf, paths))
    mistakes.raise_if_any()
    return NovaConf(
        options=options,
        connection_uri=connection_uri,
        ignored=(*conf.ignored, *beside),
    )


def _list_unread(paths: Sequence[Path], files: Sequence[Path]) -> Iterator[Ignored]:
    """Name each file beside those that were read which nova-compute reads, too."""
    read = {os.path.realpath(file) for file in files}
    for path in dict.fromkeys(each for folder in _list_folders(paths) for each in _list_standard(folder)):
        if os.path.realpath(path) not in read:
            yield Ignored(
                option="",
                file=str(path),
                line=None,
                message="was not read: if nova-compute reads it, name it under nova_conf, in the same order",
            )


def _list_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the folders in which nova-compute's files are."""
    names = (*_STANDARD_FILES, *_STANDARD_FOLDERS)
    beside = [path.parent for path in paths if path.name in names]
    above = [path.parent.parent for path in paths if path.parent.name in _STANDARD_FOLDERS]
    return list(dict.fromkeys([*beside, *above]))


def _list_standard(folder: Path) -> Iterator[Path]:
    """Yield what nova-compute reads of a folder, such as /etc/nova."""
    # Path.exists() raises an error for a file of a folder that may not be entered.
    yield from (folder / name for name in _STANDARD_FILES if os.path.exists(folder / name))  # noqa: PTH110
    for name in _STANDARD_FOLDERS:
        yield from _list_standard_folder(folder / name)


def _list_standard_folder(folder: Path, end: str = ".conf") -> Sequence[Path]:
    """Return its files with this end; itself if they are not known."""
    try:
        return list_folder(folder, end)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError:
        return [folder]


def _list_provider_configs(conf: ConfFiles, paths: Sequence[Path]) -> Iterator[Ignored]:
    """Name each file with which somebody adds to what Nova tells Placement (nova.compute.provider_config)."""
    option = Option("compute", "provider_config_location")
    configured = _read_path(conf, option)
    folders = [folder / _PROVIDER_CONFIG_FOLDER for folder in _list_folders(paths)]
    for folder in folders if configured is None else [Path(configured)]:
        for path in _list_standard_folder(folder, ".yaml"):
            message = "its inventories are not counted: the exporter does not read provider configuration"
            yield Ignored(option=str(option), file=str(path), line=None, message=message)


def _read_options(conf: ConfFiles) -> dict[str, Any]:
    """Return the options that have the name of one of our keys. An unset option is left out."""
    values = {name: _read_option(conf, name, key) for name, key in NOVA_OPTIONS.items()}
    values["mdev_types"] = _read_mdev_types(conf, values.get("enabled_mdev_types") or ())
    return {name: value for name, value in values.items() if value is not None}


def _read_option(conf: ConfFiles, name: str, key: NovaKey) -> object:
    option = Option(key.nova_group or "", name)
    if name in _READERS:
        return _READERS[name](conf, option)
    if key.kind == RATIO:
        return _read_allocation_ratio(conf, option)
    return conf.read(option, _AS_TEXT.get(key.kind, _TEXT))


def _read_allocation_ratio(conf: ConfFiles, option: Option) -> float | None:
    """Do the same as ComputeDriver._get_allocation_ratios for a new resource provider."""
    # Both are read, so that a mistake in either is reported. 0.0 means unset, as in old releases of Nova.
    initial = conf.read(Option(option.group, f"initial_{option.name}"), _RATIO)
    return conf.read(option, _RATIO_OR_ZERO) or initial


def _read_instances_path(conf: ConfFiles, option: Option) -> str | None:
    if conf.has(option):
        return _read_path(conf, option)
    state_path = _read_path(conf, Option("DEFAULT", "state_path"))
    return state_path and f"{state_path}/instances"


def _read_path(conf: ConfFiles, option: Option) -> str | None:
    path = conf.read(option, _TEXT)
    if path is None or path.startswith("/"):
        return path
    conf.ignore(option, "the path is relative, the option counts as unset")
    return None


def _read_device_spec(conf: ConfFiles, option: Option) -> tuple[str, ...] | None:
    """Return all specifications, also those under older names of the option."""
    older = (Option("pci", "passthrough_whitelist"), Option("DEFAULT", "pci_passthrough_whitelist"))
    return conf.read_all(option, DEVICE_SPEC, older=older) or None


def _read_reserved_huge_pages(conf: ConfFiles, option: Option) -> tuple[ReservedPages, ...] | None:
    return conf.read_all(option, RESERVED_PAGES) or None


def _read_image_cache_name(conf: ConfFiles, option: Option) -> str | None:
    """Return it under the name of the option today or the older one, which is that of our key."""
    return conf.read(Option(option.group, "subdirectory_name"), _TEXT, older=[Option("DEFAULT", option.name)])


def _read_enabled_mdev_types(conf: ConfFiles, option: Option) -> tuple[str, ...] | None:
    """Return a list, under the name of the option today or the older name."""
    return conf.read(option, _NAMES, older=[Option("devices", "enabled_vgpu_types")]) or None


def _read_mdev_types(conf: ConfFiles, enabled: Any) -> tuple[MdevTypeConfig, ...] | None:
    """Return the groups [mdev_TYPE] of the enabled types. Addresses may be in [vgpu_TYPE], as before."""
    types = []
    for name in enabled:
        group, older = f"mdev_{name}".lower(), f"vgpu_{name}".lower()
        addresses = conf.read(
            Option(group, "device_addresses"), _MDEV_ADDRESSES, older=[Option(older, "device_addresses")]
        )
        types.append(
            MdevTypeConfig(
                name=name,
                device_addresses=addresses or (),
                max_instances=conf.read(Option(group, "max_instances"), _POSITIVE_COUNT),
                mdev_class=conf.read(Option(group, "mdev_class"), MDEV_CLASS) or "VGPU",
            )
        )
    return tuple(each for each in types if each != MdevTypeConfig(name=each.name)) or None


# Options with rules of their own.
_READERS: Mapping[str, Callable[[ConfFiles, Option], object]] = {
    "instances_path": _read_instances_path,
    "device_spec": _read_device_spec,
    "reserved_huge_pages": _read_reserved_huge_pages,
    "image_cache_subdirectory_name": _read_image_cache_name,
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
        Option("DEFAULT", "config_source"),
        frozenset(),
        "what oslo.config reads from there is not read",
    ),
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
        Option("libvirt", "num_memory_encrypted_guests"),
        frozenset(),
        "the resource class MEM_ENCRYPTION_CONTEXT is not counted",
    ),
    _Limit(
        Option("libvirt", "num_intel_tdx_guests"),
        frozenset(),
        "the resource class MEM_ENCRYPTION_CONTEXT is not counted",
    ),
    _Limit(
        Option("libvirt", "pmem_namespaces"),
        frozenset(),
        "the resource classes CUSTOM_PMEM_NAMESPACE_… are not counted",
    ),
    _Limit(
        Option("neutron", "physnets"),
        frozenset(),
        "which NUMA cells a network is at does not count for what fits",
    ),
    _Limit(
        Option("neutron_tunnel", "numa_nodes"),
        frozenset(),
        "which NUMA cells tunnels are at does not count for what fits",
    ),
)


def _ignore_unsupported(conf: ConfFiles) -> None:
    for limit in _LIMITS:
        value = conf.read(limit.option, _ANYTHING)
        if value is not None and value.strip().lower() not in limit.honoured:
            conf.ignore(limit.option, f"not supported, {limit.consequence}")


def _parse_text(value: str) -> str:
    if "\ufffd" in value:
        raise ValueError("it is not UTF-8")
    return NAME.parse(value)


def _parse_names(value: str) -> tuple[str, ...]:
    return tuple(_parse_text(item.strip()) for item in value.split(",") if item.strip())


def _parse_count(value: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(value.strip()):
        raise ValueError
    return COUNT.parse(int(value))


def _parse_boolean(value: str) -> bool:
    """Read a boolean as oslo.config does."""
    lower = value.strip().lower()
    if lower not in _TRUE | _FALSE:
        raise ValueError
    return lower in _TRUE


def _parse_positive_count(value: str) -> int:
    return POSITIVE_COUNT.parse(_parse_count(value))


def _parse_mdev_addresses(value: str) -> tuple[str, ...]:
    return tuple(MDEV_ADDRESS.parse(each) for each in _parse_names(value))


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
_ANYTHING: Kind[str] = Kind("text", str)
_TEXT = Kind("one line of text", _parse_text)
_NAMES = Kind("names with commas between them", _parse_names)
_POSITIVE_COUNT = Kind(POSITIVE_COUNT.expected, _parse_positive_count)
_MDEV_ADDRESSES = Kind(f"{MDEV_ADDRESS.expected}, with commas between several", _parse_mdev_addresses)
_RATIO = Kind(RATIO.expected, _parse_ratio)
_RATIO_OR_ZERO = Kind("a number, 0 or more", _parse_ratio_or_zero)
_AS_TEXT: Mapping[Kind[Any], Kind[Any]] = {
    COUNT: Kind(COUNT.expected, _parse_count),
    BOOLEAN: Kind(BOOLEAN.expected, _parse_boolean),
    CPU_SET: Kind(CPU_SET.expected, _parse_cpu_set),
}

"""The kinds of values in a configuration: the name of each in messages, and how it is read."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from exporter.config.libvirt_uri import LibvirtUri, check_parameters
from exporter.cpu_spec import parse_cpu_spec
from exporter.device_spec import parse_device_spec
from exporter.label import MAX_LABEL_LENGTH
from exporter.model import LARGE_PAGES, ReservedPages, ResourceClass
from exporter.patterns import compile_pattern, find_ambiguous_repeat
from exporter.reserved_pages import parse_reserved_pages

# More than anybody needs, but so low that no capacity overflows.
MAX_ALLOCATION_RATIO = 1_000_000

LogLevel = Literal["debug", "info", "warning", "error"]
LibvirtNames = Literal["inovex", "debian", "tinkoff"]
LogFormat = Literal["logfmt", "json"]
ImagesType = Literal["default", "raw", "qcow2", "flat", "lvm", "rbd"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value.

    `expected` completes "expected …". `parse` raises ValueError for a value of another kind, with a useful
    detail or without text.
    """

    expected: str
    parse: Callable[[Any], T]

    def read(self, value: object, found: str) -> T:
        """Return the value as this kind; `found` is how a message describes it.

        :raises ValueError: with "found X, expected Y" if it is not of this kind
        """
        try:
            return self.parse(value)
        except ValueError as error:
            detail = f" ({error})" if str(error) else ""
            raise ValueError(f"found {found}, expected {self.expected}{detail}") from error


def _parse_text(value: object) -> str:
    """Accept one line of text. It is used in labels, logs and paths."""
    if not isinstance(value, str) or not value.isprintable() or not value or value != value.strip():
        raise ValueError
    return value


def _parse_images_type(value: object) -> str:
    return _parse_choice(value, get_args(ImagesType))


def _parse_device_spec(value: object) -> str:
    """Accept one or a list of Nova's specifications, and return it without line ends."""
    if not isinstance(value, str):
        raise ValueError
    parse_device_spec(value)
    return json.dumps(json.loads(value))


_PCI_ADDRESS = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]", re.ASCII)
_VIRTUAL_CARD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", re.ASCII)


def _parse_mdev_address(value: object) -> str:
    """Accept a PCI address; or libvirt's name of a virtual card such as mtty_mtty, as Nova 34 does."""
    text = _parse_text(value)
    if not _PCI_ADDRESS.fullmatch(text) and not _VIRTUAL_CARD.fullmatch(text):
        raise ValueError
    return text


_MDEV_CLASS = re.compile(r"VGPU|CUSTOM_[A-Z0-9_]+", re.ASCII)
MAX_RESOURCE_CLASS_LENGTH = 255


def _parse_mdev_class(value: object) -> str:
    text = _parse_text(value)
    if not _MDEV_CLASS.fullmatch(text) or len(text) > MAX_RESOURCE_CLASS_LENGTH:
        raise ValueError
    return text


_RESOURCE_CLASS = re.compile(r"[A-Z0-9_]+", re.ASCII)


def _parse_device_class(value: object) -> str:
    text = _parse_text(value)
    if not _RESOURCE_CLASS.fullmatch(text) or len(text) > MAX_RESOURCE_CLASS_LENGTH:
        raise ValueError
    if text in ResourceClass.__members__:
        raise ValueError("vcpus, pinned, memory_mb and disk_gb say how much of the others")
    return text


def _parse_reserved_pages(value: object) -> ReservedPages:
    return parse_reserved_pages(_parse_text(value))


def _parse_count(value: object) -> int:
    # To Python, True is a number.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _parse_positive_count(value: object) -> int:
    if not _parse_count(value):
        raise ValueError
    return _parse_count(value)


def _parse_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


MAX_FLAVOR_NAME_LENGTH = 128


def _parse_flavor_name(value: object) -> str:
    name = _parse_text(value)
    if len(name) > MAX_FLAVOR_NAME_LENGTH:
        raise ValueError(f"{MAX_FLAVOR_NAME_LENGTH} characters at most")
    return name


def _parse_storage_id(value: object) -> str:
    text = _parse_text(value)
    if len(text) > MAX_LABEL_LENGTH:
        raise ValueError(f"{MAX_LABEL_LENGTH} characters at most")
    return text


_PAGE_SIZE = re.compile(r"(\d{1,9})(?:([KMG])i?B)?", re.ASCII)
_PAGE_UNITS_KIB = {None: 1, "K": 1, "M": 2**10, "G": 2**20}


def _parse_page_size(value: object) -> int:
    """Read a size in the form of hw:mem_page_size: a number alone is KiB, and 2MB is 2 MiB."""
    if value == "large":
        return LARGE_PAGES
    match = _PAGE_SIZE.fullmatch(str(value) if type(value) is int else _parse_text(value))
    if match is None or not int(match[1]):
        raise ValueError
    return int(match[1]) * _PAGE_UNITS_KIB[match[2]]


def _parse_ratio(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError
    if value > MAX_ALLOCATION_RATIO:
        raise ValueError(f"{MAX_ALLOCATION_RATIO} at most")
    return float(value)


_LABEL_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")


def _parse_label_name(value: object) -> str:
    if not isinstance(value, str) or not _LABEL_NAME.fullmatch(value):
        raise ValueError
    return value


_MILLISECONDS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _MILLISECONDS))


def parse_duration(value: object) -> float:
    """Parse a duration in Prometheus' form ("5s", "1m30s", "500ms", "0"), and return seconds.

    :raises ValueError: if it is not a duration, or is above a year, because timers may overflow
    """
    if value == "0" or (value == 0 and type(value) is int):
        return 0.0
    match = _DURATION.fullmatch(_parse_text(value))
    if match is None:
        raise ValueError
    milliseconds = sum(
        int(count) * unit for count, unit in zip(match.groups("0"), _MILLISECONDS.values(), strict=True)
    )
    if milliseconds > _MILLISECONDS["y"]:
        raise ValueError("1y at most")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Return seconds as the shortest duration: "1m30s"."""
    rest = round(seconds * 1000)
    written = ""
    for unit, milliseconds in _MILLISECONDS.items():
        count, rest = divmod(rest, milliseconds)
        written += f"{count}{unit}" if count else ""
    return written or "0s"


def _parse_positive_duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError
    return seconds


def _parse_cpu_set(value: object) -> str:
    # YAML reads a set of one CPU as a number.
    spec = str(value) if type(value) is int else _parse_text(value)
    parse_cpu_spec(spec)
    return spec


def _parse_absolute_path(value: object) -> str:
    path = _parse_text(value)
    if not path.startswith("/"):
        raise ValueError
    return path


def _parse_uri(value: object) -> str:
    uri = _parse_text(value)
    check_parameters(uri)
    return uri


_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[\w.-]*)):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT = 65535
_MAX_LABEL = 63
_LABEL = re.compile(rf".{{1,{_MAX_LABEL}}}")
_UNIX_PREFIX = "unix:"
_MAX_UNIX_PATH = 107


def _parse_address(value: object) -> str:
    address = _parse_text(value)
    if address.startswith(_UNIX_PREFIX):
        path = _parse_absolute_path(address.removeprefix(_UNIX_PREFIX))
        if len(path.encode()) > _MAX_UNIX_PATH:
            raise ValueError(f"a socket's path has {_MAX_UNIX_PATH} bytes at most")
        return address
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError
    if int(match["port"]) > _MAX_PORT:
        raise ValueError(f"the highest port is {_MAX_PORT}")
    if match["ipv6"]:
        _require_ip(match["ipv6"], 6)
    elif match["host"].replace(".", "").isdigit():
        _require_ip(match["host"], 4)
    elif match["host"] and not all(map(_LABEL.fullmatch, match["host"].removesuffix(".").split("."))):
        raise ValueError(f"a host name has 1 to {_MAX_LABEL} letters between its dots")
    return address


def _require_ip(text: str, version: int) -> None:
    """Check an IP address. Python's own message is left out, as it differs between versions."""
    try:
        found = ipaddress.ip_address(text).version
    except ValueError:
        raise ValueError from None
    if found != version:
        raise ValueError


_URL_PATH = re.compile(r"/[\w/.~-]+", re.ASCII)
_OTHER_ENDPOINTS = re.compile(r"/+|/probe|/sd|/-/.*")


def _parse_url_path(value: object) -> str:
    path = _parse_text(value)
    if _OTHER_ENDPOINTS.fullmatch(path):
        raise ValueError("another endpoint is there")
    if not _URL_PATH.fullmatch(path):
        raise ValueError
    return path


TARGET_PLACE = "{target}"


def _parse_uri_template(value: object) -> str:
    template = _parse_text(value)
    example = template.replace(TARGET_PLACE, "host.example")
    uri = LibvirtUri.parse(example)
    check_parameters(example)
    if template.count(TARGET_PLACE) != 1 or uri.host != "host.example":
        raise ValueError
    return template


def _parse_pattern(value: object) -> str:
    """Parse a pattern for texts that owners of guests or clients choose: none of them may take hours."""
    pattern = _parse_text(value)
    compile_pattern(pattern)
    group = find_ambiguous_repeat(pattern)
    if group:
        raise ValueError(f"{group} can match one text in several ways, which takes hours with some names")
    return pattern


# Labels of hypervisor_guest_info that have one value for each guest. Not its names: users change them.
GUEST_LABELS = ("uuid", "flavor", "project_id", "user_id", "image_id", "project_name", "user_name")


def _parse_guest_label(value: object) -> str:
    return _parse_choice(value, GUEST_LABELS)


def _parse_log_level(value: object) -> str:
    # Other exporters of the Prometheus family call it warn.
    return _parse_choice("warning" if value == "warn" else value, get_args(LogLevel))


def _parse_libvirt_names(value: object) -> str:
    return _parse_choice(value, get_args(LibvirtNames))


def _parse_log_format(value: object) -> str:
    return _parse_choice(value, get_args(LogFormat))


def _parse_choice(value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError
    return value


NAME = Kind("a name, as one line of text", _parse_text)
LABEL_NAME = Kind("a label's name such as zone", _parse_label_name)
LABEL_VALUE = Kind("a label's value, as one line of text", _parse_text)
STORAGE_POOL = Kind("a storage pool's name, as one line of text", _parse_text)
STORAGE_ID = Kind("an id of the storage, as one line of text", _parse_storage_id)
IMAGES_TYPE = Kind("default, raw, qcow2, flat, lvm or rbd", _parse_images_type)
VOLUME_GROUP = Kind("the name of an LVM volume group", _parse_text)
CEPH_POOL = Kind("the name of a Ceph pool", _parse_text)
CEPH_USER = Kind("the name of a Ceph client, without client.", _parse_text)
DEVICE_SPEC = Kind(
    'a device_spec as Nova has it, in JSON, such as {"vendor_id": "8086", "product_id": "1520"}',
    _parse_device_spec,
)
MDEV_ADDRESS = Kind("the PCI address of a card such as 0000:84:00.0", _parse_mdev_address)
DEVICE_CLASS = Kind("a resource class of devices such as VGPU or CUSTOM_PCI_10DE_20B5", _parse_device_class)
MDEV_CLASS = Kind("VGPU, or a name of A-Z, 0-9 and _ that begins with CUSTOM_", _parse_mdev_class)
RESERVED_PAGES = Kind("pages of a NUMA cell such as node:0,size:2MB,count:64", _parse_reserved_pages)
SUBDIRECTORY = Kind("the name of a directory", _parse_text)
COUNT = Kind("a whole number, 0 or more", _parse_count)
POSITIVE_COUNT = Kind("a whole number, 1 or more", _parse_positive_count)
BOOLEAN = Kind("true or false", _parse_boolean)
FLAVOR_NAME = Kind("a flavor's name, as one line of text", _parse_flavor_name)
PAGE_SIZE = Kind("a page size such as 2MB or 1GB, or large", _parse_page_size)
RATIO = Kind("a number above 0", _parse_ratio)
DURATION = Kind("a duration such as 5s or 1m30s", parse_duration)
POSITIVE_DURATION = Kind("a duration above 0s such as 5s or 1m30s", _parse_positive_duration)
CPU_SET = Kind("a CPU set such as 0-3,^2,8", _parse_cpu_set)
FILE = Kind("the path of a file", _parse_text)
FILE_OR_FOLDER = Kind("the path of a file or folder", _parse_text)
ABSOLUTE_PATH = Kind("a path that begins with /", _parse_absolute_path)
URI = Kind("a libvirt URI such as qemu:///system", _parse_uri)
ADDRESS = Kind(
    "an address such as :9177, 127.0.0.1:9177, [::1]:9177 or unix:/run/exporter.sock", _parse_address
)
URL_PATH = Kind("a path such as /metrics", _parse_url_path)
URI_TEMPLATE = Kind(
    "a libvirt URI with {target} for its host, such as qemu+tls://{target}/system", _parse_uri_template
)
PATTERN = Kind("a regular expression such as kvm[0-9]+", _parse_pattern)
GUEST_PATTERN = Kind("a regular expression such as web[0-9]+", _parse_pattern)
GUEST_LABEL = Kind(", ".join(GUEST_LABELS[:-1]) + f" or {GUEST_LABELS[-1]}", _parse_guest_label)
LOG_LEVEL = Kind("debug, info, warning or error", _parse_log_level)
LOG_FORMAT = Kind("logfmt or json", _parse_log_format)
LIBVIRT_NAMES = Kind("inovex, debian or tinkoff", _parse_libvirt_names)

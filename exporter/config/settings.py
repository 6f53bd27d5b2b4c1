"""The records of the configuration. A field that is a key declares its values and its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, get_type_hints

from exporter.config import kinds
from exporter.config.keys import Key, LabelsKey, ListKey, NovaOnly, ResourcesKey
from exporter.config.kinds import LibvirtNames, LogFormat, LogLevel
from exporter.config.libvirt_uri import LibvirtUri, bracket_address, find_default_port, redact_uri
from exporter.config.mdev_types import MdevTypeConfig, MdevTypesKey
from exporter.config.this_machine import ThisMachine, is_loopback
from exporter.deprecation import Deprecation
from exporter.model import DeviceClass, Flavor, Ignored, ReservedPages

DEFAULT_URI = "qemu:///system"


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
class GuestsConfig:
    """Which guests the collector `guests` shows, and how."""

    include: Annotated[
        str | None,
        Key(
            kinds.GUEST_PATTERN,
            "Shows only guests whose libvirt name or instance name matches as a whole.",
            nullable=True,
        ),
    ] = None
    exclude: Annotated[
        str | None,
        Key(
            kinds.GUEST_PATTERN,
            "Leaves out guests whose libvirt name or instance name matches as a whole.",
            nullable=True,
        ),
    ] = None
    project: Annotated[
        str | None,
        Key(
            kinds.GUEST_PATTERN,
            "Shows only guests whose project's id or name, in Nova's metadata, matches as a whole.",
            nullable=True,
        ),
    ] = None
    max: Annotated[
        int,
        Key(kinds.COUNT, "How many guests of one hypervisor are shown; the others are counted as left out."),
    ] = 500
    per_vcpu: Annotated[
        bool, Key(kinds.BOOLEAN, "Whether each vCPU has series of its own, beside the sum.")
    ] = False
    series_labels: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.GUEST_LABEL,
            "Labels of hypervisor_guest_info that every series of a guest has, for proxies that separate"
            " tenants.",
            nullable=True,
        ),
    ] = ()
    show_owner_names: Annotated[
        bool,
        Key(kinds.BOOLEAN, "Whether the names of projects and users are shown, and not only their ids."),
    ] = True


@dataclass(frozen=True, kw_only=True, slots=True)
class HypervisorConfig:
    """One hypervisor, with everything that its capacity depends on. Names and units are Nova's."""

    uri: Annotated[str, Key(kinds.URI, "libvirt's URI of the hypervisor.")]
    name: Annotated[
        str | None,
        Key(kinds.NAME, "Its name in the label target, instead of the URI.", nullable=True),
    ] = None
    labels: Annotated[
        tuple[tuple[str, str], ...],
        LabelsKey("Labels that group hypervisors, such as zone or cluster: on all its series by way of /sd."),
    ] = ()
    nova_conf: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.FILE_OR_FOLDER,
            "The files of nova-compute to take the options below from, where they are not set; of an option"
            " in two files the later one counts.",
            nullable=True,
            may_repeat=True,
        ),
    ] = ()
    local: Annotated[
        bool | None,
        Key(
            kinds.BOOLEAN,
            "Whether it is this machine, whose paths and commands are then used; found out without it.",
            nullable=True,
        ),
    ] = None
    instances_path: Annotated[
        str | None,
        Key(
            kinds.ABSOLUTE_PATH,
            "The directory whose file system holds the guests' disks.",
            nullable=True,
            nova_group="DEFAULT",
        ),
    ] = None
    storage_pool: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.STORAGE_POOL,
            "The libvirt storage pools to measure instead of instances_path.",
            nullable=True,
        ),
    ] = ()
    storage_id: Annotated[
        str | None,
        Key(
            kinds.STORAGE_ID,
            "The id of storage that several hypervisors share, where it cannot be seen; the same for all.",
            nullable=True,
        ),
    ] = None
    images_type: Annotated[
        str,
        Key(
            kinds.IMAGES_TYPE,
            "How guests' disks are kept: in files, LVM volumes or a Ceph pool; the latter two are measured"
            " instead of instances_path.",
            nova_group="libvirt",
        ),
    ] = "default"
    images_volume_group: Annotated[
        str | None,
        Key(kinds.VOLUME_GROUP, "The volume group of images_type lvm.", nullable=True, nova_group="libvirt"),
    ] = None
    images_rbd_pool: Annotated[
        str, Key(kinds.CEPH_POOL, "The Ceph pool of images_type rbd.", nova_group="libvirt")
    ] = "rbd"
    images_rbd_ceph_conf: Annotated[
        str | None,
        Key(
            kinds.FILE,
            "Ceph's configuration file, instead of Ceph's default.",
            nullable=True,
            nova_group="libvirt",
        ),
    ] = None
    images_rbd_replicas: Annotated[
        int | None,
        Key(
            kinds.POSITIVE_COUNT,
            "How often Ceph keeps what is written to the pool; counts only where libvirt's pool is measured.",
            nullable=True,
        ),
    ] = None
    rbd_user: Annotated[
        str | None,
        Key(
            kinds.CEPH_USER,
            "The Ceph client to ask as, instead of Ceph's default.",
            nullable=True,
            nova_group="libvirt",
        ),
    ] = None
    vcpu_pin_set: Annotated[
        str | None,
        Key(
            kinds.CPU_SET,
            "The CPUs that guests may use (before Nova had the two sets below).",
            nullable=True,
            nova_group="DEFAULT",
        ),
    ] = None
    cpu_shared_set: Annotated[
        str | None,
        Key(
            kinds.CPU_SET, "The CPUs that guests' unpinned vCPUs share.", nullable=True, nova_group="compute"
        ),
    ] = None
    cpu_dedicated_set: Annotated[
        str | None,
        Key(kinds.CPU_SET, "The CPUs for guests' pinned vCPUs (PCPUs).", nullable=True, nova_group="compute"),
    ] = None
    cpu_power_management: Annotated[
        bool,
        Key(
            kinds.BOOLEAN,
            "Whether Nova takes CPUs of cpu_dedicated_set offline while no guest uses them; they count, too.",
            nova_group="libvirt",
        ),
    ] = False
    reserved_host_cpus: Annotated[
        int, Key(kinds.COUNT, "CPUs that are kept for the host.", nova_group="DEFAULT")
    ] = 0
    reserved_host_memory_mb: Annotated[
        int, Key(kinds.COUNT, "MiB of memory that are kept for the host.", nova_group="DEFAULT")
    ] = 512
    reserved_host_disk_mb: Annotated[
        int, Key(kinds.COUNT, "MiB of disk that are kept for the host.", nova_group="DEFAULT")
    ] = 0
    reserved_huge_pages: Annotated[
        tuple[ReservedPages, ...],
        ListKey(
            kinds.RESERVED_PAGES,
            "Memory pages of a NUMA cell that are kept for other programs than guests, by size.",
            nullable=True,
            nova_group="DEFAULT",
        ),
    ] = ()
    reserve_disk_resource_for_image_cache: Annotated[
        bool,
        Key(
            kinds.BOOLEAN,
            "Whether what the image cache takes is kept, beside reserved_host_disk_mb.",
            nova_group="workarounds",
        ),
    ] = False
    image_cache_subdirectory_name: Annotated[
        str,
        Key(kinds.SUBDIRECTORY, "The image cache, below instances_path.", nova_group="image_cache"),
    ] = "_base"
    file_backed_memory: Annotated[
        int,
        Key(
            kinds.COUNT,
            "MiB of memory for guests in files: this is then the memory, and what guests have is used.",
            nova_group="libvirt",
        ),
    ] = 0
    cpu_allocation_ratio: Annotated[
        float, Key(kinds.RATIO, "vCPUs that may be placed on each CPU.", nova_group="DEFAULT")
    ] = 4.0
    ram_allocation_ratio: Annotated[
        float,
        Key(
            kinds.RATIO, "Memory that may be promised to guests for each MiB there is.", nova_group="DEFAULT"
        ),
    ] = 1.0
    disk_allocation_ratio: Annotated[
        float,
        Key(kinds.RATIO, "Disk that may be promised to guests for each GiB there is.", nova_group="DEFAULT"),
    ] = 1.0

    device_spec: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.DEVICE_SPEC,
            "The PCI devices that guests may be given; none without it.",
            nullable=True,
            nova_group="pci",
        ),
    ] = ()
    report_in_placement: Annotated[
        bool,
        Key(kinds.BOOLEAN, "Whether Nova reports these PCI devices to Placement.", nova_group="pci"),
    ] = False
    enabled_mdev_types: Annotated[
        tuple[str, ...],
        ListKey(
            kinds.NAME,
            "The types of mediated devices that Nova gives to guests. Without it all are counted.",
            nullable=True,
            nova_group="devices",
        ),
    ] = ()
    mdev_types: Annotated[
        tuple[MdevTypeConfig, ...],
        MdevTypesKey("Nova's groups [mdev_TYPE]: the cards of each type, how many at most, and their class."),
    ] = ()

    # Copies of what the file has once for all hypervisors: a hypervisor's numbers depend on them.
    flavors: tuple[Flavor, ...] = ()
    flavors_from_guests: bool = False
    guests: GuestsConfig = GuestsConfig()

    my_ip: Annotated[str | None, NovaOnly(kinds.NAME, "DEFAULT")] = None

    # What its nova_conf says in vain.
    ignored: tuple[Ignored, ...] = ()

    @property
    def target(self) -> str:
        """The hypervisor's name in the label target."""
        return self.name or redact_uri(self.uri)

    @property
    def driver(self) -> str:
        """libvirt's driver, such as qemu."""
        return LibvirtUri.parse(self.uri).driver

    @property
    def is_local(self) -> bool:
        """Whether the hypervisor is this machine, so that paths can be read here and commands run.

        By its URI alone unless `local` says so: `load_config` sets that for a URI with this machine's name.
        """
        uri = LibvirtUri.parse(self.uri)
        if uri.is_embedded:
            return False
        return uri.is_local if self.local is None else self.local

    @property
    def has_control_groups(self) -> bool:
        """Whether its guests have control groups, and they are this machine's."""
        return self.is_local and LibvirtUri.parse(self.uri).has_control_groups

    @property
    def has_process_files(self) -> bool:
        """Whether this machine's files name the processes of its guests."""
        return self.is_local and LibvirtUri.parse(self.uri).has_process_files

    @property
    def tells_use(self) -> bool:
        """Whether libvirt is asked for what guests use, as no control groups of this machine tell it.

        Guests of another machine have none here, and those of qemu:///session or xen:/// have none at all.
        """
        return not self.has_control_groups and not self.is_embedded

    @property
    def is_remote(self) -> bool:
        """Whether connecting uses the network, to another machine or to this one."""
        uri = LibvirtUri.parse(self.uri)
        return not uri.is_local and not uri.is_embedded

    @property
    def is_embedded(self) -> bool:
        """Whether it is libvirt's test driver, whose storage is its pools."""
        return LibvirtUri.parse(self.uri).is_embedded


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorConfig:
    """A flavor for hypervisor_flavor_slots. Names and units are Nova's."""

    vcpus: Annotated[int, Key(kinds.POSITIVE_COUNT, "The vCPUs of a guest.")]
    memory_mb: Annotated[int, Key(kinds.POSITIVE_COUNT, "MiB of memory.")]
    disk_gb: Annotated[
        int,
        Key(kinds.COUNT, "GiB of disk: root, ephemeral and swap; without root, if that is a volume."),
    ]
    pinned: Annotated[
        bool, Key(kinds.BOOLEAN, "Whether each vCPU has a CPU to itself (hw:cpu_policy=dedicated).")
    ] = False
    pages: Annotated[
        int | None,
        Key(kinds.PAGE_SIZE, "The size of the pages of its memory (hw:mem_page_size).", nullable=True),
    ] = None
    resources: Annotated[
        tuple[tuple[DeviceClass, int], ...],
        ResourcesKey("Its devices by resource class (resources:VGPU, or those of a PCI alias)."),
    ] = ()

    def make_flavor(self, name: str) -> Flavor:
        """Return the flavor of this name. With pinned vCPUs or a page size, a guest is in one NUMA cell."""
        return Flavor(
            name=name,
            vcpus=0 if self.pinned else self.vcpus,
            pcpus=self.vcpus if self.pinned else 0,
            memory_mb=self.memory_mb,
            disk_gb=self.disk_gb,
            numa_cells=int(self.pinned or self.pages is not None),
            page_size_kib=self.pages,
            devices=self.resources,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleConfig:
    """Which hypervisors `/probe` may read, how they are reached, and their options."""

    uri: Annotated[str, Key(kinds.URI_TEMPLATE, "libvirt's URI, with {target} where the probed host goes.")]
    target: Annotated[
        str,
        Key(kinds.PATTERN, "What the whole of a probed target has to match; others are refused."),
    ]
    options: HypervisorConfig  # of each hypervisor, except its URI and name
    this_machine: ThisMachine = field(default_factory=ThisMachine)

    @property
    def default_port(self) -> int | None:
        """The port of its transport; None if a target may have no port: there is none, or the URI has one."""
        if f"{kinds.TARGET_PLACE}:" in self.uri:
            return None
        return find_default_port(self.uri.replace(kinds.TARGET_PLACE, "host"))

    def make_hypervisor(self, target: str) -> HypervisorConfig:
        """Return the hypervisor of a target. The caller has checked the target."""
        uri = self.uri.replace(kinds.TARGET_PLACE, bracket_address(target))
        local = self.options.local
        if local is None:
            local = is_this_machine(uri, self.this_machine, nova_conf=self.options.nova_conf)
        return replace(self.options, uri=uri, name=target, local=local)


def is_this_machine(uri: str, this_machine: ThisMachine, *, nova_conf: Sequence[str]) -> bool | None:
    """Return True if a URI with a host or a transport is that of this machine; None if it is not known to be.

    Behind the loopback device may be a tunnel to another machine; but a nova.conf here is this machine's.
    """
    parsed = LibvirtUri.parse(uri)
    if parsed.is_local or parsed.is_embedded:
        return None
    is_own = bool(nova_conf) if is_loopback(parsed.host) else this_machine.is_named(parsed.host)
    return True if is_own else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The whole configuration. Durations are in seconds."""

    web: WebConfig = WebConfig()
    log: LogConfig = LogConfig()
    guests: GuestsConfig = GuestsConfig()
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
    flavors_from_guests: Annotated[
        bool, Key(kinds.BOOLEAN, "Whether the flavors that guests have are counted beside those configured.")
    ] = False
    libvirt_names: Annotated[
        LibvirtNames | None,
        Key(
            kinds.LIBVIRT_NAMES,
            "Whose names guests' numbers have besides: those of the exporter that this one replaces.",
            nullable=True,
        ),
    ] = None
    hypervisors: tuple[HypervisorConfig, ...] = (HypervisorConfig(uri=DEFAULT_URI),)
    modules: Mapping[str, ModuleConfig] = field(default_factory=dict)
    disabled_collectors: frozenset[str] = frozenset()

    # What is valid but not supported: one complete line each, for the log.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """The configuration from the command line. None and () stand for flags that are not given."""

    libvirt_uri: tuple[str, ...] = ()
    instances_path: str | None = None
    listen_address: tuple[str, ...] = ()
    telemetry_path: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    collectors: Mapping[str, bool] = field(default_factory=dict)  # False for --no-collector.NAME


AnyKey = Key | ListKey | LabelsKey | MdevTypesKey | ResourcesKey
NovaKey = Key | ListKey | NovaOnly


def _declared_keys(record: type) -> dict[str, AnyKey]:
    """Return the keys in a record's annotations. A field without one is not a key."""
    return {name: key for name, key in _list_hints(record) if isinstance(key, AnyKey)}


def _list_nova_options() -> dict[str, NovaKey]:
    """Return what a nova.conf may set, by name, which is the same in Nova and here."""
    return {
        name: key
        for name, key in _list_hints(HypervisorConfig)
        if isinstance(key, (Key, ListKey, NovaOnly)) and key.nova_group is not None
    }


def _list_hints(record: type) -> Iterator[tuple[str, object]]:
    for name, hint in get_type_hints(record, include_extras=True).items():
        for each in getattr(hint, "__metadata__", ()):
            yield name, each


ONE_HYPERVISOR_ONLY = ("uri", "name", "labels")
TOP_KEYS = _declared_keys(Config)
WEB_KEYS = _declared_keys(WebConfig)
LOG_KEYS = _declared_keys(LogConfig)
GUESTS_KEYS = _declared_keys(GuestsConfig)
HYPERVISOR_KEYS = _declared_keys(HypervisorConfig)
DEFAULTS_KEYS = {name: key for name, key in HYPERVISOR_KEYS.items() if name not in ONE_HYPERVISOR_ONLY}
NOVA_OPTIONS = _list_nova_options()
FLAVOR_KEYS = _declared_keys(FlavorConfig)
REQUIRED_FLAVOR_KEYS = ("vcpus", "memory_mb", "disk_gb")
MODULE_ONLY_KEYS = _declared_keys(ModuleConfig)
MODULE_KEYS = {**MODULE_ONLY_KEYS, **DEFAULTS_KEYS}
SECTIONS = ("web", "log", "guests", "defaults", "flavors", "hypervisors", "modules")


@dataclass(frozen=True, slots=True)
class Declaration:
    """A key as an example file or a page of documentation shows it."""

    path: str  # "defaults.storage_pool", "hypervisors[].uri"
    expected: str  # "a duration such as 5s or 1m30s"
    meaning: str
    deprecated: Deprecation | None = None


def list_declarations() -> tuple[Declaration, ...]:
    """List the file's keys. What `defaults` and hypervisors both take is listed under `defaults` only."""
    keys = {
        **{f"web.{name}": key for name, key in WEB_KEYS.items()},
        **{f"log.{name}": key for name, key in LOG_KEYS.items()},
        **TOP_KEYS,
        **{f"guests.{name}": key for name, key in GUESTS_KEYS.items()},
        **{f"flavors.NAME.{name}": key for name, key in FLAVOR_KEYS.items()},
        **{f"defaults.{name}": key for name, key in DEFAULTS_KEYS.items()},
        **{f"hypervisors[].{name}": HYPERVISOR_KEYS[name] for name in ONE_HYPERVISOR_ONLY},
        **{f"modules.NAME.{name}": key for name, key in MODULE_ONLY_KEYS.items()},
    }
    return tuple(Declaration(path, key.expected, key.meaning, key.deprecated) for path, key in keys.items())

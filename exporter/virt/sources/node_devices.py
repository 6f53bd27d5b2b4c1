"""Node devices: PCI devices for guests, and mediated devices that can still be created.

To read them takes one libvirt call for each. So they are read between scrapes: when libvirt reports a change,
and every few minutes. Scrapes use what is known. They have their own connection: with modular daemons
virtnodedevd answers, and it may be absent or hang.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from exporter.compute.source import Job, Settings, Source
from exporter.config.settings import HypervisorConfig
from exporter.device_spec import DeviceSpec, list_assignable, parse_device_spec
from exporter.errors import (
    ConnectError,
    ConnectionLostError,
    DaemonError,
    DeniedError,
    HypervisorError,
)
from exporter.model import NodeDevices, PciDevice, Problem, Severity, UnreadDevice
from exporter.placement.mdevs import get_mdev_view
from exporter.placement.pci import PciView, get_pci_view
from exporter.virt.calls import NodeDeviceHypervisor
from exporter.virt.daemons import NODE_DEVICES, explain_silence
from exporter.virt.node_devices import ParsedDevices, parse_node_devices

# Events report devices that are added, removed or changed. This finds what events miss.
MAX_AGE_SECONDS = 300.0
# Events come in large groups: if a card gets 64 virtual functions, there are 64 events.
MIN_AGE_SECONDS = 5.0
# Nothing reports the end of virtnodedevd, after which there are no events. One call checks whether it is
# still there.
CHECK_SECONDS = 30.0
# After a failure, try again after this time. Until then, use what is known for this time.
RETRY_SECONDS = 5.0
FORGET_SECONDS = 2 * MAX_AGE_SECONDS
# No list of devices takes this long: a daemon hangs.
TIMEOUT_SECONDS = 10.0
# Each kind of device is a series. No host has this many for guests.
MAX_KINDS = 256
# A card with 64 virtual functions may have 64 devices that cannot be read. So many are named one by one.
MAX_NAMED = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The devices that count.

    :ivar specs: Nova's [pci] device_spec; without any, no PCI device is read
    :ivar config: the hypervisor's options; of mediated devices without any, all types count
    """

    specs: tuple[DeviceSpec, ...]
    config: HypervisorConfig

    @classmethod
    def parse(cls, settings: Settings) -> _Wanted:
        config = settings.hypervisor
        specs = tuple(spec for text in config.device_spec for spec in parse_device_spec(text))
        return cls(specs, config)

    @property
    def is_configured(self) -> bool:
        return bool(self.specs or self.config.enabled_mdev_types)

    def list_capabilities(self) -> list[str]:
        """Return the kinds of devices to read; each device needs a call."""
        capabilities = ["mdev_types"]
        if self.specs:
            capabilities += ["pci", "vdpa"]
        if any(spec.devname for spec in self.specs):
            capabilities += ["net"]
        return capabilities

    def is_like(self, other: _Wanted) -> bool:
        """Whether the same devices count."""
        names = ("device_spec", "report_in_placement", "enabled_mdev_types", "mdev_types")
        return all(getattr(self.config, name) == getattr(other.config, name) for name in names)


class NodeDeviceCache(Source):
    """A cache of the node devices that count.

    :param hypervisor: a connection only for this
    :param clock: monotonic seconds
    """

    name = "node devices"

    def __init__(
        self, hypervisor: NodeDeviceHypervisor, settings: Settings, *, clock: Callable[[], float]
    ) -> None:
        self._hypervisor = hypervisor
        self._wanted = _Wanted.parse(settings)
        self._clock = clock
        self._known: NodeDevices | None = None
        self._known_at = 0.0
        self._problems: tuple[Problem, ...] = ()
        self._has_unread = False
        self._read_at: float | None = None
        self._checked_at = 0.0
        self._asked_at: float | None = None
        self._has_changed = False
        self._has_failed = False

    def get_ages(self) -> Mapping[str, float]:
        """Return their age; nothing where none are known. They are read between scrapes only."""
        return {} if self.get() is None else {"the node devices": self._clock() - self._known_at}

    def list_jobs(self) -> Sequence[Job]:
        """Return the job that reads the devices, if it is due."""
        if not self.needs_reading():
            return ()
        return [Job(key="all", run=self.read, timeout=TIMEOUT_SECONDS, may_hang=True)]

    def note_reconnected(self) -> None:
        """Forget everything, because events may have been missed."""
        self._known, self._problems, self._read_at = None, (), None

    def configure(self, settings: Settings) -> None:
        """Read these devices from now on. Forget the known ones if the options changed."""
        wanted = _Wanted.parse(settings)
        if not wanted.is_like(self._wanted):
            self._wanted = wanted
            self.note_reconnected()

    def get(self) -> NodeDevices | None:
        """Return the devices; None if they were not read yet, or too long ago."""
        return self._known if self._clock() - self._known_at <= FORGET_SECONDS else None

    def get_problems(self) -> tuple[Problem, ...]:
        """Return why they, or some of them, could not be read."""
        seconds = self._silent_seconds()
        if seconds >= TIMEOUT_SECONDS:
            return (self._make_problem("daemon", explain_silence(NODE_DEVICES, "node devices", seconds)),)
        return self._problems

    def needs_reading(self) -> bool:
        """Whether `read` is due."""
        return self._is_reading_due() or self._clock() - self._checked_at >= CHECK_SECONDS

    def _is_reading_due(self) -> bool:
        self._has_changed = self._hypervisor.pop_node_devices_changed() or self._has_changed
        if self._read_at is None:
            return True
        age = self._clock() - self._read_at
        if self._has_failed:
            return age >= RETRY_SECONDS
        if self._has_changed:
            return age >= MIN_AGE_SECONDS
        return age >= (CHECK_SECONDS if self._has_unread else MAX_AGE_SECONDS)

    def read(self) -> None:
        """Read the devices, or check whether that is possible. Called between scrapes, by another thread.

        :raises HypervisorError: if libvirt cannot be reached at all
        """
        self._checked_at = self._asked_at = self._clock()
        if not self._has_failed and not self._is_reading_due() and self._can_be_read():
            return
        self._read_at = self._asked_at = self._clock()
        self._has_changed, self._has_failed = False, True
        wanted = self._wanted
        try:
            described = self._list_devices(wanted)
            _check_denied(described)
        except (ConnectionLostError, ConnectError):
            raise  # the refresh gets the same error and reports it
        except HypervisorError as error:
            self._problems = (self._make_problem(error.reason, f"node devices cannot be read: {error}"),)
            return
        finally:
            self._asked_at = None
        self._has_failed = False
        if wanted is not self._wanted:
            self._read_at = None  # the options changed meanwhile
            return
        self._has_unread = any(isinstance(each, UnreadDevice) for each in described)
        self._keep(parse_node_devices(described), wanted)
        self._known_at = self._clock()

    def _keep(self, devices: ParsedDevices, wanted: _Wanted) -> None:
        """Keep the devices that count, and the problems of those that could not be read."""
        pci, too_many_kinds = _limit_kinds(
            list_assignable(devices.pci, wanted.specs, devices.interfaces), _get_pci_kind
        )
        in_placement = PciView(providers=())
        if wanted.config.report_in_placement:
            in_placement = get_pci_view(pci, wanted.specs, devices.interfaces)
        mdevs = get_mdev_view(devices.cards, devices.mdevs, wanted.config)
        mdev_types, too_many_types = _limit_kinds(
            mdevs.available if wanted.config.enabled_mdev_types else devices.mdev_types,
            lambda each: each.name,
        )
        self._known = NodeDevices(
            pci_devices=pci,
            mdev_types=mdev_types,
            mdevs=devices.mdevs,
            vdpa_addresses=devices.vdpa_addresses,
            providers=(*mdevs.providers, *in_placement.providers),
            has_pci_in_placement=wanted.config.report_in_placement,
            unread=len(devices.unread),
        )
        self._problems = (
            *self._describe_unread(devices.unread),
            *(_make_repaired_note(name) for name in devices.repaired[:MAX_NAMED]),
            *(_make_conflict(each) for each in in_placement.conflicts[:MAX_NAMED]),
            *self._describe_too_many("kinds of PCI devices", too_many_kinds),
            *self._describe_too_many("types of mediated devices", too_many_types),
        )

    def _describe_unread(self, unread: Sequence[UnreadDevice]) -> Iterator[Problem]:
        for each in unread[:MAX_NAMED]:
            message = f"node device {each.name} cannot be read: {each.error}"
            yield self._make_problem(each.reason, message, subject=each.name)
        if len(unread) > MAX_NAMED:
            message = f"{len(unread) - MAX_NAMED} more node devices cannot be read"
            yield self._make_problem("device", message)

    def _describe_too_many(self, kinds: str, count: int) -> Iterator[Problem]:
        if count > MAX_KINDS:
            message = f"{count} {kinds}: the {MAX_KINDS} with the most devices are shown"
            yield self._make_problem("device", message, subject=kinds)

    def _can_be_read(self) -> bool:
        try:
            self._hypervisor.count_node_devices()
        except HypervisorError:
            return False
        finally:
            self._asked_at = None
        return True

    def _list_devices(self, wanted: _Wanted) -> tuple[str | UnreadDevice, ...]:
        """Ask libvirt; repeat once on a new connection if it, or the daemon behind it, is lost."""
        is_new = self._connect()
        try:
            return self._hypervisor.list_node_devices(wanted.list_capabilities())
        except (ConnectionLostError, DaemonError):
            # A lost daemon connection stays lost. The next connection has to subscribe to events again.
            self._hypervisor.disconnect()
            if is_new:
                raise
        return self._list_devices(wanted)

    def _connect(self) -> bool:
        is_new = self._hypervisor.connect()
        if is_new:
            self._hypervisor.watch_node_devices()
        return is_new

    def _silent_seconds(self) -> float:
        asked_at = self._asked_at
        return 0.0 if asked_at is None else self._clock() - asked_at

    def _make_problem(self, reason: str, message: str, *, subject: str = "node devices") -> Problem:
        """Return a problem, or only a note if no devices are configured for this host."""
        severity = Severity.ERROR if self._wanted.is_configured else Severity.NOTE
        return Problem(severity=severity, reason=reason, subject=subject, message=message)


def _check_denied(described: Sequence[str | UnreadDevice]) -> None:
    """Raise DeniedError if the user may read none of the devices: then nothing is known of them."""
    reasons = {each.reason if isinstance(each, UnreadDevice) else "" for each in described}
    if reasons == {DeniedError.reason}:
        raise DeniedError(next(each.error for each in described if isinstance(each, UnreadDevice)))


def _get_pci_kind(device: PciDevice) -> tuple[str, str, str]:
    return device.vendor_id, device.product_id, device.dev_type


def _limit_kinds(devices: Sequence[T], get_kind: Callable[[T], Hashable]) -> tuple[tuple[T, ...], int]:
    """Return the devices of the kinds that have most of them, MAX_KINDS at most, and the number of kinds."""
    counts = Counter(get_kind(each) for each in devices)
    shown = {kind for kind, _ in counts.most_common(MAX_KINDS)}
    return tuple(each for each in devices if get_kind(each) in shown), len(counts)


def _make_conflict(conflict: str) -> Problem:
    return Problem(
        severity=Severity.ERROR,
        reason="device",
        subject=conflict,
        message=f"{conflict}: Nova reports no devices to Placement then",
        advice="Correct device_spec, here and in nova.conf. Until then these devices are in no inventory.",
    )


def _make_repaired_note(name: str) -> Problem:
    return Problem(
        severity=Severity.NOTE,
        reason="device",
        subject=name,
        message=f"node device {name}: libvirt writes its vital product data unescaped, so that it is no XML"
        " (mended in libvirt 10.1). The device counts here. Nova cannot read it.",
    )

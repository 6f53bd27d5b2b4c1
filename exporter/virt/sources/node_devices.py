"""Node devices: the PCI devices that guests may be given, and the mediated devices that may still be made.

Reading them costs libvirt a call for each, so it is done between scrapes: when libvirt tells of a change, and
every few minutes. Scrapes take what is known.

They have a connection of their own: where libvirt's daemons are modular, virtnodedevd answers, which may be
absent or hang.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.compute.source import Job, Settings, Source
from exporter.device_spec import DeviceSpec, list_assignable, parse_device_spec
from exporter.errors import ConnectError, ConnectionLostError, DaemonError, HypervisorError
from exporter.model import MdevType, NodeDevices, Problem, Severity
from exporter.virt.daemons import NODE_DEVICES, explain_silence
from exporter.virt.node_devices import parse_node_devices

# Events tell of devices that come, go or change; this is for what they miss.
MAX_AGE_SECONDS = 300.0
# Events come in swarms: a card that is given 64 virtual functions is 64 of them.
MIN_AGE_SECONDS = 5.0
# Nothing tells when virtnodedevd ends, and with it its events: one call sees whether it is still there.
CHECK_SECONDS = 30.0
# A failure is tried again after so long, and for so long what was known counts meanwhile.
RETRY_SECONDS = 5.0
FORGET_SECONDS = 2 * MAX_AGE_SECONDS
# No list of devices takes as long: somebody hangs.
TIMEOUT_SECONDS = 10.0


class NodeDeviceHypervisor(Protocol):
    """What is asked of a hypervisor here; `virt.hypervisor.LibvirtHypervisor` says how each is meant."""

    calls: int

    @property
    def hung_openings(self) -> int: ...  # noqa: D102

    def connect(self) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def watch_node_devices(self) -> None: ...  # noqa: D102
    def count_node_devices(self) -> int: ...  # noqa: D102
    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]: ...  # noqa: D102
    def take_node_devices_changed(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which devices count.

    :ivar specs: Nova's [pci] device_spec; without any, no PCI device is read
    :ivar enabled_mdev_types: Nova's [devices] enabled_mdev_types; empty for all types
    """

    specs: tuple[DeviceSpec, ...]
    enabled_mdev_types: frozenset[str]

    @classmethod
    def parse(cls, settings: Settings) -> _Wanted:
        config = settings.hypervisor
        specs = tuple(spec for text in config.device_spec for spec in parse_device_spec(text))
        return cls(specs, frozenset(config.enabled_mdev_types))

    @property
    def is_configured(self) -> bool:
        return bool(self.specs or self.enabled_mdev_types)

    def list_capabilities(self) -> list[str]:
        """Return which devices have to be read; each costs a call."""
        capabilities = ["mdev_types"]
        if self.specs:
            capabilities += ["pci", "vdpa"]
        if any(spec.devname for spec in self.specs):
            capabilities += ["net"]
        return capabilities

    def is_enabled(self, mdev_type: MdevType) -> bool:
        return not self.enabled_mdev_types or mdev_type.name in self.enabled_mdev_types


class NodeDeviceCache(Source):
    """The node devices that count, as they were last read.

    :param hypervisor: a connection that is used for nothing else
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
        self._problem: Problem | None = None
        self._read_at: float | None = None
        self._checked_at = 0.0
        self._asked_at: float | None = None
        self._has_changed = False
        self._has_failed = False

    def list_jobs(self) -> Sequence[Job]:
        """Return the reading of the devices, where that is due."""
        if not self.needs_reading():
            return ()
        return [Job(key="all", run=self.read, timeout=TIMEOUT_SECONDS, may_hang=True)]

    def note_reconnected(self) -> None:
        """Forget everything: nobody knows what was missed."""
        self._known, self._problem, self._read_at = None, None, None

    def configure(self, settings: Settings) -> None:
        """Read these devices from now on; those that were known are forgotten, unless the same are wanted."""
        wanted = _Wanted.parse(settings)
        if wanted != self._wanted:
            self._wanted = wanted
            self.note_reconnected()

    def get(self) -> NodeDevices | None:
        """Return the devices; None before they were read, and when that was too long ago."""
        return self._known if self._clock() - self._known_at <= FORGET_SECONDS else None

    def get_problems(self) -> tuple[Problem, ...]:
        """Return why they could not be read."""
        seconds = self._silent_seconds()
        if seconds >= TIMEOUT_SECONDS:
            return (self._make_problem("daemon", explain_silence(NODE_DEVICES, "node devices", seconds)),)
        return () if self._problem is None else (self._problem,)

    def needs_reading(self) -> bool:
        """Whether `read` is due."""
        return self._is_reading_due() or self._clock() - self._checked_at >= CHECK_SECONDS

    def _is_reading_due(self) -> bool:
        self._has_changed = self._hypervisor.take_node_devices_changed() or self._has_changed
        if self._read_at is None:
            return True
        age = self._clock() - self._read_at
        if self._has_failed:
            return age >= RETRY_SECONDS
        return age >= (MIN_AGE_SECONDS if self._has_changed else MAX_AGE_SECONDS)

    def read(self) -> None:
        """Read the devices, or see whether they can be; to be called between scrapes, by another thread.

        :raises HypervisorError: when libvirt cannot be reached at all
        """
        self._checked_at = self._asked_at = self._clock()
        if not self._has_failed and not self._is_reading_due() and self._can_be_read():
            return
        self._read_at = self._asked_at = self._clock()
        self._has_changed, self._has_failed = False, True
        wanted = self._wanted
        try:
            devices = parse_node_devices(self._list_devices(wanted))
        except (ConnectionLostError, ConnectError):
            raise  # the refresh meets the same, and tells
        except HypervisorError as error:
            self._problem = self._make_problem(error.reason, f"node devices cannot be read: {error}")
            return
        finally:
            self._asked_at = None
        self._problem, self._has_failed = None, False
        if wanted is not self._wanted:
            self._read_at = None  # others are wanted by now
            return
        self._known = NodeDevices(
            pci_devices=list_assignable(devices.pci, wanted.specs, devices.interfaces),
            mdev_types=tuple(each for each in devices.mdev_types if wanted.is_enabled(each)),
        )
        self._known_at = self._clock()

    def _can_be_read(self) -> bool:
        try:
            self._hypervisor.count_node_devices()
        except HypervisorError:
            return False
        finally:
            self._asked_at = None
        return True

    def _list_devices(self, wanted: _Wanted) -> tuple[str, ...]:
        """Ask libvirt; once more on a new connection, when it or another daemon's behind it is lost."""
        is_new = self._connect()
        try:
            return self._hypervisor.list_node_devices(wanted.list_capabilities())
        except (ConnectionLostError, DaemonError):
            # What is lost behind a connection stays lost, and the next one has to ask for events anew.
            self._hypervisor.close()
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

    def _make_problem(self, reason: str, message: str) -> Problem:
        """Return a problem; a mere note where nobody has said that this host has devices to give."""
        severity = Severity.ERROR if self._wanted.is_configured else Severity.NOTE
        return Problem(severity=severity, reason=reason, subject="node devices", message=message)

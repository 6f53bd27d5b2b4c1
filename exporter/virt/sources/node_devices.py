"""Node devices: PCI devices for guests, and mediated devices that can still be created.

To read them takes one libvirt call for each. So they are read between scrapes: when libvirt reports a change,
and every few minutes. Scrapes use what is known. They have their own connection: with modular daemons
virtnodedevd answers, and it may be absent or hang.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exporter.compute.source import Job, Settings, Source
from exporter.device_spec import DeviceSpec, list_assignable, parse_device_spec
from exporter.errors import ConnectError, ConnectionLostError, DaemonError, HypervisorError
from exporter.model import MdevType, NodeDevices, Problem, Severity
from exporter.virt.calls import NodeDeviceHypervisor
from exporter.virt.daemons import NODE_DEVICES, explain_silence
from exporter.virt.node_devices import parse_node_devices

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


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The devices that count.

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
        """Return the kinds of devices to read; each device needs a call."""
        capabilities = ["mdev_types"]
        if self.specs:
            capabilities += ["pci", "vdpa"]
        if any(spec.devname for spec in self.specs):
            capabilities += ["net"]
        return capabilities

    def is_enabled(self, mdev_type: MdevType) -> bool:
        return not self.enabled_mdev_types or mdev_type.name in self.enabled_mdev_types


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
        self._problem: Problem | None = None
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
        self._known, self._problem, self._read_at = None, None, None

    def configure(self, settings: Settings) -> None:
        """Read these devices from now on. Forget the known ones if the options changed."""
        wanted = _Wanted.parse(settings)
        if wanted != self._wanted:
            self._wanted = wanted
            self.note_reconnected()

    def get(self) -> NodeDevices | None:
        """Return the devices; None if they were not read yet, or too long ago."""
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
        self._has_changed = self._hypervisor.pop_node_devices_changed() or self._has_changed
        if self._read_at is None:
            return True
        age = self._clock() - self._read_at
        if self._has_failed:
            return age >= RETRY_SECONDS
        return age >= (MIN_AGE_SECONDS if self._has_changed else MAX_AGE_SECONDS)

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
            devices = parse_node_devices(self._list_devices(wanted))
        except (ConnectionLostError, ConnectError):
            raise  # the refresh gets the same error and reports it
        except HypervisorError as error:
            self._problem = self._make_problem(error.reason, f"node devices cannot be read: {error}")
            return
        finally:
            self._asked_at = None
        self._problem, self._has_failed = None, False
        if wanted is not self._wanted:
            self._read_at = None  # the options changed meanwhile
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

    def _make_problem(self, reason: str, message: str) -> Problem:
        """Return a problem, or only a note if no devices are configured for this host."""
        severity = Severity.ERROR if self._wanted.is_configured else Severity.NOTE
        return Problem(severity=severity, reason=reason, subject="node devices", message=message)

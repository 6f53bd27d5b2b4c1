"""Guests: the list of domains, which each refresh reads, and what was read about each guest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from exporter.compute.source import Job, Settings, Source
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError, NoAnswerError
from exporter.model import DomainRecord, DomainsReading, Problem, Severity
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from exporter.virt.guests.arriving import ArrivingGuests
from exporter.virt.guests.cache import GuestCache
from exporter.virt.guests.calls import GuestCalls
from exporter.virt.guests.events import GuestEvents
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import Answer, SlowCall

_WHY_NO_LIST = (
    "One known cause: libvirt is ending the process of a frozen guest, which may take a minute."
    " Look for a guest that is being destroyed"
)


class Guests(Source):
    """All domains of a hypervisor. Not thread-safe, except the jobs of `list_jobs`.

    :param connections: lends the connection for the list
    :param calls: asks about one guest at a time
    :param clock: monotonic seconds
    :ivar events: counts what libvirt tells of guests. It is what collectors are handed as this source's part
    """

    name = "guests"

    def __init__(
        self,
        connections: Connections[WaitingHypervisor],
        calls: GuestCalls,
        settings: Settings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.events = GuestEvents()
        self._arriving = ArrivingGuests()
        self._calls = calls
        self._list = SlowCall(
            connections,
            lambda connection: connection.list_domains(),
            what="the list of domains",
            max_age=settings.stale_grace,
            clock=clock,
        )
        self._cache = GuestCache(calls, resync_interval=settings.resync_interval, clock=clock)
        self._list_problems: tuple[Problem, ...] = ()
        self._list_age: float | None = None

    @property
    def hung(self) -> int:
        """How many calls about guests are past their timeout, including those for their images."""
        return self._list.hung + self._calls.hung

    @property
    def guests_read(self) -> int:
        """How many times the XML of a guest was read."""
        return self._cache.guests_read

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of the list, and of the oldest XML; without a list nothing counts."""
        if self._list_age is None:
            return {}
        ages = {"the list of domains": self._list_age, "the oldest XML of a guest": self._cache.get_age()}
        return {name: age for name, age in ages.items() if age is not None}

    def get_part(self) -> Mapping[str, int]:
        """Return how many events of guests there were, by name."""
        return self.events.get_counts()

    def list_jobs(self) -> Sequence[Job]:
        """Return the reading of guests that have changed, or are or soon would be too old."""
        return [Job(key="resync", run=self._cache.resync)] if self._cache.needs_resync() else ()

    def get_problems(self) -> Sequence[Problem]:
        """Return why there is no new list, and which guests could not be read."""
        return (*self._list_problems, *self._cache.get_problems())

    def configure(self, settings: Settings) -> None:
        """Use these times from now on."""
        self._list.configure(max_age=settings.stale_grace)
        self._cache.configure(resync_interval=settings.resync_interval)

    def note_reconnected(self) -> None:
        """Read every guest again. Until then, use what was known, and the last list."""
        self._list.abandon()
        self.events.note_reconnected()
        self._calls.clear()
        self._cache.expire()

    def note_libvirt_version(self, version: int | None) -> None:
        """Record the version of the hypervisor's libvirt (virConnectGetLibVersion); None if not known."""
        self._cache.note_libvirt_version(version)

    def mark_changed(self, uuid: str) -> None:
        """Record that a guest has changed, after an event of libvirt. Thread-safe."""
        self._cache.mark_changed(uuid)

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Ask for the list of domains, and do not wait."""
        self._list.begin(refresh_timeout)

    def read(self, refresh_timeout: RefreshTimeout) -> DomainsReading | None:
        """Return the domains and what is known of each, but for its images; None where no list counts.

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        listed = self._read_list(refresh_timeout)
        if listed is None:
            return None
        self._cache.reconcile(listed.value)
        return DomainsReading(
            domains=listed.value,
            guests=self._cache.get_guests(),
            images={},
            age_seconds=listed.age_seconds,
            unread_guests=self._cache.count_unread(),
            outdated_guests=self._cache.count_outdated(),
            arriving=self._arriving.find(listed.value),
        )

    def _read_list(self, refresh_timeout: RefreshTimeout) -> Answer[tuple[DomainRecord, ...]] | None:
        """Return the list of domains, or the last one while libvirt gives none; None if that is too old.

        While libvirtd ends a guest's process, which may take a minute, no client gets a list.
        """
        self._list_problems, self._list_age = (), None
        try:
            listed = self._list.get(refresh_timeout)
        except NoAnswerError as error:
            self._note_no_list(
                f"{error}. Until then the guests and their use are not known: only the host's own"
                " numbers are shown"
            )
            return None
        except (ConnectError, ConnectionLostError):
            raise
        except HypervisorError as error:
            message = f"{error}. Without the list of domains, nothing that depends on guests is shown"
            self._list_problems = (
                Problem(severity=Severity.ERROR, reason=error.reason, subject="domains", message=message),
            )
            return None
        if listed.age_seconds:
            self._note_no_list("libvirt gives no list of domains now; the last list is used")
        self._list_age = listed.age_seconds
        return listed

    def _note_no_list(self, message: str) -> None:
        self._list_problems = (
            Problem(
                severity=Severity.ERROR, reason="domains", subject="", message=f"{message}. {_WHY_NO_LIST}"
            ),
        )

"""A cache of the guests of a hypervisor, so that not every scrape asks libvirt for them.

Sometimes libvirt cannot give a guest's XML. From libvirt 11 on the call waits for the guest's job, and
another client may hold the job as long as the guest is frozen. Then the last XML of the guest is used. A
guest that was never read is counted by virDomainGetInfo, which waits for no job.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from exporter.errors import ConnectionLostError, GoneError, HypervisorError, NoAnswerError
from exporter.model import DomainInfo, DomainRecord, Guest, Problem, Severity
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.guests.calls import GuestCalls, GuestJob
from exporter.virt.guests.guest_xml import GuestXmlError, make_unread_guest, parse_guest

# A refresh reads guests that answer for this long. The others are read between scrapes. (For guests that do
# not answer it waits only a moment, and only for a few: exporter.virt.guests.calls.)
REFRESH_SECONDS = 30.0
# Between scrapes there is more time. But a guest that does not answer is not asked again at once.
MAINTENANCE_SECONDS = 60.0
RETRY_SECONDS = 5.0
# A guest that was not asked, because too many others did not answer, need not wait that long.
RETRY_NOT_ASKED_SECONDS = 1.0
# The number of calls for an XML that may hang at once. It is less than the total limit, so that one is left
# for the vCPUs and memory of guests without an XML.
MAX_HUNG = 3
# Events come in swarms. Between scrapes, an event has a guest read again only after this time.
MIN_AGE_SECONDS = 5.0
_KIND = "XML"
# 11.0.0: from this libvirt on, the call for a guest's XML waits for its job (measured: docs/decisions.md).
XML_WAITS_SINCE_VERSION = 11_000_000
# An XML that took longer is used, but it does not show that the guest answers again. libvirt 11 gives the XML
# after 30 s even if another client still holds the job.
LATE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """What is known about a domain.

    :ivar record: the row of the list when the guest was last read
    :ivar guest: None while nothing is known about it, or if its XML cannot be parsed
    :ivar read_at: when its XML was read; None while it was not
    :ivar number: of the call that read it; later calls have higher numbers
    :ivar due_number: of the last change; calls with this number or a higher one have seen it
    :ivar retry_at: when libvirt may be asked again after no answer; else 0
    :ivar is_unreadable: whether nothing of its XML could be read
    :ivar digest: of the XML that alone has told the guest and the problem; empty if there is none
    """

    record: DomainRecord
    guest: Guest | None = None
    read_at: float | None = None
    number: int = 0
    due_number: int = 0
    retry_at: float = 0.0
    problem: Problem | None = None
    is_unreadable: bool = False
    digest: bytes = b""

    @property
    def is_due(self) -> bool:
        """Whether its XML has to be read again."""
        return self.due_number > self.number

    @property
    def is_unanswered(self) -> bool:
        """Whether its XML was asked for and not received."""
        return self.is_due and self.retry_at > 0


class GuestCache:
    """The hypervisor's guests, kept in step with its list of domains.

    A guest's XML is read if it is new, if its id or name changed (it was started, stopped or renamed), after
    an event about it, and if it was last read `resync_interval` seconds ago. A guest that is as before stays
    the same object: what others have computed from it holds.

    :param calls: asks about one guest at a time
    :param clock: monotonic seconds
    """

    def __init__(self, calls: GuestCalls, *, resync_interval: float, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._resync_interval = resync_interval
        self._clock = clock
        self._may_xml_wait = True
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.guests_read = 0

    def configure(self, *, resync_interval: float) -> None:
        """From now on, read guests again after this number of seconds."""
        self._resync_interval = resync_interval

    def note_libvirt_version(self, version: int | None) -> None:
        """Record the version of libvirt: an older one gives the XML of a busy guest too.

        :param version: virConnectGetLibVersion; None if it is not known
        """
        self._may_xml_wait = version is None or version >= XML_WAITS_SINCE_VERSION

    def expire(self) -> None:
        """Read every guest again, because events may have been missed during a reconnection.

        The old XML of a guest is used if libvirt does not give the new one.
        """
        with self._lock:
            self._entries = {
                uuid: replace(entry, due_number=next(self._numbers), retry_at=0.0)
                for uuid, entry in self._entries.items()
            }

    def mark_changed(self, uuid: str) -> None:
        """Have a guest read again that had an event. A guest that is new is read once it is listed."""
        with self._lock:
            entry = self._entries.get(uuid)
            if entry is not None:
                self._entries[uuid] = replace(entry, due_number=next(self._numbers))

    def reconcile(self, domains: Iterable[DomainRecord]) -> None:
        """Update the cache from the list of domains, and read the guests that may have changed."""
        oldest = self._clock() - self._resync_interval
        with self._lock:
            self._entries = {record.uuid: self._update(record, oldest=oldest) for record in domains}
        # Other parts that ask about guests, such as image sizes, ask about the same ones. So forget for all
        # of them.
        self._calls.forget_others([entry.record.uuid for entry in self._list_entries()])
        self._read(self._list_due(), seconds=REFRESH_SECONDS)
        self._ask_for_unread()

    def needs_resync(self) -> bool:
        """Whether `resync` would read a guest."""
        return bool(self._list_due(oldest=self._clock() - self._resync_interval / 2))

    def resync(self) -> None:
        """Read the guests that have changed, or are or soon will be too old. Between scrapes, by any thread.

        A guest that started, stopped or disappeared meanwhile is left to the next `reconcile`.
        """
        oldest = self._clock() - self._resync_interval / 2
        self._read(self._list_due(oldest=oldest), seconds=MAINTENANCE_SECONDS)

    def get_guests(self) -> dict[str, Guest | None]:
        """Return each domain's guest by UUID; None if nothing is known about it."""
        return {entry.record.uuid: entry.guest for entry in self._list_entries()}

    def get_age(self) -> float | None:
        """Return how many seconds ago the oldest XML was read that counts; None where there is none."""
        read_at = [entry.read_at for entry in self._list_entries() if entry.read_at is not None]
        return self._clock() - min(read_at) if read_at else None

    def count_unread(self) -> int:
        """Return how many guests' XML was never read, or is none."""
        return sum(entry.read_at is None or entry.is_unreadable for entry in self._list_entries())

    def count_outdated(self) -> int:
        """Return how many guests are counted by an old XML because libvirt did not give the new one."""
        return sum(entry.read_at is not None and entry.is_unanswered for entry in self._list_entries())

    def get_problems(self) -> tuple[Problem, ...]:
        """Return one problem for each guest whose XML could not be parsed, or not received."""
        problems = []
        for entry in self._list_entries():
            if entry.problem is not None:
                problems.append(entry.problem)
            elif entry.is_unanswered:
                problems.append(_describe_unanswered(entry))
        return tuple(problems)

    def _update(self, record: DomainRecord, *, oldest: float) -> _Entry:
        """Return the entry of a listed domain. It is due if it is new, another one or too old."""
        entry = self._entries.get(record.uuid)
        if entry is None:
            return _Entry(record=record, due_number=next(self._numbers))
        is_old = entry.read_at is None or entry.read_at < oldest
        if _is_same(entry.record, record) and (entry.is_due or not is_old):
            return entry if entry.record == record else replace(entry, record=record)
        return replace(entry, record=record, due_number=next(self._numbers))

    def _list_entries(self) -> tuple[_Entry, ...]:
        with self._lock:
            return tuple(self._entries.values())

    def _list_due(self, *, oldest: float | None = None) -> list[_Entry]:
        """Return the entries to read now.

        :param oldest: given between scrapes. Guests that were read before this time are included; guests that
            changed are, unless they were read just now
        """
        now = self._clock()
        entries = [entry for entry in self._list_entries() if entry.retry_at <= now]
        if oldest is None:
            return [entry for entry in entries if entry.is_due]
        return [
            entry
            for entry in entries
            if entry.read_at is None or entry.read_at < oldest or self._has_changed(entry)
        ]

    def _has_changed(self, entry: _Entry) -> bool:
        """Whether to read a guest between scrapes, because of an event or as it did not answer before."""
        is_young = entry.read_at is not None and self._clock() - entry.read_at < MIN_AGE_SECONDS
        return entry.is_due and (entry.is_unanswered or not is_young)

    def _read(self, entries: Sequence[_Entry], *, seconds: float) -> None:
        """Read the XML of these guests. A guest that does not answer is due again later."""
        jobs = [
            GuestJob(
                uuid=entry.record.uuid,
                kind=_KIND,
                ask=partial(self._ask_xml, entry),
                may_wait_for_monitor=self._may_xml_wait,
                is_first=entry.read_at is None,
            )
            for entry in entries
        ]
        if not jobs:
            return
        may_hang = MAX_HUNG - len(self._calls.list_waiting(_KIND))
        slow, not_asked = self._calls.ask(jobs, seconds=seconds, may_hang=may_hang)
        now = self._clock()
        with self._lock:
            for asked in entries:
                uuid = asked.record.uuid
                entry = self._entries.get(uuid)
                if uuid in slow | not_asked and entry is not None and entry.number == asked.number:
                    due_number = max(entry.due_number, asked.number + 1)
                    retry_at = now + (RETRY_SECONDS if uuid in slow else RETRY_NOT_ASKED_SECONDS)
                    self._entries[uuid] = replace(entry, due_number=due_number, retry_at=retry_at)

    def _ask_for_unread(self) -> None:
        """Ask for the vCPUs and memory of guests whose XML was never received."""
        jobs = [
            GuestJob(
                uuid=entry.record.uuid,
                kind="info",
                ask=partial(self._ask_info, entry.record),
                may_wait_for_monitor=False,
            )
            for entry in self._list_entries()
            if entry.read_at is None and entry.guest is None
        ]
        if jobs:
            self._calls.ask(jobs, seconds=REFRESH_SECONDS)

    def _ask_xml(self, asked: _Entry, hypervisor: WaitingHypervisor) -> None:
        """Read, parse and keep one domain.

        Forget it if it is gone, so that it is read again if it comes back.
        """
        record, number, began_at = asked.record, next(self._numbers), self._clock()
        self.guests_read += 1
        guest, is_unreadable, digest = asked.guest, False, b""
        try:
            xml = hypervisor.get_domain_xml(record.uuid)
        except GoneError:
            self._forget(record.uuid, number)
            return
        except (ConnectionLostError, NoAnswerError):
            raise
        except HypervisorError as error:
            problem: Problem | None = _describe_unreadable(record, str(error))
            guest = guest or _find_by_info(record, hypervisor)
            is_unreadable = asked.read_at is None or asked.is_unreadable
        else:
            digest = _make_digest(record, xml)
            if digest == asked.digest:
                problem = asked.problem
            else:
                guest, problem, is_unreadable, needed_info = _parse(record, xml, hypervisor)
                # What virDomainGetInfo has told may be another number next time.
                digest = b"" if needed_info else digest
        # The time of the answer counts: libvirt makes the XML after it has waited for the guest.
        now = self._clock()
        read = _Entry(
            record=record,
            guest=guest,
            read_at=now,
            number=number,
            problem=problem,
            is_unreadable=is_unreadable,
            digest=digest,
        )
        if now - began_at > LATE_SECONDS:
            read = replace(read, due_number=number + 1, retry_at=now + RETRY_SECONDS)
        self._keep(read)

    def _ask_info(self, record: DomainRecord, hypervisor: WaitingHypervisor) -> None:
        guest = _find_by_info(record, hypervisor)
        if guest is None:
            return  # it counts as a guest about which nothing is known
        with self._lock:
            entry = self._entries.get(record.uuid)
            if entry is not None and entry.read_at is None:
                self._entries[record.uuid] = replace(entry, guest=guest)

    def _keep(self, read: _Entry) -> None:
        """Keep what was read, unless the domain is not listed any more, or a later call has read it.

        A domain that changed after the call is read again. A guest that is as before stays the same object.
        """
        with self._lock:
            entry = self._entries.get(read.record.uuid)
            if entry is None or entry.number > read.number:
                return
            kept = replace(
                read,
                record=entry.record,
                guest=entry.guest if entry.guest == read.guest else read.guest,
                due_number=max(read.due_number, entry.due_number),
            )
            self._entries[read.record.uuid] = kept

    def _forget(self, uuid: str, number: int) -> None:
        """Forget a domain that this call did not find, unless it was listed again since."""
        with self._lock:
            entry = self._entries.get(uuid)
            if entry is not None and entry.due_number <= number:
                self._entries.pop(uuid)


def _is_same(one: DomainRecord, other: DomainRecord) -> bool:
    return one.id == other.id and one.name == other.name


def _make_digest(record: DomainRecord, xml: str) -> bytes:
    """Return what identifies an XML, and the name under which it was parsed."""
    text = f"{record.name}\0{xml}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()


class _Parsed(NamedTuple):
    """What an XML tells.

    :ivar is_unreadable: whether nothing of it could be read
    :ivar needed_info: whether virDomainGetInfo was asked as well
    """

    guest: Guest | None
    problem: Problem | None
    is_unreadable: bool
    needed_info: bool


def _parse(record: DomainRecord, xml: str, hypervisor: WaitingHypervisor) -> _Parsed:
    """Parse an XML. The list of domains says which guest it is, whatever the XML says."""
    is_unreadable, needed_info, guest = False, False, None
    try:
        guest = parse_guest(xml)
        error = guest.odd_parts
    except GuestXmlError as wrong:
        error, needed_info = str(wrong), True
        info = _get_info(record, hypervisor)
        if info is not None:
            try:
                guest = parse_guest(xml, info)
            except GuestXmlError:
                guest = make_unread_guest(record, info)
                is_unreadable = True
    problem = _describe_unreadable(record, error) if error else None
    if guest is None:
        return _Parsed(None, problem, True, needed_info)
    guest = replace(guest, uuid=record.uuid, name=guest.name or record.name)
    return _Parsed(guest, problem, is_unreadable, needed_info)


def _find_by_info(record: DomainRecord, hypervisor: WaitingHypervisor) -> Guest | None:
    info = _get_info(record, hypervisor)
    return None if info is None else make_unread_guest(record, info)


def _get_info(record: DomainRecord, hypervisor: WaitingHypervisor) -> DomainInfo | None:
    """Return virDomainGetInfo; None if libvirt does not give that either."""
    try:
        return hypervisor.get_domain_info(record.uuid)
    except (ConnectionLostError, NoAnswerError):
        raise
    except HypervisorError:
        return None


def _describe_unreadable(record: DomainRecord, error: str) -> Problem:
    return Problem(
        severity=Severity.ERROR,
        reason="guest_xml",
        subject=record.name,
        message=f"domain {record.name}: {error}",
    )


def _describe_unanswered(entry: _Entry) -> Problem:
    shown = (
        "its last known configuration is used"
        if entry.read_at is not None
        else "only its vCPUs and memory are counted"
    )
    return Problem(
        severity=Severity.NOTE,
        reason="guest_timeout",
        subject=entry.record.name,
        message=f"domain {entry.record.name}: libvirt does not give its configuration, because the guest"
        f" is frozen or busy, or too many others are; {shown}",
    )

"""Guest use: what each guest that is shown uses, by files of this machine's kernel.

No call to libvirt is made for it, and no answer depends on a guest: a frozen one costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from exporter.compute.source import Settings, Source
from exporter.guest_records import MAX_DEVICES, AllGuestsUse, ChosenGuest, ChosenGuests, GuestUse
from exporter.model import Problem
from exporter.virt.cgroups.groups import GroupFinder
from exporter.virt.cgroups.guest_files import NOTHING, GuestFiles
from exporter.virt.cgroups.kept_files import KeptFiles
from exporter.virt.cgroups.notes import explain_threads, make_note
from exporter.virt.cgroups.roots import Roots, explain_missing, read_roots
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.guests.other_devices import OtherDevices
from exporter.virt.guests.traffic import GuestTraffic, list_devices
from exporter.virt.isolated_read import IsolatedRead
from exporter.virt.masks import Sandbox
from exporter.virt.refresh_timeout import RefreshTimeout

_FOLDER = "/sys/fs/cgroup"
# So many guests are read before the time limit of the refresh is looked at again: 1 ms, on a busy host 50 ms.
_CHUNK_GUESTS = 16


class _Reading:
    """A read of all guests, in chunks.

    :ivar finder: finds the groups of new guests; None if there are none
    """

    def __init__(self, active: Sequence[ChosenGuest]) -> None:
        self.active = active
        self.is_prepared = False
        self.finder: GroupFinder | None = None


class _Chunk(NamedTuple):
    reading: _Reading
    guests: Sequence[ChosenGuest]


class GuestUseFiles(Source):
    """What each guest uses. Not thread-safe, but `close`.

    A guest is known by its UUID and libvirt's id of it. So one that was restarted is another one.

    :param hung_reads: remembers hung reads of files
    :param clock: monotonic seconds
    :param sandbox: where /proc and /sys are
    """

    name = "guest use"
    needs = frozenset({"chosen guests"})

    def __init__(
        self,
        hung_reads: HungReads,
        settings: Settings,
        *,
        clock: Callable[[], float],
        sandbox: Sandbox,
        files: KeptFiles | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._proc = str(sandbox.root / "proc")
        self._is_wanted = settings.hypervisor.has_control_groups
        self._driver = settings.hypervisor.driver
        self._reader = FileReader(self._read_chunk, path=lambda _: _FOLDER, hung=hung_reads, clock=clock)
        self._traffic = GuestTraffic(sandbox.root)
        self._roots: Roots | None = None
        self._files = KeptFiles() if files is None else files
        self._guests: dict[tuple[str, int], GuestFiles] = {}
        self._others: dict[tuple[str, int], OtherDevices] = {}
        self._use: AllGuestsUse | None = None
        self._notes: Sequence[Problem] = ()
        self._isolated = IsolatedRead(self.name)
        self._lock = threading.Lock()
        self._is_closed = False

    def configure(self, settings: Settings) -> None:
        """Read the guests of these settings' hypervisor from now on. Its URI is the same.

        If the guests are another machine's, all files are closed. (While only the list of domains is missing,
        they stay open.)
        """
        self._is_wanted = settings.hypervisor.has_control_groups
        self._close_if_unwanted()

    def get_part(self) -> AllGuestsUse | None:
        """Return what was read; None if nothing can be, as of another machine."""
        return self._use

    def get_ages(self) -> Mapping[str, float]:
        """Return that it is new in each refresh; nothing if it is not known."""
        return {} if self._use is None else {self.name: 0.0}

    def get_problems(self) -> Sequence[Problem]:
        """Return what cannot be read of any guest, and the cure."""
        return (*self._isolated.get_problems(), *self._notes)

    def read(self, chosen: ChosenGuests | None, refresh_timeout: RefreshTimeout) -> None:
        """Read what guests use.

        :param chosen: the guests that are shown; None while the list of domains is not known
        """
        self._use, self._notes = None, ()
        self._isolated.make(partial(self._read, chosen, refresh_timeout))

    def _read(self, chosen: ChosenGuests | None, refresh_timeout: RefreshTimeout) -> None:
        if not self._is_wanted or chosen is None:
            return
        active = tuple(each for each in chosen.guests if each.record.is_active)
        reading = _Reading(active)
        begins = range(0, len(active), _CHUNK_GUESTS) or [0]
        chunks = [_Chunk(reading, active[begin : begin + _CHUNK_GUESTS]) for begin in begins]
        use: dict[str, GuestUse] = {}
        found = self._reader.run(chunks, refresh_timeout)
        for each in found:
            if not isinstance(each, Hung):
                use |= each
        if not all(isinstance(each, Hung) for each in found):
            self._use = AllGuestsUse(use=use)
        if any(isinstance(each, Hung) for each in found):
            message = f"what some guests use is not known: {_FOLDER} does not answer"
            self._notes = [make_note(self.name, message)]
        else:
            self._notes = list(self._list_notes(active, use))

    def close(self) -> None:
        """Close all files, and open none from now on. If a read hangs, it closes them when it ends."""
        self._is_closed = True
        self._close_if_unwanted()

    def _close_if_unwanted(self) -> None:
        """Close all files if none is to be open. While a read has them, leave this to the read's end."""
        is_unwanted = self._is_closed or not self._is_wanted
        if is_unwanted and self._lock.acquire(blocking=False):
            try:
                self._files.close()
            finally:
                self._lock.release()

    def _read_chunk(self, chunk: _Chunk) -> Mapping[str, GuestUse]:
        """Read the files of some guests. In threads of their own, one at a time."""
        reading = chunk.reading
        try:
            with self._lock:
                if not reading.is_prepared:
                    self._files.begin()
                    self._forget_gone(reading.active)
                    self._traffic.begin()
                    reading.finder = self._make_finder(reading.active)
                    reading.is_prepared = True
                return {each.record.uuid: self._read_guest(each, reading.finder) for each in chunk.guests}
        finally:
            # Only now: whoever wanted them closed just before could not have the lock.
            self._close_if_unwanted()

    def _read_guest(self, each: ChosenGuest, finder: GroupFinder | None) -> GuestUse:
        key = (each.record.uuid, each.record.id)
        files = self._guests.get(key)
        if files is None and finder is not None:
            groups = finder.find(each.record, "" if each.guest is None else each.guest.partition)
            if groups:
                files = self._guests[key] = GuestFiles(groups, proc=self._proc, files=self._files)
        measured = NOTHING if files is None else files.read(each.guest)
        if files is not None and files.is_gone:
            files.close()
            del self._guests[key]
        if each.guest is None:
            return GuestUse(**measured._asdict())
        interfaces = self._traffic.get(each.guest)
        others = None
        if len(each.guest.interfaces) > MAX_DEVICES:
            targets = [interface.target for interface in each.guest.interfaces]
            others = self._others.setdefault(key, OtherDevices()).sum_interfaces(interfaces, targets)
        return GuestUse(**measured._asdict(), interfaces=interfaces, other_interfaces=others)

    def _make_finder(self, active: Sequence[ChosenGuest]) -> GroupFinder | None:
        """Return what finds the groups of new guests, if there are any."""
        if all((each.record.uuid, each.record.id) in self._guests for each in active):
            return None
        if self._roots is None or not self._guests:
            self._roots = read_roots(self._sandbox.root)
        return GroupFinder(self._roots, self._driver)

    def _forget_gone(self, active: Sequence[ChosenGuest]) -> None:
        keys = {(each.record.uuid, each.record.id) for each in active}
        for key in self._guests.keys() - keys:
            self._guests.pop(key).close()
        for key in self._others.keys() - keys:
            del self._others[key]

    def _list_notes(self, active: Sequence[ChosenGuest], use: Mapping[str, GuestUse]) -> Iterator[Problem]:
        if not active:
            return
        if not self._guests and self._roots is not None:
            # The subject is that of another source, which says the same.
            why = explain_missing(self._roots, self._sandbox, active=len(active))
            yield make_note("guests together", *why)
        elif not any(each.vcpu_delay_ns for each in use.values()):
            files = self._guests.values()
            if any(each.are_threads_hidden or each.has_unread_threads for each in files):
                are_hidden = all(each.are_threads_hidden for each in files)
                are_silent = any(each.has_silent_threads for each in files)
                cause = explain_threads(self._sandbox, are_hidden=are_hidden, are_silent=are_silent)
                if cause is not None:
                    yield make_note("vCPUs", *cause)
        devices = [each for one in active if one.guest is not None for each in list_devices(one.guest)]
        if devices and not any(each.interfaces for each in use.values()):
            yield make_note(
                "network",
                "the network devices of guests are not seen here, so that their traffic is not known",
                "Run the exporter in the host's network (--network=host, hostNetwork: true)",
            )

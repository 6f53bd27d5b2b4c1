"""Guests together: what all guests of this machine use, by the control group that libvirt puts them into.

These are a few files, however many guests there are. No call to libvirt is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from exporter.compute.source import Settings, Source
from exporter.guest_records import GuestsTogether
from exporter.model import DomainsReading, Problem
from exporter.virt.cgroups.contents import RESOURCES, find_number, parse_number, parse_pressure
from exporter.virt.cgroups.groups import (
    DEFAULT_PARTITION,
    Partition,
    is_in_default,
    list_partitions,
    parse_group,
)
from exporter.virt.cgroups.notes import make_note
from exporter.virt.cgroups.roots import CPUACCT, UNIFIED, Roots, explain_missing, read_roots
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.isolated_read import IsolatedRead
from exporter.virt.masks import Sandbox
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.small_files import exists, read_file

_FOLDER = "/sys/fs/cgroup"
_WITH_PSI = "Boot the host with psi=1"
_WITH_V2 = "Boot it with systemd.unified_cgroup_hierarchy=1: control groups of version 1 have none"
_APART = "Give these another parent (cgroup_parent)"
_APART_IN_LIBVIRT = "Give these another partition (<resource><partition>)"
_UNKNOWN = "the guests' common control group is not known"


class _Asked(NamedTuple):
    """What a read goes by: how many guests are active, and how many of them are in other partitions."""

    active: int
    elsewhere: int


class _Found(NamedTuple):
    use: GuestsTogether | None
    notes: Sequence[Problem]


_NOTHING = _Found(None, ())


class CommonGroup(Source):
    """The common control group of all guests, /machine.slice or /machine. Not thread-safe.

    Guests in another partition (<resource><partition>) are not in it: a note counts them. If another kind of
    machine is in it, such as podman's containers or guests of another of libvirt's drivers, its numbers are
    not the guests': they are not known. While there is no group because no guest runs, its counters are 0, as
    they are when the first guest starts.

    :param hung_reads: remembers hung reads of files
    :param clock: monotonic seconds
    :param sandbox: where /proc and /sys are
    """

    name = "guests together"
    needs = frozenset({"guests"})

    def __init__(
        self,
        hung_reads: HungReads,
        settings: Settings,
        *,
        clock: Callable[[], float],
        sandbox: Sandbox,
    ) -> None:
        self._sandbox = sandbox
        self._is_wanted = settings.hypervisor.has_control_groups
        self._driver = settings.hypervisor.driver
        self._reader = FileReader(self._look, path=lambda _: _FOLDER, hung=hung_reads, clock=clock)
        self._found = _NOTHING
        self._isolated = IsolatedRead(self.name)

    def configure(self, settings: Settings) -> None:
        """Read the groups of these settings' hypervisor from now on. Its URI is the same."""
        self._is_wanted = settings.hypervisor.has_control_groups

    def get_part(self) -> GuestsTogether | None:
        """Return what was read; None if nothing is known."""
        return self._found.use

    def get_ages(self) -> Mapping[str, float]:
        """Return that it is new in each refresh; nothing if it is not known."""
        return {} if self._found.use is None else {self.name: 0.0}

    def get_problems(self) -> Sequence[Problem]:
        """Return what cannot be read, and the cure."""
        return (*self._isolated.get_problems(), *self._found.notes)

    def read(self, domains: DomainsReading | None, refresh_timeout: RefreshTimeout) -> None:
        """Read the group.

        :param domains: the list of domains; without one it is not known whether a missing group is odd
        """
        self._found = self._isolated.make(partial(self._read, domains, refresh_timeout)) or _NOTHING

    def _read(self, domains: DomainsReading | None, refresh_timeout: RefreshTimeout) -> _Found:
        if not self._is_wanted or domains is None:
            return _NOTHING
        active = [each.uuid for each in domains.domains if each.is_active]
        guests = [domains.guests.get(uuid) for uuid in active]
        elsewhere = sum(guest is not None and not is_in_default(guest.partition) for guest in guests)
        (found,) = self._reader.run([_Asked(len(active), elsewhere)], refresh_timeout)
        if isinstance(found, Hung):
            return _Found(None, [make_note(self.name, f"{_UNKNOWN}: {_FOLDER} does not answer")])
        return found

    def _look(self, asked: _Asked) -> _Found:
        """Read the group. In a thread of its own."""
        roots = read_roots(self._sandbox.root)
        trees = {tree: list(list_partitions(roots.get(tree), self._driver)) for tree in (CPUACCT, UNIFIED)}
        groups = {tree: group for tree, found in trees.items() if (group := _choose(found)) is not None}
        note = _find_mistake(trees)
        if note is None and not groups:
            is_whole = roots.has_hosts(CPUACCT) or roots.has_hosts(UNIFIED)
            if is_whole and not asked.active:
                return _Found(_make_zeros(roots, self._sandbox), ())
            note = make_note(self.name, *explain_missing(roots, self._sandbox, active=asked.active))
        if note is not None:
            return _Found(None, [note])
        pressure = _read_pressure(groups.get(UNIFIED))
        use = GuestsTogether(
            cpu_ns=_read_cpu(groups),
            waiting_us={name: each[b"some"] for name, each in pressure.items() if b"some" in each},
            stalled_us={name: each[b"full"] for name, each in pressure.items() if b"full" in each},
        )
        return _Found(use, list(_list_notes(use, asked, is_unified=UNIFIED in groups)))


def _choose(found: Sequence[Partition]) -> str | None:
    """Return the folder that has guests; the first one if none has any."""
    with_guests = [each.folder for each in found if each.guests]
    return next(iter(with_guests or [each.folder for each in found]), None)


def _find_mistake(trees: Mapping[str, Sequence[Partition]]) -> Problem | None:
    """Return why the group's numbers are not those of all guests, and of them alone; None if they are."""
    for found in trees.values():
        foreign = next((each for each in found if each.foreign), None)
        if foreign is not None:
            things = f"{foreign.folder} has other things than guests in it, such as {foreign.foreign}"
            advice = _APART
            if parse_group(foreign.foreign) is not None:
                things = f"{foreign.folder} has another driver's guests in it, such as {foreign.foreign}"
                advice = _APART_IN_LIBVIRT
            return make_note(CommonGroup.name, f"{_UNKNOWN}: {things}", advice)
        if sum(bool(each.guests) for each in found) > 1:
            folders = " and ".join(each.folder for each in found)
            why = f"guests are in {folders}, as systemd-machined came while some ran"
            return make_note(CommonGroup.name, f"{_UNKNOWN}: {why}", "It is known when those are restarted")
    return None


def _make_zeros(roots: Roots, sandbox: Sandbox) -> GuestsTogether:
    """Return what guests have used of which none has run: nothing, of what would be counted."""
    has_pressure = bool(roots.get(UNIFIED)) and exists(f"{sandbox.root}/proc/pressure/cpu")
    none = dict.fromkeys(RESOURCES, 0) if has_pressure else {}
    return GuestsTogether(cpu_ns=0, waiting_us=none, stalled_us=none)


def _read_cpu(groups: Mapping[str, str]) -> int | None:
    """Return the CPU time in nanoseconds: of version 1 where it has the controller, else of version 2."""
    if CPUACCT in groups:
        return parse_number(read_file(groups[CPUACCT], "cpuacct.usage"))
    microseconds = find_number(read_file(groups[UNIFIED], "cpu.stat"), b"usage_usec")
    return None if microseconds is None else microseconds * 1000


def _read_pressure(folder: str | None) -> Mapping[str, Mapping[bytes, int]]:
    if folder is None:
        return {}
    return {name: parse_pressure(read_file(folder, f"{name}.pressure")) for name in RESOURCES}


def _list_notes(use: GuestsTogether, asked: _Asked, *, is_unified: bool) -> Iterator[Problem]:
    if not use.waiting_us:
        message = "the kernel does not count the guests' pressure (PSI)"
        yield make_note("pressure", message, _WITH_PSI if is_unified else _WITH_V2)
    if asked.elsewhere:
        where = f"in partitions of their own, outside of {DEFAULT_PARTITION}"
        yield make_note(
            "partitions", f"{asked.elsewhere} guests are {where}: the sums of all guests lack them"
        )

"""The files that tell what one guest uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from exporter.model import Guest
from exporter.virt.cgroups.contents import (
    RESOURCES,
    find_number,
    parse_huge_pages,
    parse_number,
    parse_pressure,
    parse_resident,
    parse_schedstat,
    parse_throttled,
)
from exporter.virt.cgroups.kept_files import KeptFile, KeptFiles
from exporter.virt.cgroups.roots import CPU, CPUACCT, MEMORY, UNIFIED
from exporter.virt.cgroups.vcpus import find_threads, list_parts
from exporter.virt.guests.lasting_sum import LastingSum


class Measured(NamedTuple):
    """What the files say; None, or a missing key, if they do not."""

    cpu_ns: int | None
    delay_ns: int | None
    throttled_ns: int | None
    vcpu_run_ns: Mapping[int, int]
    vcpu_delay_ns: Mapping[int, int]
    waiting_us: Mapping[str, int]
    stalled_us: Mapping[str, int]
    resident_bytes: int | None


NOTHING = Measured(None, None, None, {}, {}, {}, {}, None)
# The threads of a guest that starts are found within some scrapes. Those that are hidden cost little.
_MAX_READS_BETWEEN_LOOKS = 31
# How often a guest with a quota is read until its groups are listed again: it may have a new I/O thread, of
# which its record says nothing, or one that got its group last when the guest started.
_READS_BETWEEN_LISTS = 7


class GuestFiles:
    """The files of a guest that runs. They stay the same while it does, but for those of its vCPUs.

    :param groups: its control groups, by tree
    :param proc: /proc
    :param files: keeps them open
    :ivar is_gone: whether its control group is gone: then it has ended
    :ivar are_threads_hidden: whether this process is not told the numbers of its threads
    :ivar has_unread_threads: whether its vCPUs' threads are known, but not what the kernel counts of them
    :ivar has_silent_threads: whether this is so though they are there
    """

    def __init__(self, groups: Mapping[str, str], *, proc: str, files: KeptFiles) -> None:
        self._proc, self._files = proc, files
        # Any tree has them; version 1 has the groups of vCPUs where it has the controllers for them.
        self._group = next(groups[tree] for tree in (CPUACCT, CPU, UNIFIED, MEMORY) if tree in groups)
        self._is_v1 = CPUACCT in groups
        self._cpu: KeptFile | None = None
        if self._is_v1:
            self._cpu = KeptFile(f"{groups[CPUACCT]}/cpuacct.usage", files, is_first=True)
        elif UNIFIED in groups:
            self._cpu = KeptFile(f"{groups[UNIFIED]}/cpu.stat", files, is_first=True)
        self._pressure: dict[str, KeptFile] = {}
        if UNIFIED in groups:
            self._pressure = {
                name: KeptFile(f"{groups[UNIFIED]}/{name}.pressure", files) for name in RESOURCES
            }
        in_memory = groups.get(MEMORY) or groups.get(UNIFIED)
        self._memory = None if in_memory is None else KeptFile(f"{in_memory}/memory.stat", files)
        self._throttle_group = groups.get(CPU) or groups.get(UNIFIED)
        self._throttled: dict[str, KeptFile] = {}
        self._reads_until_list = 0
        # vCPUs may be unplugged: their threads and groups are gone then.
        self._throttled_sum, self._delay_sum = LastingSum[str](), LastingSum[int]()
        self._vcpus: dict[int, KeptFile] = {}
        self._status: KeptFile | None = None
        self._guest: Guest | None = None
        self._has_looked = False
        self._reads_until_look = self._reads_between_looks = 0
        self.is_gone = False
        self.are_threads_hidden = self._have_threads_no_names = False
        self.has_unread_threads = self.has_silent_threads = False

    def close(self) -> None:
        """Close all of them."""
        kept = (self._cpu, self._memory, self._status, *self._pressure.values())
        for file in (*kept, *self._throttled.values(), *self._vcpus.values()):
            if file is not None:
                file.close()

    def read(self, guest: Guest | None) -> Measured:
        """Read all of them.

        :param guest: its XML, which says whether it has a quota and huge pages
        """
        cpu_ns = self._read_cpu()
        if self.is_gone:
            return NOTHING
        if self._must_look(guest):
            self._look(guest)
        if self._must_list():
            self._list_throttled()
        run, delay = self._read_vcpus()
        waiting, stalled = self._read_pressure()
        return Measured(
            cpu_ns,
            self._sum_delays(guest, delay),
            self._read_throttled(),
            run,
            delay,
            waiting,
            stalled,
            self._read_resident(),
        )

    def _must_look(self, guest: Guest | None) -> bool:
        """Whether its vCPUs have to be found: its record changed, or one is missing, as while it starts."""
        if guest is not self._guest or not self._has_looked:
            return True
        vcpus = 1 if guest is None else guest.vcpus
        if len(self._vcpus) >= vcpus and all(file.exists for file in self._vcpus.values()):
            self._reads_between_looks = 0
            return False
        self._reads_until_look -= 1
        return self._reads_until_look < 0

    def _look(self, guest: Guest | None) -> None:
        for file in self._vcpus.values():
            file.close()
        self._guest, self._has_looked = guest, True
        self._reads_until_list = 0
        # Where they are hidden, they stay so.
        self._reads_until_look = self._reads_between_looks
        self._reads_between_looks = min(2 * self._reads_between_looks + 1, _MAX_READS_BETWEEN_LOOKS)
        found = find_threads(self._group, self._proc)
        self.are_threads_hidden = found.are_hidden
        self._have_threads_no_names = found.have_no_names
        self._vcpus = {
            vcpu: KeptFile(f"{self._proc}/{tid}/schedstat", self._files, is_first=True)
            for vcpu, tid in sorted(found.tids.items())
        }
        if self._status is not None:
            self._status.close()
        has_huge_pages = guest is not None and any(cell.page_size_kib for cell in guest.numa_cells)
        tid = next(iter(found.tids.values()), 0)
        self._status = KeptFile(f"{self._proc}/{tid}/status", self._files) if has_huge_pages else None

    def _must_list(self) -> bool:
        """Whether the groups in which a quota holds have to be listed: now and then, or if one is gone."""
        self._reads_until_list -= 1
        return self._reads_until_list < 0 or not all(file.exists for file in self._throttled.values())

    def _list_throttled(self) -> None:
        """Find the groups in which a quota holds it back. Files of those that are known stay open."""
        self._reads_until_list = _READS_BETWEEN_LISTS
        before, self._throttled = self._throttled, {}
        if self._guest is not None and self._guest.has_cpu_quota and self._throttle_group is not None:
            for part in list_parts(self._throttle_group):
                known = before.get(part)
                is_there = known is not None and known.exists
                self._throttled[part] = (
                    before.pop(part) if is_there else KeptFile(f"{part}/cpu.stat", self._files)
                )
        for file in before.values():
            file.close()

    def _read_cpu(self) -> int | None:
        if self._cpu is None:
            return None
        content = self._cpu.read()
        self.is_gone = not self._cpu.exists
        if self._is_v1:
            return parse_number(content)
        microseconds = find_number(content, b"usage_usec")
        return None if microseconds is None else microseconds * 1000

    def _read_throttled(self) -> int | None:
        """Return how long a quota kept it from its CPUs: the sum of all its groups, or not known."""
        times = {part: parse_throttled(file.read()) for part, file in self._throttled.items()}
        known = {part: each for part, each in times.items() if each is not None}
        return self._throttled_sum.add(known) if known and len(known) == len(times) else None

    def _sum_delays(self, guest: Guest | None, delay: Mapping[int, int]) -> int | None:
        """Return the delays of all vCPUs together; not known if one of them is not."""
        is_whole = guest is not None and 0 < guest.vcpus <= len(delay)
        return self._delay_sum.add(delay) if is_whole else None

    def _read_vcpus(self) -> tuple[dict[int, int], dict[int, int]]:
        run: dict[int, int] = {}
        delay: dict[int, int] = {}
        for vcpu, file in self._vcpus.items():
            times = parse_schedstat(file.read())
            if times is not None:
                run[vcpu], delay[vcpu] = times
        self.has_unread_threads = not run and (bool(self._vcpus) or self._have_threads_no_names)
        self.has_silent_threads = not run and any(each.exists for each in self._vcpus.values())
        return run, delay

    def _read_pressure(self) -> tuple[dict[str, int], dict[str, int]]:
        waiting: dict[str, int] = {}
        stalled: dict[str, int] = {}
        for resource, file in self._pressure.items():
            for kind, total in parse_pressure(file.read()).items():
                (waiting if kind == b"some" else stalled)[resource] = total
        return waiting, stalled

    def _read_resident(self) -> int | None:
        """Return the bytes of memory that it has. Huge pages are counted by its process alone."""
        resident = None if self._memory is None else parse_resident(self._memory.read())
        if resident is None or self._status is None:
            return resident
        huge_pages = parse_huge_pages(self._status.read())
        return None if huge_pages is None else resident + huge_pages

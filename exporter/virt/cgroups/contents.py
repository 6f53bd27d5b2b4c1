"""What the files of control groups and of /proc say. What is odd, or was cut off, is not known: None.

They are read on every scrape, for each guest. So a number is looked for in the bytes. Nothing else is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.virt.small_files import MAX_COUNTER

RESOURCES = ("cpu", "io", "memory")
_MAX_DIGITS = 20
_TOTALS = re.compile(rb"^(some|full) [^\n]*total=(\d{1,20})\s*\n", re.MULTILINE)


def parse_number(text: bytes) -> int | None:
    """Parse a whole number, as cpuacct.usage has it: b"5120\\n"."""
    digits = text.strip()
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    number = int(digits)
    return number if number <= MAX_COUNTER else None


def find_number(content: bytes, key: bytes) -> int | None:
    """Return the number of a line "KEY NUMBER", as cpu.stat and memory.stat have them."""
    wanted = key + b" "
    if content.startswith(wanted):
        begin = len(wanted)
    else:
        found = content.find(b"\n" + wanted)
        if found < 0:
            return None
        begin = found + 1 + len(wanted)
    end = content.find(b"\n", begin)
    return None if end < 0 else parse_number(content[begin:end])


def parse_pressure(content: bytes) -> Mapping[bytes, int]:
    """Return the microseconds of a *.pressure file, by b"some" (a task waited) and b"full" (all of them did).

    Its lines are b"some avg10=0.00 … total=5120\\n".
    """
    return {kind: total for kind, digits in _TOTALS.findall(content) if (total := int(digits)) <= MAX_COUNTER}


def parse_schedstat(content: bytes) -> tuple[int, int] | None:
    """Parse /proc/TID/schedstat: nanoseconds on a CPU, and nanoseconds of waiting for one.

    A kernel that does not count them (CONFIG_SCHED_INFO) says "0 0 0", which no thread that ran has.
    """
    fields = content.split()
    if len(fields) != 3 or not content.endswith(b"\n"):
        return None
    run, delay, slices = map(parse_number, fields)
    if run is None or delay is None or not slices:
        return None
    return run, delay


def parse_throttled(content: bytes) -> int | None:
    """Return the nanoseconds of cpu.stat for which a quota stopped the group.

    0 for a group of version 2 that can have no quota, as it has no controller for CPUs.
    """
    nanoseconds = find_number(content, b"throttled_time")
    if nanoseconds is not None:
        return nanoseconds
    microseconds = find_number(content, b"throttled_usec")
    if microseconds is not None:
        return microseconds * 1000
    return None if find_number(content, b"usage_usec") is None or b"\nnr_periods" in content else 0


def parse_resident(content: bytes) -> int | None:
    """Return the bytes of memory.stat that are a guest's own: anonymous and shared memory, not files.

    Version 1 has them of the group and those in it under other names.
    """
    for names in ((b"anon", b"shmem"), (b"total_rss", b"total_shmem")):
        anonymous, shared = (find_number(content, name) for name in names)
        if anonymous is not None and shared is not None:
            return anonymous + shared
    return None


def parse_huge_pages(status: bytes) -> int | None:
    """Return the bytes that a process has in huge pages, by /proc/PID/status: b"HugetlbPages:\\t 2048 kB"."""
    for line in status.split(b"\n"):
        if line.startswith(b"HugetlbPages:"):
            words = line.split()
            kib = parse_number(words[1]) if len(words) == 3 else None
            return None if kib is None else kib * 1024
    return None

"""Records of single guests: which are shown, and what each of them uses. All are immutable.

None, or a missing key, means not known: then there is no sample, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.model import DomainRecord, Guest

# A guest with more disks or interfaces shows the first ones; the counters of the others are summed up.
MAX_DEVICES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenGuest:
    """A guest that is shown: its row of the list of domains, and its XML, if that is known.

    :ivar kept: what collectors keep of it from one scrape to the next, as long as its XML is the same
    """

    record: DomainRecord
    guest: Guest | None
    kept: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenGuests:
    """The guests that are shown, and how."""

    guests: tuple[ChosenGuest, ...]
    omitted: int  # guests that the configuration leaves out
    series_labels: tuple[str, ...] = ()  # labels of hypervisor_guest_info that all series of a guest have
    per_vcpu: bool = False
    show_owner_names: bool = True  # the names of projects and users


@dataclass(frozen=True, kw_only=True, slots=True)
class InterfaceCounters:
    """What an interface has done since it was made, from the guest's point of view."""

    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    transmitted_bytes: int
    transmitted_packets: int
    transmitted_errors: int
    transmitted_dropped: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestUse:
    """What a running guest uses, as the host counts it. No call to the guest is needed for it."""

    cpu_ns: int | None = None  # of all its threads: vCPUs, QEMU's own, and vhost
    # How long all vCPUs, unplugged ones too, were runnable and waited for a CPU; None if one is not known.
    delay_ns: int | None = None
    throttled_ns: int | None = None  # kept from its CPUs by a quota; None without one
    vcpu_run_ns: Mapping[int, int] = field(default_factory=dict)  # by vCPU
    vcpu_delay_ns: Mapping[int, int] = field(default_factory=dict)  # runnable, and waiting for a CPU
    waiting_us: Mapping[str, int] = field(default_factory=dict)  # PSI "some", by resource: cpu, io, memory
    stalled_us: Mapping[str, int] = field(default_factory=dict)  # PSI "full", by resource
    resident_bytes: int | None = None  # memory of the host that it has, without the page cache
    interfaces: Mapping[str, InterfaceCounters] = field(default_factory=dict)  # by the host's device: "tap0"
    other_interfaces: InterfaceCounters | None = None  # those beyond MAX_DEVICES together, if there are any


@dataclass(frozen=True, kw_only=True, slots=True)
class AllGuestsUse:
    """What all guests that are shown use, by UUID: what the source "guest use" hands to collectors."""

    use: Mapping[str, GuestUse]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestsTogether:
    """What all guests of a hypervisor have used together, as the kernel counts it for their common group."""

    cpu_ns: int | None = None
    waiting_us: Mapping[str, int] = field(default_factory=dict)  # PSI "some", by resource: cpu, io, memory
    stalled_us: Mapping[str, int] = field(default_factory=dict)  # PSI "full", by resource


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskCounters:
    """What QEMU counts of a disk since it was attached (virDomainListGetStats, block.N.*)."""

    read_bytes: int | None = None
    read_requests: int | None = None
    read_ns: int | None = None
    written_bytes: int | None = None
    write_requests: int | None = None
    write_ns: int | None = None
    flush_requests: int | None = None
    flush_ns: int | None = None
    size_bytes: int | None = None  # as the guest sees it: block.N.capacity
    allocated_bytes: int | None = None  # on the host's storage: block.N.physical


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryStatistics:
    """What the guest's balloon driver tells of its memory (virDomainListGetStats, balloon.*)."""

    balloon_kib: int | None = None  # what the host gives it now: balloon.current
    maximum_kib: int | None = None
    rss_kib: int | None = None  # of the QEMU process
    # The following are the guest's own account; None without a balloon driver or its period.
    available_kib: int | None = None  # what the guest has: MemTotal
    usable_kib: int | None = None  # what it could use without swapping: MemAvailable
    unused_kib: int | None = None  # MemFree
    disk_caches_kib: int | None = None
    swap_in_kib: int | None = None
    swap_out_kib: int | None = None
    major_faults: int | None = None
    minor_faults: int | None = None
    hugetlb_allocations: int | None = None
    hugetlb_failures: int | None = None
    updated_at: int | None = None  # seconds since the epoch: balloon.last-update


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestStatistics:
    """What a guest's QEMU last told of it, and when."""

    read_at: float | None = None  # seconds since the epoch; None while QEMU has told nothing
    disks: Mapping[str, DiskCounters] = field(default_factory=dict)  # by target device: "vda"
    other_disks: DiskCounters | None = None  # those beyond MAX_DEVICES together, if there are any
    memory: MemoryStatistics | None = None
    # Only where no control groups of this machine tell it. QEMU need not answer for it.
    cpu_ns: int | None = None
    cpu_read_at: float | None = None  # seconds since the epoch
    interfaces: Mapping[str, InterfaceCounters] = field(default_factory=dict)
    other_interfaces: InterfaceCounters | None = None


# The last one is the time after which a guest counts as not responsive.
ANSWER_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTimes:
    """How long guests took to answer, since the start of this process.

    :ivar counts: how many answers took at most each of ANSWER_BUCKETS_SECONDS, but more than the one before,
        and as the last number how many took longer
    """

    counts: tuple[int, ...] = (0,) * (len(ANSWER_BUCKETS_SECONDS) + 1)
    total_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AllGuestStatistics:
    """The statistics of all guests that are shown, by UUID."""

    statistics: Mapping[str, GuestStatistics]
    is_responsive: Mapping[str, bool]  # of guests that were asked, or are seen to hang
    is_suspended: bool  # whether no guest is asked now, because too many do not answer
    answer_times: AnswerTimes = AnswerTimes()

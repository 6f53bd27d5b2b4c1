"""What guests use now: what their counters have grown by since somebody last looked.

The exporter keeps no history. So the page remembers the counters of the last look, of few hypervisors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.guest_records import AllGuestStatistics, AllGuestsUse
from exporter.model import Snapshot

# Over a shorter time the numbers would jump, and over a longer one they would not be what is used now.
MIN_SECONDS = 1.0
MAX_SECONDS = 120.0
MAX_HYPERVISORS = 8

_NANOSECONDS = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestRate:
    """What a guest uses. None means not known.

    :ivar cpus: how many of the host's CPUs it keeps busy, QEMU's own threads too
    :ivar waiting: which share of the time its vCPUs wait for a CPU that others have, on average; 1 is always
    """

    cpus: float | None
    waiting: float | None


@dataclass(frozen=True, slots=True)
class _Counters:
    at: float  # when they were read, in seconds since the epoch
    cpu_ns: int | None
    delay_ns: int | None
    vcpus: int  # of which the delay is known
    throttled_ns: int | None  # the part of the delay that its own quota is to blame for


@dataclass(frozen=True, slots=True)
class _Looks:
    """The counters of a guest at the last two looks that found newer ones."""

    last: _Counters
    before: _Counters | None

    def add(self, now: _Counters) -> _Looks:
        """Return the looks with another one. If its counters are hardly newer, it shows the same again."""
        seconds = now.at - self.last.at
        if 0 <= seconds < MIN_SECONDS:
            return self
        return _Looks(now, self.last if 0 <= seconds <= MAX_SECONDS else None)


class GuestRates:
    """Compares each look at a hypervisor's guests with the one before. Not thread-safe."""

    def __init__(self) -> None:
        self._looks: OrderedDict[str, Mapping[str, _Looks]] = OrderedDict()  # by target, then by UUID

    def get(self, snapshot: Snapshot) -> Mapping[str, GuestRate] | None:
        """Return what each guest uses, by UUID; None where the collector `guests` reads nothing of it.

        At the first look at a hypervisor nothing is known of any guest.
        """
        counters = _read_counters(snapshot)
        last = self._looks.pop(snapshot.target, {})
        if counters is None:
            return None
        looks = {
            uuid: last[uuid].add(each) if uuid in last else _Looks(each, None)
            for uuid, each in counters.items()
        }
        self._looks[snapshot.target] = looks
        if len(self._looks) > MAX_HYPERVISORS:
            self._looks.popitem(last=False)
        return {
            uuid: _compare(each.before, each.last) for uuid, each in looks.items() if each.before is not None
        }


def _read_counters(snapshot: Snapshot) -> Mapping[str, _Counters] | None:
    """Return the counters of the guests: by files of this machine, or by what libvirt told."""
    use = snapshot.get_part("guest use", AllGuestsUse)
    if use is not None:
        return {
            uuid: _Counters(
                snapshot.timestamp_seconds,
                each.cpu_ns,
                sum(each.vcpu_delay_ns.values()) if each.vcpu_delay_ns else None,
                len(each.vcpu_delay_ns),
                each.throttled_ns,
            )
            for uuid, each in use.use.items()
        }
    statistics = snapshot.get_part("guest statistics", AllGuestStatistics)
    if statistics is None:
        return None
    return {
        uuid: _Counters(each.cpu_read_at, each.cpu_ns, None, 0, None)
        for uuid, each in statistics.statistics.items()
        if each.cpu_read_at is not None and each.cpu_ns is not None
    }


def _compare(before: _Counters, now: _Counters) -> GuestRate:
    seconds = now.at - before.at
    waited = _grow(before.delay_ns, now.delay_ns, seconds) if now.vcpus == before.vcpus else None
    # As in the rule guest:cpu_delay:rate5m, what its quota takes is nobody's doing.
    throttled = _grow(before.throttled_ns, now.throttled_ns, seconds) or 0.0
    return GuestRate(
        cpus=_grow(before.cpu_ns, now.cpu_ns, seconds),
        waiting=None if waited is None else min(1.0, max(0.0, waited - throttled) / now.vcpus),
    )


def _grow(before: int | None, now: int | None, seconds: float) -> float | None:
    """Return the growth in seconds per second; None if the guest was restarted, so that it counts anew."""
    if before is None or now is None or now < before or seconds <= 0:
        return None
    return (now - before) / _NANOSECONDS / seconds

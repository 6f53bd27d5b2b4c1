"""What guests use now, by two looks at their counters."""

from __future__ import annotations

import pytest

from exporter.guest_records import AllGuestStatistics, AllGuestsUse, GuestStatistics, GuestUse
from exporter.model import Snapshot
from exporter.page.guest_rates import MAX_HYPERVISORS, GuestRate, GuestRates
from tests.support.records import make_snapshot

SECOND = 10**9


def look(at: float, *, target: str = "kvm01", **use: GuestUse) -> Snapshot:
    """Return a snapshot of a hypervisor whose guests have used so much."""
    parts = {"guest use": AllGuestsUse(use=use)}
    return make_snapshot(target=target, timestamp_seconds=1.75e9 + at, parts=parts)


def used(cpu: float | None, *delays: float, throttled: float | None = None) -> GuestUse:
    """Return what a guest has used, in seconds: CPU, and the time that each vCPU has waited."""
    return GuestUse(
        cpu_ns=None if cpu is None else int(cpu * SECOND),
        vcpu_delay_ns={vcpu: int(delay * SECOND) for vcpu, delay in enumerate(delays)},
        throttled_ns=None if throttled is None else int(throttled * SECOND),
    )


def test_the_second_look_knows_what_guests_use() -> None:
    """A guest of two vCPUs that waited 2 and 3 s of 10 s each waits for a quarter of the time."""
    rates = GuestRates()
    assert rates.get(look(0, a=used(100, 7, 8), b=used(5))) == {}
    found = rates.get(look(10, a=used(115, 9, 11), b=used(5)))
    assert found == {"a": GuestRate(cpus=1.5, waiting=0.25), "b": GuestRate(cpus=0.0, waiting=None)}


@pytest.mark.parametrize(("throttled", "waiting"), [(None, 0.25), (3, 0.1), (9, 0.0)])
def test_the_time_for_which_a_quota_stops_a_guest_is_no_wait_for_others(
    throttled: float | None, waiting: float
) -> None:
    rates = GuestRates()
    rates.get(look(0, a=used(0, 7, 8, throttled=None if throttled is None else 1)))
    found = rates.get(look(10, a=used(5, 9, 11, throttled=None if throttled is None else 1 + throttled)))
    assert found == {"a": GuestRate(cpus=0.5, waiting=waiting)}


def test_who_looks_again_soon_sees_the_same() -> None:
    rates = GuestRates()
    rates.get(look(0, a=used(0)))
    first = rates.get(look(10, a=used(10)))
    assert rates.get(look(10, a=used(10))) == first == {"a": GuestRate(cpus=1.0, waiting=None)}
    assert rates.get(look(10.5, a=used(99))) == first
    assert rates.get(look(20, a=used(15))) == {"a": GuestRate(cpus=0.5, waiting=None)}


def test_what_was_used_long_ago_is_not_used_now() -> None:
    rates = GuestRates()
    rates.get(look(0, a=used(0)))
    assert rates.get(look(121, a=used(60))) == {}
    assert rates.get(look(131, a=used(60))) == {"a": GuestRate(cpus=0.0, waiting=None)}


@pytest.mark.parametrize(
    ("before", "now", "rate"),
    [
        (used(100, 5), used(1, 1), GuestRate(cpus=None, waiting=None)),  # it was restarted
        (used(None), used(3), GuestRate(cpus=None, waiting=None)),
        (used(0, 0), used(1, 0, 9), GuestRate(cpus=0.1, waiting=None)),  # a vCPU was plugged in
        (used(0, 0), used(1, 99), GuestRate(cpus=0.1, waiting=1.0)),
    ],
)
def test_what_cannot_be_compared_is_not_known(before: GuestUse, now: GuestUse, rate: GuestRate) -> None:
    rates = GuestRates()
    rates.get(look(0, a=before))
    assert rates.get(look(10, a=now)) == {"a": rate}


def test_a_new_guest_is_not_known_yet() -> None:
    rates = GuestRates()
    rates.get(look(0))
    assert rates.get(look(10, a=used(5))) == {}


def test_without_the_collector_nothing_is_known_and_nothing_kept() -> None:
    rates = GuestRates()
    rates.get(look(0, a=used(0)))
    assert rates.get(make_snapshot(target="kvm01", timestamp_seconds=1.75e9 + 5)) is None
    assert rates.get(look(10, a=used(5))) == {}


def look_far(at: float, *, told_at: float, cpu: float, read_at: float | None = None) -> Snapshot:
    """Return a snapshot of a remote hypervisor, whose host and QEMU told of a guest at these times."""
    statistics = {"a": GuestStatistics(read_at=read_at, cpu_ns=int(cpu * SECOND), cpu_read_at=told_at)}
    part = AllGuestStatistics(statistics=statistics, is_responsive={}, is_suspended=False)
    return make_snapshot(target="kvm01", timestamp_seconds=1.75e9 + at, parts={"guest statistics": part})


def test_of_a_remote_hypervisor_it_is_what_its_host_told_and_when() -> None:
    """Shows that a guest whose job is held, so that its QEMU tells nothing, is known all the same."""
    rates = GuestRates()
    assert rates.get(look_far(0, told_at=100, cpu=0, read_at=100)) == {}
    assert rates.get(look_far(30, told_at=120, cpu=5, read_at=100)) == {
        "a": GuestRate(cpus=0.25, waiting=None)
    }
    assert rates.get(look_far(60, told_at=140, cpu=15, read_at=140)) == {
        "a": GuestRate(cpus=0.5, waiting=None)
    }


def test_who_looks_between_two_rounds_sees_the_same() -> None:
    """Two people look every 10 s, 5 s apart, and there is a round every 10 s."""
    rates = GuestRates()
    found = [rates.get(look_far(at, told_at=at // 10 * 10, cpu=at // 10)) for at in (0, 5, 10, 15, 20)]
    assert found == [{}, {}, *[{"a": GuestRate(cpus=0.1, waiting=None)}] * 3]


def test_looks_soon_after_one_another_know_what_was_told_between_them() -> None:
    rates = GuestRates()
    rates.get(look_far(10, told_at=0, cpu=0))
    assert rates.get(look_far(10.1, told_at=10, cpu=5)) == {"a": GuestRate(cpus=0.5, waiting=None)}


def test_few_hypervisors_are_remembered_those_looked_at_last() -> None:
    rates = GuestRates()
    for number in range(MAX_HYPERVISORS + 1):
        rates.get(look(0, target=f"kvm{number}", a=used(0)))
    assert rates.get(look(10, target="kvm1", a=used(10))) == {"a": GuestRate(cpus=1.0, waiting=None)}
    assert rates.get(look(10, target="kvm0", a=used(10))) == {}

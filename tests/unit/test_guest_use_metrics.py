"""The collector `guests`: what a scrape shows of what guests use. What is not known has no sample."""

from __future__ import annotations

from typing import Any

from exporter.collectors import guests
from exporter.guest_records import (
    AllGuestStatistics,
    AllGuestsUse,
    ChosenGuest,
    ChosenGuests,
    GuestStatistics,
    GuestUse,
    InterfaceCounters,
)
from exporter.metric import Series
from exporter.model import Interface
from tests.support.records import make_domain, make_guest, make_snapshot

GUEST = make_guest(1, interfaces=(Interface(target="tap1", type="bridge", mac="", bridge="", port_id=""),))


def count(number: int) -> InterfaceCounters:
    """Return counters that differ: number, number + 1, …."""
    names = ("bytes", "packets", "errors", "dropped")
    fields = [f"{direction}_{name}" for direction in ("received", "transmitted") for name in names]
    return InterfaceCounters(**{field: number + place for place, field in enumerate(fields)})


def show(
    use: GuestUse | None, *, guest: Any = GUEST, told: GuestStatistics | None = None, **options: Any
) -> dict[tuple[str, ...], float]:
    """Return the value of each series of a guest, by its name and the labels that are not the guest's."""
    chosen = ChosenGuests(guests=(ChosenGuest(record=make_domain(1), guest=guest),), omitted=0, **options)
    parts: dict[str, object] = {"chosen guests": chosen}
    if use is not None:
        parts["guest use"] = AllGuestsUse(use={GUEST.uuid: use})
    if told is not None:
        parts["guest statistics"] = AllGuestStatistics(
            statistics={GUEST.uuid: told}, is_responsive={}, is_suspended=False
        )
    return {
        (each.metric.name, *(labels[name] for name in each.metric.labels[2:])): value
        for each in guests.COLLECTOR.collect(make_snapshot(parts=parts))
        if isinstance(each, Series) and each.metric.labels[:2] == ("hypervisor_hostname", "domain")
        for labels, value in each.rows
        if not each.metric.name.endswith(("_info", "guest_vcpus", "memory_size_bytes"))
        and labels["domain"] == "guest1"
    }


def test_it_is_shown_in_base_units() -> None:
    use = GuestUse(
        cpu_ns=7_500_000_000,
        delay_ns=1_500_000_000,
        throttled_ns=250_000_000,
        vcpu_run_ns={0: 5_000_000_000, 1: 2_000_000_000},
        vcpu_delay_ns={0: 1_000_000_000, 1: 500_000_000},
        waiting_us={"cpu": 2_000_000},
        stalled_us={"io": 500},
        resident_bytes=4096,
    )
    assert show(use) == {
        ("hypervisor_guest_cpu_seconds_total",): 7.5,
        ("hypervisor_guest_vcpu_delay_seconds_total",): 1.5,
        ("hypervisor_guest_cpu_throttled_seconds_total",): 0.25,
        ("hypervisor_guest_pressure_waiting_seconds_total", "cpu"): 2.0,
        ("hypervisor_guest_pressure_stalled_seconds_total", "io"): 0.0005,
        ("hypervisor_guest_memory_resident_bytes",): 4096,
    }
    more = show(use, per_vcpu=True).items() - show(use).items()
    assert dict(more) == {
        ("hypervisor_guest_one_vcpu_seconds_total", "0"): 5.0,
        ("hypervisor_guest_one_vcpu_seconds_total", "1"): 2.0,
        ("hypervisor_guest_one_vcpu_delay_seconds_total", "0"): 1.0,
        ("hypervisor_guest_one_vcpu_delay_seconds_total", "1"): 0.5,
    }


def test_each_vcpu_that_is_known_is_shown_though_not_all_are() -> None:
    use = GuestUse(vcpu_run_ns={0: 1}, vcpu_delay_ns={0: 1_000_000_000})
    assert show(use) == {}
    assert show(use, per_vcpu=True)["hypervisor_guest_one_vcpu_delay_seconds_total", "0"] == 1.0


def test_a_guests_traffic_is_shown_by_device() -> None:
    assert show(GuestUse(interfaces={"tap1": count(10)})) == {
        ("hypervisor_guest_network_receive_bytes_total", "tap1"): 10,
        ("hypervisor_guest_network_receive_packets_total", "tap1"): 11,
        ("hypervisor_guest_network_receive_errs_total", "tap1"): 12,
        ("hypervisor_guest_network_receive_drop_total", "tap1"): 13,
        ("hypervisor_guest_network_transmit_bytes_total", "tap1"): 14,
        ("hypervisor_guest_network_transmit_packets_total", "tap1"): 15,
        ("hypervisor_guest_network_transmit_errs_total", "tap1"): 16,
        ("hypervisor_guest_network_transmit_drop_total", "tap1"): 17,
    }


def test_devices_beyond_32_are_summed_up() -> None:
    interfaces = tuple(
        Interface(target=f"tap{number}", type="bridge", mac="", bridge="", port_id="") for number in range(40)
    )
    guest = make_guest(1, interfaces=interfaces)
    counters = {f"tap{number}": count(number) for number in range(40)}
    del counters["tap3"]
    found = show(GuestUse(interfaces=counters, other_interfaces=count(284)), guest=guest)
    received = {
        labels[1]: value for labels, value in found.items() if labels[0].endswith("receive_bytes_total")
    }
    assert len(received) == 32
    assert "tap3" not in received
    assert received["tap31"] == 31
    assert received["other"] == 284
    assert len(received) == 32


def test_no_two_interfaces_have_the_same_series() -> None:
    """Prometheus takes one of two only. Names that cannot be printed look the same; one may be `other`."""
    targets = ("a\u200b", "a\u200c", "other", *(f"tap{number}" for number in range(40)))
    interfaces = tuple(
        Interface(target=each, type="bridge", mac="", bridge="", port_id="") for each in targets
    )
    row = ChosenGuest(record=make_domain(1), guest=make_guest(1, interfaces=interfaces))
    use = GuestUse(interfaces={each: count(10) for each in targets}, other_interfaces=count(20))
    parts = {
        "chosen guests": ChosenGuests(guests=(row,), omitted=0),
        "guest use": AllGuestsUse(use={row.record.uuid: use}),
    }
    devices = [
        dict(labels)["device"]
        for each in guests.COLLECTOR.collect(make_snapshot(parts=parts))
        if isinstance(each, Series) and each.metric.name.endswith(("receive_bytes_total", "network_info"))
        for labels, _ in each.rows
    ]
    shown = ["a\ufffd", *(f"tap{number}" for number in range(29))]
    assert sorted(devices) == sorted([*shown, *shown, "other"])


def test_what_is_not_known_has_no_sample() -> None:
    assert show(GuestUse()) == {}
    assert show(None) == {}


def test_of_another_machines_guests_libvirt_tells_cpu_time_and_traffic() -> None:
    told = GuestStatistics(read_at=1.0, cpu_ns=3_000_000_000, interfaces={"tap1": count(10)})
    found = show(None, told=told)
    assert found["hypervisor_guest_cpu_seconds_total",] == 3.0
    assert found["hypervisor_guest_network_transmit_bytes_total", "tap1"] == 14
    assert ("hypervisor_guest_vcpu_delay_seconds_total",) not in found
    found = show(GuestUse(cpu_ns=1_000_000_000), told=told)
    assert found["hypervisor_guest_cpu_seconds_total",] == 1.0, "the kernel's is of this moment"

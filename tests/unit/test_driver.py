"""What the driver asks its hypervisor: how often, after which events, and again after a lost connection."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from exporter.collectors import COLLECTORS
from exporter.compute.resource_view import verify_resources
from exporter.compute.source import Settings, Source
from exporter.config.settings import HypervisorConfig
from exporter.errors import (
    ConnectError,
    ConnectionLostError,
    DaemonError,
    DeniedError,
    GoneError,
    HypervisorError,
    UnsupportedError,
)
from exporter.metric import Collector
from exporter.model import (
    DomainInfo,
    Flavor,
    ImageSize,
    NodeInfo,
    PoolSource,
    ResourceClass,
    Severity,
    Snapshot,
    UnreadPool,
)
from exporter.page.fleet import NEEDS as PAGE_NEEDS
from exporter.recorder import EARLIER, STEP
from exporter.virt.host_ip import get_host_ip
from exporter.virt.sources.capabilities import MAX_AGE_SECONDS as CAPABILITIES_MAX_AGE_SECONDS
from tests.support.cgroup_trees import Tree, Use
from tests.support.driver_bench import Bench
from tests.support.guests import file_disk
from tests.support.node_devices import GPU
from tests.support.programs import write_program
from tests.support.records import GIB, KIB, make_pool, make_uuid
from tests.support.waiting_libvirt import UUID

# What a refresh asks that finds all guests known.
WARM = [("list", ""), ("online CPUs", "")]


def test_a_warm_refresh_asks_the_same_whatever_the_number_of_guests() -> None:
    asked = []
    for count in (0, 50):
        bench = Bench()
        for number in range(count):
            bench.add_guest(number)
        bench.read()
        bench.hypervisor.asked.clear()
        bench.libvirt.take_asked()
        assert bench.read().running_vms == count
        asked.append((dict(bench.hypervisor.asked), bench.libvirt.take_asked()))
    assert asked[0] == asked[1] == ({"node info": 1, "node memory": 1}, WARM)


def test_whoever_records_sees_the_steps_of_a_refresh_and_how_old_each_earlier_answer_is() -> None:
    bench = Bench(storage_pool=("a",))
    bench.libvirt.pools = (make_pool("a"),)
    bench.add_guest(1)
    bench.read()
    bench.do_what_is_due()
    bench.clock.now += 10
    with bench.libvirt.held("list"), bench.libvirt.held("pools"), bench.recorder.recording() as recording:
        bench.read()
    entries = recording.get_entries()
    assert [each.name for each in entries if each.kind == STEP] == [
        "connect, if need be",
        "read the host: identity, CPUs, memory",
        "read the list of domains, and new guests",
        "read images",
        "read storage",
        "read online CPUs",
        "compute Nova's numbers",
    ]
    earlier = {each.name: each.outcome for each in entries if each.kind == EARLIER}
    assert earlier.keys() == {
        "the list of domains",
        "the oldest XML of a guest",
        "the node devices",
        "the capabilities",
        "the storage pools",
    }
    assert all(10 <= float(outcome.removesuffix(" s old")) < 12 for outcome in earlier.values())


def test_a_guest_is_read_again_when_an_event_speaks_of_it() -> None:
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.add_guest(2, vcpus=4)
    assert bench.read().vcpus_used == 6
    bench.add_guest(1, vcpus=8)
    assert bench.read().vcpus_used == 6, "nobody said that it changed"
    bench.hypervisor.tell_changed(make_uuid(1))
    assert bench.read().vcpus_used == 12
    assert bench.driver.get_stats().guests_read == 3
    assert bench.driver.get_stats().libvirt_calls > bench.hypervisor.calls > 0


def test_events_outlive_a_refresh_without_a_list_of_domains() -> None:
    """Shows that what an event said is not forgotten by the refresh that could do nothing with it."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    bench.add_guest(1, vcpus=8)
    bench.hypervisor.tell_changed(make_uuid(1))
    domains, bench.libvirt.domains = bench.libvirt.domains, HypervisorError("no memory")
    assert bench.read().vcpus_used is None
    bench.libvirt.domains = domains
    assert bench.read().vcpus_used == 8


@pytest.mark.parametrize("error", [GoneError("no domain"), HypervisorError("internal error")])
def test_a_guest_that_cannot_be_read_costs_that_guest(error: Exception) -> None:
    """Shows that it counts one vCPU, as with Nova, and that every other guest counts as ever."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.add_guest(2, vcpus=4)
    xml, bench.libvirt.xml[make_uuid(1)] = bench.libvirt.xml[make_uuid(1)], error
    assert bench.read().vcpus_used == 5
    bench.libvirt.xml[make_uuid(1)] = xml
    bench.hypervisor.tell_changed(make_uuid(1))
    assert bench.read().vcpus_used == 6


def test_a_refresh_waits_for_no_guest_and_says_which_do_not_answer() -> None:
    """Shows that what waits for a guest costs a refresh a moment, once, and no number of another guest."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.add_guest(2, vcpus=4)
    bench.libvirt.info[make_uuid(1)] = DomainInfo(vcpus=2, memory_kib=1024, maximum_memory_kib=1024)
    with bench.libvirt.held(f"XML {make_uuid(1)}"):
        resources = bench.read()
        assert (resources.vcpus_used, resources.unread_guests) == (6, 1)
        assert [problem.reason for problem in resources.problems] == ["guest_timeout"]
        assert bench.driver.get_stats().hung == 1
        asked_at = bench.clock.now
        assert [bench.read().vcpus_used for _ in range(5)] == [6] * 5
        assert bench.clock.now == asked_at, "it is not waited for again"
    assert bench.driver.get_stats().hung == 0
    resources = bench.read()
    assert (resources.unread_guests, resources.problems) == (0, ())


@pytest.mark.parametrize(("version", "vcpus"), [(10_010_000, 9), (11_000_000, 2)])
def test_a_busy_guests_xml_is_read_where_libvirt_does_not_wait_for_its_job(version: int, vcpus: int) -> None:
    """Shows that before libvirt 11.0 a guest that others keep busy is up to date all the same."""
    bench = Bench()
    bench.hypervisor.libvirt_version = version
    bench.add_guest(1)
    bench.add_guest(2)
    bench.read()
    with bench.libvirt.held(make_uuid(1)):
        bench.hypervisor.tell_changed(make_uuid(1))
        bench.read()
        bench.libvirt.busy = {make_uuid(2)}
        bench.add_guest(2, vcpus=9)
        bench.hypervisor.tell_changed(make_uuid(2))
        resources = bench.read()
        assert (resources.vcpus_used, resources.outdated_guests) == (2 + vcpus, 1 + (vcpus == 2))


def test_a_list_of_domains_that_does_not_come_is_replaced_by_the_last_one() -> None:
    """Shows that it is waited for once, by one refresh, and that its age is told."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    assert bench.read().domains_age_seconds == 0
    bench.add_guest(2, vcpus=4)
    with bench.libvirt.held("list"):
        first = bench.read()
        asked_at = bench.clock.now = bench.clock.now + 10
        second = bench.read()
        assert bench.clock.now == asked_at, "the second refresh does not wait"
        assert bench.driver.get_stats().hung == 1
    assert (first.vcpus_used, second.vcpus_used) == (2, 2)
    assert 1 < first.domains_age_seconds < 2
    assert second.domains_age_seconds == first.domains_age_seconds + 10
    assert [(each.reason, each.severity) for each in second.problems] == [("domains", Severity.ERROR)]
    resources = bench.read()
    assert (resources.vcpus_used, resources.domains_age_seconds, resources.problems) == (6, 0, ())


def test_a_list_of_domains_counts_no_longer_than_the_grace() -> None:
    bench = Bench()
    bench.read()
    bench.driver.configure(resync_interval=60, stale_grace=0.5)
    with bench.libvirt.held("list"):
        resources = bench.read()
    assert (resources.vcpus_used, resources.memory_mb) == (None, 16 * KIB)
    (problem,) = resources.problems
    assert re.search(r"older than 0\.5 s", problem.message)


def test_a_reload_changes_how_long_the_last_online_cpus_count() -> None:
    bench = Bench(cpu_shared_set="0-3")
    bench.read()
    bench.driver.configure(resync_interval=60, stale_grace=0.5)
    with bench.libvirt.held("online CPUs"):
        (problem,) = bench.read().problems
    assert (problem.reason, problem.subject) == ("timeout", "online CPUs")
    assert re.search(r"older than 0\.5 s", problem.message)


def test_without_any_list_of_domains_there_is_what_the_host_itself_tells_and_why_no_more() -> None:
    """Shows that nothing is invented for it, and that nobody is sent to restart a libvirt that is well."""
    bench = Bench(flavors=(Flavor(name="m1", vcpus=1, memory_mb=1, disk_gb=0),))
    bench.add_guest(1, vcpus=2)
    with bench.libvirt.held("list"):
        resources = bench.read()
        asked_at = bench.clock.now
        bench.read()
        assert bench.clock.now == asked_at, "it is not waited for again"
    assert (resources.vcpus, resources.memory_mb, resources.memory_mb_used) == (8, 16 * KIB, 16 * KIB)
    assert resources.local_gb is not None
    assert resources.uuid == UUID
    assert verify_resources(resources) == ("vcpus_used",)
    (problem,) = resources.problems
    assert (problem.reason, problem.severity) == ("domains", Severity.ERROR)
    for text in ("the list of domains: no answer from libvirt for 1 s", "a guest that is being destroyed"):
        assert text in problem.message
    resources = bench.read()
    assert (resources.vcpus_used, resources.problems) == (2, ())
    assert [each.flavor for each in resources.flavor_slots] == ["m1"]


def test_what_events_said_while_there_was_no_list_of_domains_is_not_forgotten() -> None:
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    bench.add_guest(1, vcpus=8)
    bench.hypervisor.tell_changed(make_uuid(1))
    bench.driver.configure(resync_interval=60, stale_grace=0.5)
    with bench.libvirt.held("list"):
        assert bench.read().vcpus_used is None
    assert bench.read().vcpus_used == 8


def test_a_libvirt_that_serves_urgent_calls_only_costs_a_start_a_few_seconds_and_no_host_number() -> None:
    """Shows that the capabilities, too, are not waited for for ever where all workers are taken."""
    bench = Bench(cpu_dedicated_set="0-1")
    bench.add_guest(1, vcpus=2)
    with bench.libvirt.held("list", "capabilities", "online CPUs"):
        started_at = bench.clock.now
        resources = bench.read()
        assert bench.clock.now - started_at < 4
        asked_at = bench.clock.now
        bench.read()
        assert bench.clock.now == asked_at, "nothing is waited for again"
    assert (resources.memory_mb, resources.memory_mb_used) == (16 * KIB, 16 * KIB)
    assert (resources.hypervisor_hostname, resources.uuid) == ("kvm01.example", None)
    assert verify_resources(resources) == ("cpu_info", "vcpus_used")
    assert [each.reason for each in resources.problems] == ["domains", "timeout"]
    resources = bench.read()
    assert (resources.vcpus_used, resources.uuid, verify_resources(resources)) == (2, UUID, ())
    assert resources.problems == ()


def test_storage_pools_that_do_not_answer_cost_the_disk_numbers_only() -> None:
    bench = Bench(storage_pool=("vms",))
    with bench.libvirt.held("pools"):
        resources = bench.read()
    assert (resources.local_gb, resources.memory_mb) == (None, 16 * KIB)
    assert [problem.reason for problem in resources.problems] == ["storage"]


def test_collectors_are_handed_the_storage_pools_that_were_read_and_no_others() -> None:
    bench = Bench(storage_pool=("vms",))
    pools = bench.libvirt.pools = (make_pool("iso"), make_pool("vms"))
    assert bench.read().parts["storage"] == pools
    bench.libvirt.pools = (make_pool("vms"), UnreadPool(name="iso", reason="storage", error="a test"))
    assert bench.read().parts["storage"] == pools[1:]
    assert "storage" not in Bench().read().parts, "it measures instances_path"


def test_storage_pools_count_as_last_told_while_their_daemon_hangs_and_that_is_said() -> None:
    bench = Bench(storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms"),)
    known = bench.read().local_gb
    with bench.libvirt.held("pools"):
        resources = bench.read()
    assert known is not None
    assert resources.local_gb == known
    (problem,) = resources.problems
    assert (problem.reason, problem.severity) == ("storage", Severity.ERROR)
    assert "systemctl restart virtstoraged" in problem.message


@pytest.mark.parametrize(
    "options",
    [{"storage_pool": ("vms",)}, {"images_type": "rbd"}, {"images_type": "lvm", "images_volume_group": "vg"}],
    ids=["storage_pool", "rbd", "lvm"],
)
def test_a_storage_daemon_that_is_not_there_costs_the_disk_numbers_only(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that nothing is connected anew for it but what asked it, so that no refresh fails."""
    monkeypatch.setenv("PATH", str(tmp_path))  # there is neither vgs nor ceph
    bench = Bench(**options)
    bench.libvirt.pools = DaemonError("virtstoraged cannot be reached")
    for _ in range(2):
        resources = bench.read()
        assert (resources.local_gb, resources.memory_mb) == (None, 16 * KIB)
        assert [problem.reason for problem in resources.problems] == ["daemon"]
    assert bench.hypervisor.connects == 1
    names = {"rbd": "rbd", "lvm": "vg"}
    type_ = options.get("images_type", "dir")
    source = PoolSource(type={"lvm": "logical"}.get(type_, type_), name=names.get(type_))
    bench.libvirt.pools = (make_pool("vms", source=source),)
    resources = bench.read()
    assert resources.local_gb is not None
    assert [problem.reason for problem in resources.problems] == (["raw"] if type_ == "rbd" else [])


def test_whatever_hangs_at_once_costs_one_refresh_a_second_and_the_next_ones_nothing() -> None:
    """Shows that the list of domains, pools and online CPUs are waited for together, and all count on."""
    bench = Bench(storage_pool=("vms",), cpu_shared_set="0-1")
    bench.add_guest(1, vcpus=2)
    bench.libvirt.pools = (make_pool("vms"),)
    known = bench.read()
    with bench.libvirt.held("list", "pools", "online CPUs"):
        waited = []
        for _ in range(4):
            asked_at = bench.clock.now
            resources = bench.read()
            waited.append(bench.clock.now - asked_at)
            assert (resources.vcpus_used, resources.local_gb) == (known.vcpus_used, known.local_gb)
            assert resources.vcpus == known.vcpus
        assert waited == [pytest.approx(1.0, abs=0.1), 0, 0, 0]
        assert bench.driver.get_stats().hung == 3
    assert bench.driver.get_stats().hung == 0


def test_what_answers_is_new_in_the_refresh_in_which_something_else_hangs() -> None:
    bench = Bench(storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms"),)
    bench.read()
    with bench.libvirt.held("list"):
        bench.libvirt.pools = (make_pool("vms", capacity_bytes=7 * GIB),)
        resources = bench.read()
    assert resources.local_gb == 7
    assert [problem.reason for problem in resources.problems] == ["domains"]


def test_a_connection_that_was_lost_is_replaced_within_the_refresh() -> None:
    """Shows that a restart of libvirtd costs no scrape, and that nothing read before it is trusted."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    bench.add_guest(1, vcpus=8)
    bench.hypervisor.errors["node info"] = ConnectionLostError("closed")
    assert bench.read().vcpus_used == 8
    asked = bench.hypervisor.asked
    assert asked["connect"] == asked["watch"] == asked["hostname"] == 2
    assert bench.libvirt.asked.count(("capabilities", "")) == 2


def test_after_a_reconnection_nothing_old_counts_even_if_the_second_connection_cannot_be_opened() -> None:
    """Shows it of the refresh after that: it finds the first connection open, and so no new one."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    bench.add_guest(1, vcpus=8)
    bench.hypervisor.is_connected = False
    for connection in bench.libvirt.connections:
        connection.disconnect()
    bench.libvirt.refused = ConnectError("refused")
    with pytest.raises(ConnectError):
        bench.read()
    bench.libvirt.refused = None
    assert bench.read().vcpus_used == 8
    assert bench.hypervisor.connects == bench.hypervisor.asked["hostname"] == 2
    assert bench.libvirt.asked.count(("capabilities", "")) == 2


def test_a_connection_that_hung_before_it_was_lost_is_replaced_by_the_next_refresh() -> None:
    """Shows that a host that hangs is connected to only when it has a place among the openings."""
    bench = Bench(uri="qemu+tls://kvm01/system")
    bench.read()
    bench.hypervisor.errors["node info"] = ConnectionLostError("keep-alive")
    bench.hypervisor.on_error = lambda: bench.clock.advance(20)
    with pytest.raises(ConnectionLostError):
        bench.read()
    assert bench.driver.has_to_connect
    bench.read()
    assert not bench.driver.has_to_connect
    assert bench.hypervisor.connects == 2


def test_a_connection_that_is_lost_twice_is_an_error() -> None:
    bench = Bench()
    bench.read()
    bench.hypervisor.errors = {"node info": ConnectionLostError("closed"), "connect": ConnectError("refused")}
    with pytest.raises(ConnectError, match="refused"):
        bench.read()
    bench.hypervisor.errors["node info"] = ConnectionLostError("closed")
    with pytest.raises(ConnectionLostError):
        bench.read()
    assert bench.read().hypervisor_hostname == "kvm01.example"


def test_capabilities_are_read_again_when_old_or_when_the_node_changed() -> None:
    """Shows that the slowest of all calls is made seldom, and still in time for hot-plugged CPUs."""
    bench = Bench()
    for _ in range(3):
        bench.read()
    assert bench.libvirt.asked.count(("capabilities", "")) == 1
    bench.clock.now += CAPABILITIES_MAX_AGE_SECONDS
    bench.read()
    assert bench.libvirt.asked.count(("capabilities", "")) == 2
    bench.hypervisor.node = NodeInfo(online_cpus=9, memory_mib=16 * KIB)
    bench.libvirt.online_cpus = frozenset(range(9))
    assert bench.read().vcpus == 9
    assert bench.libvirt.asked.count(("capabilities", "")) == 3


def capabilities_with(huge_pages: int) -> str:
    """Return the capabilities of a host with one NUMA cell that has so many huge pages."""
    return f"""<capabilities><host><uuid>{UUID}</uuid><cpu><arch>x86_64</arch></cpu>
      <topology><cells num="1"><cell id="0"><memory unit="KiB">8388608</memory>
      <pages unit="KiB" size="2048">{huge_pages}</pages><cpus num="1"><cpu id="0"/></cpus>
      </cell></cells></topology></host></capabilities>"""


def test_huge_pages_that_were_set_aside_since_are_counted_by_the_next_refresh() -> None:
    """More are free than there were, so the capabilities are read again, and once."""
    bench = Bench()
    bench.libvirt.capabilities, bench.hypervisor.free_pages = capabilities_with(10), 10
    bench.read()
    bench.libvirt.capabilities, bench.hypervisor.free_pages = capabilities_with(100), 90
    totals = []
    for _ in range(3):
        (cell,) = bench.read().numa_topology or ()
        totals += [pages.total for pages in cell.mempages]
    assert totals == [10, 100, 100]
    assert bench.libvirt.asked.count(("capabilities", "")) == 2


def test_devices_of_a_connection_that_was_lost_are_not_shown_by_the_next_one() -> None:
    """The host may have been restarted, with other cards in it."""
    bench = Bench()
    bench.read()
    bench.do_what_is_due()
    assert bench.read().pci_passthrough_devices == ()
    bench.hypervisor.errors["node info"] = ConnectionLostError("gone")
    assert bench.read().pci_passthrough_devices is None
    bench.do_what_is_due()
    assert bench.read().pci_passthrough_devices == ()


def test_old_capabilities_count_while_libvirt_gives_no_new_ones() -> None:
    bench = Bench()
    bench.read()
    bench.clock.now += CAPABILITIES_MAX_AGE_SECONDS
    with bench.libvirt.held("capabilities"):
        assert bench.read().uuid == UUID
    assert bench.libvirt.asked.count(("capabilities", "")) == 2
    bench.clock.now += CAPABILITIES_MAX_AGE_SECONDS
    assert bench.read().uuid == UUID


def test_a_clock_that_is_set_back_makes_nothing_stale_or_eternal() -> None:
    """Shows that guests are read again within the interval even if the clock were to jump."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    bench.clock.now -= 3600
    assert bench.read().vcpus_used == 2
    bench.add_guest(1, vcpus=8)
    bench.clock.now += 3600 + 61
    assert bench.read().vcpus_used == 8


@pytest.mark.parametrize(("options", "vcpus"), [({}, 8), ({"cpu_shared_set": "0-3"}, 4)])
def test_each_refresh_asks_once_which_cpus_are_online(options: dict[str, str], vcpus: int) -> None:
    bench = Bench(**options)
    bench.hypervisor.node = NodeInfo(online_cpus=2, memory_mib=16 * KIB)  # POWER's subcores, for example
    for number in (1, 2):
        assert bench.read().vcpus == vcpus
        assert bench.libvirt.asked.count(("online CPUs", "")) == number
    assert ("available CPUs", "") not in bench.libvirt.asked


def test_under_power_management_each_refresh_asks_which_cpus_there_are(tmp_path: Path) -> None:
    """Shows it for CPUs that Nova has taken offline, from the first refresh after a reload on."""
    options: dict[str, Any] = {
        "cpu_shared_set": "0-1",
        "cpu_dedicated_set": "4-7",
        "instances_path": str(tmp_path),
    }
    bench = Bench(**options)
    bench.libvirt.online_cpus = frozenset(range(4))
    resources = bench.read()
    assert (resources.vcpus, [problem.subject for problem in resources.problems]) == (
        None,
        ["cpu_dedicated_set"],
    )
    bench.driver.reconfigure(HypervisorConfig(uri="qemu:///system", cpu_power_management=True, **options))
    resources = bench.read()
    assert (resources.vcpus, resources.problems) == (2, ())
    assert [each.total for each in resources.inventories if each.resource_class.value == "PCPU"] == [4]
    assert bench.libvirt.asked.count(("available CPUs", "")) == 1


def test_where_libvirt_does_not_tell_which_cpus_are_online_their_number_counts() -> None:
    """Shows it for a hypervisor without the call, and that it is not asked for in vain again."""
    bench = Bench()
    bench.libvirt.online_cpus = UnsupportedError("this function is not supported")
    for _ in range(2):
        resources = bench.read()
        assert resources.vcpus == bench.hypervisor.node.online_cpus
        assert verify_resources(resources) == ()
        assert [(each.severity, each.subject) for each in resources.problems] == [
            (Severity.NOTE, "online CPUs")
        ]
    assert bench.libvirt.asked.count(("online CPUs", "")) == 1


def test_until_libvirt_has_answered_which_cpus_are_online_their_number_counts() -> None:
    """Shows it for an exporter that starts while all of libvirtd's workers wait, and that it is said."""
    bench = Bench()
    with bench.libvirt.held("online CPUs"):
        resources = bench.read()
    assert resources.vcpus == bench.hypervisor.node.online_cpus
    assert [(each.reason, each.subject) for each in resources.problems] == [("timeout", "online CPUs")]
    assert bench.read().problems == ()


def test_where_the_online_cpus_could_not_be_read_there_is_no_number_of_them() -> None:
    """Shows that virNodeGetInfo's number is not taken for them: it may be another one."""
    bench = Bench()
    bench.libvirt.online_cpus = HypervisorError("internal error")
    resources = bench.read()
    assert resources.vcpus is None
    assert resources.memory_mb is not None
    assert [(each.severity, each.subject) for each in resources.problems] == [(Severity.ERROR, "online CPUs")]


@pytest.mark.parametrize(
    ("call", "field"), [("node info", "memory_mb"), ("node memory", "memory_available_bytes")]
)
def test_what_libvirts_driver_does_not_know_is_not_asked_in_vain_for_the_rest(call: str, field: str) -> None:
    bench = Bench()
    bench.hypervisor.errors[call] = UnsupportedError("this function is not supported")
    resources = bench.read()
    assert resources.hypervisor_hostname == "kvm01.example"
    assert getattr(resources, field) in (None, 16 * GIB)


def test_a_pool_that_is_missing_costs_the_disk_numbers_only() -> None:
    bench = Bench(storage_pool=("vms",))
    resources = bench.read()
    assert resources.local_gb is None
    assert resources.memory_mb is not None
    assert [problem.reason for problem in resources.problems] == ["storage"]
    bench.libvirt.pools = (make_pool("vms"),)
    assert bench.read().local_gb == 100


def test_an_image_that_only_libvirt_can_read_is_sized_between_refreshes(tmp_path: Path) -> None:
    """Shows that a refresh of a remote hypervisor asks nothing of a guest, and takes what is known."""
    image = tmp_path / "disk"
    image.touch()
    os.truncate(image, GIB)
    bench = Bench(uri="qemu+tls://kvm01/system")
    bench.libvirt.pools = (make_pool("vms"),)
    bench.libvirt.blocks["vda"] = ImageSize(virtual_bytes=9 * GIB, allocated_bytes=0)
    bench.add_guest(1, disks=file_disk(image, format="raw"))
    assert bench.read().unsized_disks == 1
    assert ("block", make_uuid(1)) not in bench.libvirt.asked
    bench.do_what_is_due()
    resources = bench.read()
    assert (resources.unsized_disks, resources.storage_overcommitted_bytes) == (0, 9 * GIB)


def test_guests_are_read_again_between_refreshes_before_they_are_too_old() -> None:
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.read()
    assert "guests" not in bench.list_due()
    bench.add_guest(1, vcpus=8)
    bench.clock.now += 31
    assert "guests" in bench.list_due()
    bench.do_what_is_due()
    assert "guests" not in bench.list_due()
    bench.libvirt.take_asked()
    assert bench.read().vcpus_used == 8
    assert bench.libvirt.take_asked() == WARM


def test_other_settings_cost_no_connection_and_no_guest_and_what_hangs_is_counted_on() -> None:
    """Shows that a frozen guest is known as before, and that its call is not made a second time."""
    bench = Bench()
    bench.add_guest(1, vcpus=2)
    bench.add_guest(2, vcpus=3)
    bench.read()
    with bench.libvirt.held(make_uuid(1)):
        bench.hypervisor.tell_changed(make_uuid(1))
        bench.read()
        bench.libvirt.take_asked()
        for ratio in (2.0, 3.0, 4.0):
            bench.reconfigure(cpu_allocation_ratio=ratio, my_ip="192.0.2.7")
            resources = bench.read()
            (inventory,) = [
                each for each in resources.inventories if each.resource_class is ResourceClass.VCPU
            ]
            assert (inventory.allocation_ratio, resources.host_ip) == (ratio, "192.0.2.7")
            assert (resources.vcpus_used, resources.unread_guests) == (5, 0)
            assert bench.driver.get_stats().hung == 1
        assert set(bench.libvirt.take_asked()) == set(WARM)
    assert bench.hypervisor.connects == 1


def test_a_hypervisor_that_turns_out_to_be_this_machine_has_its_path_and_its_files_read_here(
    tmp_path: Path,
) -> None:
    """As a reload may tell, by `local` or a nova_conf: the URI is the same, so the connection is kept."""
    image = tmp_path / "disk"
    image.touch()
    os.truncate(image, GIB)
    bench = Bench(uri="qemu+tls://kvm01.invalid/system", instances_path=str(tmp_path))
    bench.libvirt.pools = (make_pool("vms"),)
    bench.add_guest(1, disks=file_disk(image, format="raw"))
    pool, resources = make_pool("vms"), bench.read()
    assert resources.storage is not None
    assert (resources.storage.size_bytes, resources.unsized_disks) == (pool.capacity_bytes, 1)
    assert (resources.host_ip, bench.driver.has_to_connect) == (None, False)
    bench.reconfigure(uri="qemu+tls://kvm01.invalid/system", instances_path=str(tmp_path), local=True)
    resources = bench.read()
    assert resources.storage is not None
    assert resources.storage.size_bytes != pool.capacity_bytes
    assert (resources.unsized_disks, resources.storage_overcommitted_bytes) == (0, GIB)
    assert resources.host_ip == get_host_ip(None)


def test_other_flavors_cost_no_connection_and_no_guest_and_show_in_the_next_refresh() -> None:
    old, new = (Flavor(name=name, vcpus=1, memory_mb=1, disk_gb=0) for name in ("old", "new"))
    bench = Bench(flavors=(old,))
    bench.add_guest(1, vcpus=2)
    assert [each.flavor for each in bench.read().flavor_slots] == ["old"]
    bench.libvirt.take_asked()
    bench.reconfigure(flavors=(old, new), flavors_from_guests=True)
    assert [each.flavor for each in bench.read().flavor_slots] == ["old", "new"]
    assert bench.libvirt.take_asked() == WARM
    assert bench.hypervisor.connects == 1


def test_pools_of_other_settings_are_not_taken_for_those_of_the_present_ones() -> None:
    bench = Bench(storage_pool=("vms",))
    bench.libvirt.pools = (make_pool("vms"),)
    bench.read()
    bench.reconfigure(images_type="rbd")
    with bench.libvirt.held("pools"):
        resources = bench.read()
        assert (resources.local_gb, bench.driver.get_stats().hung) == (None, 1)
        bench.reconfigure(storage_pool=("vms",))
        resources = bench.read()
        assert (resources.local_gb, bench.driver.get_stats().hung) == (None, 1)
    assert bench.driver.get_stats().hung == 0
    assert bench.read().local_gb is not None


def test_the_size_of_another_volume_group_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that after a reload, `vgs` runs again at once."""
    write_program(
        tmp_path, "vgs", f"""case "$*" in *old) echo "{3 * GIB}|0|x";; *) echo "{5 * GIB}|0|y";; esac"""
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    bench = Bench(images_type="lvm", images_volume_group="old")
    assert bench.read().local_gb == 3
    bench.reconfigure(images_type="lvm", images_volume_group="new")
    assert bench.read().local_gb == 5


def test_storage_calls_use_at_most_two_connections() -> None:
    """Shows it for calls that hang, each of which is abandoned when the daemon has restarted."""
    bench = Bench(storage_pool=("vms",))
    with bench.libvirt.held("pools"):
        for _ in range(4):
            bench.read()
            bench.hypervisor.disconnect()
        (problem,) = bench.read().problems
        assert bench.libvirt.asked.count(("pools", "")) == 2
    assert "2 calls to libvirt are already waiting for an answer" in problem.message


def test_a_source_that_is_not_read_now_gets_new_settings_too() -> None:
    """Shows it because a later reload may need the source: then it must not use old settings."""
    networks = Networks()
    bench = Bench(needs={"guests"}, more_sources=(networks,))
    bench.driver.configure(resync_interval=7, stale_grace=120)
    assert "networks" not in {each.name for each in bench.driver.sources}
    assert networks.settings is not None
    assert networks.settings.resync_interval == 7


def test_another_interval_is_in_force_at_once() -> None:
    bench = Bench()
    bench.add_guest(1)
    bench.read()
    bench.clock.now += 10
    assert "guests" not in bench.list_due()
    bench.driver.configure(resync_interval=10, stale_grace=120)
    assert "guests" in bench.list_due()


def test_all_connections_are_closed() -> None:
    bench = Bench()
    bench.read()
    assert [each.is_open for each in bench.libvirt.connections] == [True]
    bench.driver.close()
    assert not bench.hypervisor.is_connected
    assert [each.is_open for each in bench.libvirt.connections] == [False]


def test_a_refresh_that_loses_its_connection_after_the_end_opens_no_other_one() -> None:
    """Shows that a reload during a refresh leaves no connection."""
    bench = Bench()
    bench.read()
    connections = len(bench.libvirt.connections)
    bench.hypervisor.errors["node info"] = ConnectionLostError("libvirtd ended")
    bench.hypervisor.on_error = bench.driver.close
    with pytest.raises(ConnectionLostError, match="closed"):
        bench.read()
    assert not bench.hypervisor.is_connected
    assert not any(each.is_open for each in bench.libvirt.connections)
    assert len(bench.libvirt.connections) == connections


def test_no_job_opens_a_connection_after_the_end() -> None:
    """Shows it for what is due between scrapes, of each source."""
    bench = Bench(device_spec=("{}",), storage_pool=("a",))
    bench.add_guest(1)
    bench.read()
    bench.clock.now += 60
    assert bench.list_due() >= {"guests", "node devices"}
    jobs = [job for source in bench.driver.sources for job in source.list_jobs()]
    bench.driver.close()
    for job in jobs:
        with contextlib.suppress(HypervisorError):
            job.run()
    assert not any(each.is_open for each in (*bench.libvirt.connections, bench.for_node_devices))


def test_it_says_when_its_connection_was_lost() -> None:
    bench = Bench()
    assert not bench.driver.has_lost_connection()
    bench.hypervisor.is_lost = True
    assert bench.driver.has_lost_connection()


# What is asked for each source that may be left out.
# What NOVAS_SOURCES ask. What any other source asks is found by asking with it alone.
KNOWN_CALLS = {
    "capabilities": {"capabilities"},
    "guests": {"list", "XML"},
    "images": {"volume", "block", "busy", "info"},
    "node devices": {"devices"},
    "NUMA memory": {"cells' memory", "free pages"},
    "online CPUs": {"online CPUs"},
    "storage": {"pools"},
}
# What every refresh asks, whatever is needed.
CALLS_OF_ALL = {"connect", "watch", "hostname", "node info", "node memory", "device count"}
SOURCES = {source.name: source for source in Bench(needs=None).driver.sources}


def make_bench_with_everything(needs: Collection[str] | None, **options: Any) -> Bench:
    """Return one whose every source has something to read, of which libvirt is asked."""
    bench = Bench(
        needs=needs,
        uri="qemu+tls://kvm01/system",
        storage_pool=("vms",),
        cpu_shared_set="0-1",
        device_spec=("{}",),
        **options,
    )
    bench.libvirt.capabilities = capabilities_with(10)
    bench.libvirt.pools = (make_pool("vms"),)
    bench.libvirt.devices = (GPU,)
    bench.libvirt.blocks["vda"] = ImageSize(virtual_bytes=9 * GIB, allocated_bytes=0)
    bench.add_guest(1, disks=file_disk(Path("/images/vda")))
    bench.libvirt.info[make_uuid(1)] = DomainInfo(vcpus=2, memory_kib=1024, maximum_memory_kib=1024)
    return bench


def list_calls(needs: Collection[str], **options: Any) -> set[str]:
    """Return what is asked of a hypervisor by a refresh, and by what is due after it, for these sources."""
    bench = make_bench_with_everything(needs, **options)
    assert verify_resources(bench.read(), needs=needs) == (), "what nobody needs is not missing"
    bench.do_what_is_due()
    return ({call for call, _ in bench.libvirt.asked} | set(bench.hypervisor.asked)) - CALLS_OF_ALL


def expect_calls(needs: Collection[str]) -> set[str]:
    found: set[str] = set()
    for name in needs:
        found |= KNOWN_CALLS[name] if name in KNOWN_CALLS else list_calls({name})
        found |= expect_calls(SOURCES[name].needs)
    return found


@pytest.mark.parametrize(
    "needs",
    [(), *({name} for name in sorted(SOURCES)), *(each.needs for each in COLLECTORS), PAGE_NEEDS],
    ids=["nothing", *sorted(SOURCES), *(f"collector {each.name}" for each in COLLECTORS), "page"],
)
def test_what_nobody_needs_is_not_asked_for(needs: Collection[str]) -> None:
    assert list_calls(needs) == expect_calls(needs)


# These read the kernel's files, of this machine only.
SOURCES_OF_FILES = frozenset({"guest use", "guests together"})


@pytest.mark.parametrize("name", sorted(SOURCES_OF_FILES))
def test_a_source_of_files_says_how_old_they_are(name: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.use(Use())
    bench = Bench(needs={name}, sandbox=tree.sandbox)
    bench.add_guest(1)
    assert bench.read().ages[name] == 0


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - SOURCES_OF_FILES))
def test_a_source_asks_libvirt_something_and_says_how_old_the_answer_is(name: str) -> None:
    bench = make_bench_with_everything({name})
    bench.read()
    bench.do_what_is_due()
    resources = bench.read()
    assert name in resources.ages, (
        f"{name}: its get_ages says nothing, though it was read; {resources.problems}"
    )
    assert list_calls({name}), f"{name} asks nothing, in a refresh or in a job that is due after it"


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda each: each.name)
def test_a_collector_names_all_that_its_samples_depend_on(collector: Collector) -> None:
    """Shows that they are the same where nobody else needs anything."""
    samples = []
    for needs in (collector.needs, None):
        flavor = Flavor(name="m1", vcpus=1, memory_mb=1, disk_gb=0, numa_cells=1)
        bench = make_bench_with_everything(needs, flavors=(flavor,))
        bench.read()
        bench.do_what_is_due()
        snapshot = Snapshot(target="kvm01", resources=bench.read(), timestamp_seconds=0)
        samples.append(list(collector.collect(snapshot)))
    assert samples[0] == samples[1] != []


def test_flavors_on_numa_cells_have_the_cells_memory_read() -> None:
    flavor = Flavor(name="m1", vcpus=1, memory_mb=1, disk_gb=0, numa_cells=1)
    numa = KNOWN_CALLS["NUMA memory"]
    assert list_calls(PAGE_NEEDS, flavors=(flavor,)) & numa == numa
    assert list_calls(PAGE_NEEDS, flavors_from_guests=True) & numa == numa


def test_a_source_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no sources: gusets"):
        Bench(needs={"gusets"})


def test_a_snapshot_knows_the_age_of_each_of_its_parts() -> None:
    """Shows that what is read by each refresh is new, and that everything else is as old as it is."""
    bench = make_bench_with_everything(None)
    assert bench.read().ages.keys() & KNOWN_CALLS.keys() == KNOWN_CALLS.keys() - {"node devices"}
    bench.do_what_is_due()
    bench.clock.now += 20
    new = dict.fromkeys(("NUMA memory", "online CPUs", "storage"), 0)
    old = dict.fromkeys(("capabilities", "guests", "images", "node devices"), 20)
    ages = bench.read().ages
    assert {name: ages[name] for name in KNOWN_CALLS} == new | old
    bench.hypervisor.tell_changed(make_uuid(1))
    with bench.libvirt.held("pools", "online CPUs"):
        resources = bench.read()
        ages = Snapshot(target="kvm01", resources=resources, timestamp_seconds=0).ages
    assert ages["guests"] < 2
    assert 0 < ages["storage"] < 2
    assert 0 < ages["online CPUs"] < 2
    bench.libvirt.pools = DaemonError("virtstoraged cannot be reached")
    assert "storage" not in bench.read().ages


@pytest.mark.parametrize("name", ["chosen guests", "guest use", "guests together"])
def test_a_defect_in_what_guests_use_costs_that_source_alone(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Shows that it fails no refresh, and is one traceback in the log while it lasts."""
    tree = Tree(tmp_path)
    tree.use(Use())
    tree.add_guest(1, "guest1")
    bench = Bench(needs=None, sandbox=tree.sandbox)
    bench.add_guest()
    bench.read()
    source = next(each for each in bench.driver.sources if each.name == name)
    broken = {"chosen guests": "_patterns", "guest use": "_traffic", "guests together": "_sandbox"}
    before = getattr(source, broken[name])
    bench.add_guest(2)  # it is decided on anew
    setattr(source, broken[name], None)
    for _ in range(2):
        resources = bench.read()
        assert resources.vcpus_used == 4
        (problem,) = [each for each in resources.problems if each.subject == name]
        assert (problem.severity, problem.reason) == (Severity.ERROR, "internal")
        assert name not in resources.parts
    assert [each.getMessage() for each in caplog.records if each.exc_info] == ["a defect of this program"]
    setattr(source, broken[name], before)
    resources = bench.read()
    assert name in resources.parts
    assert name not in {each.subject for each in resources.problems}


def test_a_list_of_domains_that_is_denied_costs_what_depends_on_guests_only() -> None:
    bench = Bench()
    bench.add_guest(1)
    domains, bench.libvirt.domains = bench.libvirt.domains, DeniedError("libvirt denies it: polkit")
    resources = bench.read()
    assert (resources.vcpus_used, resources.memory_mb) == (None, 16 * KIB)
    (problem,) = resources.problems
    assert (problem.reason, problem.severity) == ("denied", Severity.ERROR)
    bench.libvirt.domains = domains
    assert bench.read().vcpus_used == 2


class Networks(Source):
    """What docs/design.md adds as an example."""

    name = "networks"
    settings: Settings | None = None

    def configure(self, settings: Settings) -> None:
        self.settings = settings

    def get_part(self) -> int:
        return 3


def test_what_only_a_collector_uses_of_a_source_is_in_the_snapshot_as_it_is() -> None:
    bench = Bench(more_sources=(Networks(),))
    snapshot = Snapshot(target="kvm01", resources=bench.read(), timestamp_seconds=0)
    assert snapshot.get_part("networks", int) == 3
    assert snapshot.get_part("networks", str) is None
    assert snapshot.get_part("storage", int) is None

"""Nova's numbers out of what was read of a hypervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.compute.resource_view import verify_resources
from exporter.config.settings import HypervisorConfig
from exporter.model import (
    DomainState,
    Flavor,
    FreeNumaMemory,
    ImageSize,
    MdevType,
    NodeDevices,
    NodeInfo,
    NodeMemory,
    Problem,
    Reading,
    ResourceClass,
    Resources,
    Severity,
    UnsizedImage,
)
from exporter.virt.resources import get_available_resource
from tests.support.records import (
    GIB,
    KIB,
    MIB,
    make_capabilities,
    make_disk,
    make_domain,
    make_guest,
    make_identity,
    make_pci_device,
    make_reading,
    make_storage,
    make_uuid,
)

QCOW2 = make_disk(driver_format="qcow2")
RAW = make_disk(driver_format="raw")
GONE = UnsizedImage("/images/disk: No such file or directory")


def configure(**options: Any) -> HypervisorConfig:
    return HypervisorConfig(uri="test:///default", **options)


WITHOUT_CPU_SETS = configure()


def compute(reading: Reading, options: HypervisorConfig = WITHOUT_CPU_SETS) -> Resources:
    return get_available_resource(reading, options)


def compute_memory(node_mib: int, memory: NodeMemory | None, **changes: Any) -> Resources:
    node = NodeInfo(online_cpus=4, memory_mib=node_mib)
    return compute(make_reading(node=node, node_memory=memory, **changes))


def hide_xml(reading: Reading, *numbers: int) -> Reading:
    """Return the reading as it is when these guests' XML could not be read."""
    domains = reading.domains
    assert domains is not None
    unread = {make_uuid(number): None for number in numbers}
    return replace(reading, domains=replace(domains, guests={**domains.guests, **unread}))


def node_memory(*, total_kib: int, available_kib: int) -> NodeMemory:
    """Return statistics in which the available memory is spread over the three that make it up."""
    free, buffers = available_kib // 2, available_kib // 3
    return NodeMemory(
        total_kib=total_kib,
        free_kib=free,
        buffers_kib=buffers,
        cached_kib=available_kib - free - buffers,
    )


def overcommit(*sizes: tuple[int, int], driver_format: str = "qcow2") -> int:
    """Return the over-commit of one guest with images of these virtual and allocated sizes."""
    guest = make_guest(disks=(make_disk(driver_format=driver_format),) * len(sizes))
    images = [ImageSize(virtual_bytes=virtual, allocated_bytes=allocated) for virtual, allocated in sizes]
    return compute(make_reading(guests=[guest], sizes=[images])).storage_overcommitted_bytes


# CPUs


@given(st.integers(min_value=0, max_value=65536))
def test_without_a_cpu_set_every_online_cpu_counts_and_none_besides(online_cpus: int) -> None:
    """Shows that virNodeGetInfo's number counts only where libvirt does not tell which CPUs are online."""
    node = NodeInfo(online_cpus=online_cpus, memory_mib=1)
    assert compute(make_reading(node=node)).vcpus == online_cpus
    for online in (frozenset[int](), frozenset({0, 2, 4}), frozenset(range(0, 160, 8))):
        assert compute(make_reading(node=node, online_cpus=online)).vcpus == len(online)
        assert compute(make_reading(node=None, online_cpus=online)).vcpus == len(online)
    failed = frozenset({"virNodeGetCPUMap"})
    assert compute(make_reading(node=node, failed_calls=failed)).vcpus is None


@pytest.mark.parametrize(
    ("options", "vcpus", "pcpus"),
    [
        ({"cpu_shared_set": "0-1", "cpu_dedicated_set": "2-7"}, 2, 6),
        ({"cpu_dedicated_set": "0-7"}, 0, 8),
        ({}, 2, None),
        ({"cpu_shared_set": "0-1"}, 2, None),
    ],
)
def test_dedicated_cpus_count_under_power_management_whether_they_are_online_or_not(
    options: dict[str, str], vcpus: int, pcpus: int | None
) -> None:
    reading = make_reading(online_cpus=frozenset({0, 1}), available_cpus=frozenset(range(8)))
    resources = compute(reading, configure(**options, cpu_power_management=True))
    assert resources.vcpus == vcpus
    assert [problem.subject for problem in resources.problems] == []
    totals = {each.resource_class.value: each.total for each in resources.inventories}
    assert totals.get("PCPU") == pcpus


@pytest.mark.parametrize(
    ("options", "subject", "text"),
    [
        ({"cpu_dedicated_set": "2-9"}, "cpu_dedicated_set", "not available: 8-9 (available: 0-7)"),
        ({"cpu_shared_set": "0-2"}, "cpu_shared_set", "not online: 2 (online: 0-1)"),
        ({"vcpu_pin_set": "2"}, "vcpu_pin_set", "not online: 2 (online: 0-1)"),
    ],
)
def test_power_management_excuses_no_shared_cpu_and_none_that_does_not_exist(
    options: dict[str, str], subject: str, text: str
) -> None:
    reading = make_reading(online_cpus=frozenset({0, 1}), available_cpus=frozenset(range(8)))
    resources = compute(reading, configure(**options, cpu_power_management=True))
    assert resources.vcpus is None
    (problem,) = resources.problems
    assert (problem.reason, problem.subject) == ("cpu_set", subject)
    assert text in problem.message


@pytest.mark.parametrize(
    ("hypervisor_type", "used"), [("LXC", 2), ("OpenVZ", 2), ("QEMU", 7), ("Xen", 7), (None, 7)]
)
def test_a_container_counts_as_one_vcpu(hypervisor_type: str | None, used: int) -> None:
    guests = [make_guest(1, vcpus=4), make_guest(2, vcpus=3)]
    identity = make_identity(hypervisor_type=hypervisor_type)
    assert compute(make_reading(guests=guests, identity=identity)).vcpus_used == used


@pytest.mark.parametrize(
    ("options", "vcpus"),
    [
        (configure(vcpu_pin_set="0-2"), 3),
        (configure(cpu_shared_set="4-12,^8,15"), 9),
        (configure(vcpu_pin_set="0-2", cpu_shared_set="0-7", cpu_dedicated_set="8-11"), 3),
        (configure(cpu_shared_set="0-7", cpu_dedicated_set="8-11"), 8),
        (configure(cpu_dedicated_set="8-11"), 0),
    ],
)
def test_cpu_sets_take_precedence_as_in_nova(options: HypervisorConfig, vcpus: int) -> None:
    resources = compute(make_reading(online_cpus=frozenset(range(16))), options)
    assert (resources.vcpus, resources.problems) == (vcpus, ())


@pytest.mark.parametrize("option", ["vcpu_pin_set", "cpu_shared_set", "cpu_dedicated_set"])
def test_a_cpu_that_is_not_online_is_an_error_with_option_set_and_online_cpus(option: str) -> None:
    resources = compute(
        make_reading(online_cpus=frozenset({0, 1, 2, 3, 6})), configure(**{option: "2-5,^4,9"})
    )
    assert resources.vcpus is None
    assert resources.problems == (
        Problem(
            severity=Severity.ERROR,
            reason="cpu_set",
            subject=option,
            message=f"{option} '2-5,^4,9' names CPUs that are not online: 5,9 (online: 0-3,6)",
        ),
    )


def test_an_offline_dedicated_cpu_is_an_error_beside_a_good_shared_set() -> None:
    options = configure(cpu_shared_set="0-1", cpu_dedicated_set="2-3")
    resources = compute(make_reading(online_cpus=frozenset({0, 1, 2})), options)
    assert resources.vcpus is None
    assert [problem.subject for problem in resources.problems] == ["cpu_dedicated_set"]


def test_two_cpu_sets_with_offline_cpus_are_two_errors() -> None:
    options = configure(cpu_shared_set="1", cpu_dedicated_set="2")
    resources = compute(make_reading(online_cpus=frozenset({0})), options)
    assert [problem.subject for problem in resources.problems] == ["cpu_shared_set", "cpu_dedicated_set"]


def test_a_shared_set_that_the_pin_set_overrides_may_name_offline_cpus() -> None:
    options = configure(vcpu_pin_set="0", cpu_shared_set="7")
    resources = compute(make_reading(online_cpus=frozenset({0})), options)
    assert (resources.vcpus, resources.problems) == (1, ())


def test_a_cpu_set_is_believed_where_libvirt_cannot_tell_which_cpus_are_online() -> None:
    resources = compute(make_reading(online_cpus=None), configure(vcpu_pin_set="0-3"))
    assert (resources.vcpus, resources.problems) == (4, ())


def test_where_libvirt_has_no_node_info_there_are_no_cpus() -> None:
    assert compute(make_reading(node=None)).vcpus == 0


def test_a_cpu_set_counts_even_where_libvirt_has_no_node_info() -> None:
    reading = make_reading(node=None, online_cpus=frozenset(range(8)))
    assert compute(reading, configure(cpu_shared_set="0-3")).vcpus == 4


# vCPUs in use


@pytest.mark.parametrize("state", [state for state in DomainState if state is not DomainState.SHUTOFF])
def test_an_active_guests_vcpus_are_in_use_whatever_its_state(state: DomainState) -> None:
    reading = make_reading(guests=[make_guest(vcpus=3)], domains=(make_domain(state=state),))
    assert compute(reading).vcpus_used == 3


def test_a_shut_off_guest_uses_no_vcpu() -> None:
    reading = make_reading(guests=[make_guest(vcpus=3)], domains=(make_domain(state=DomainState.SHUTOFF),))
    assert compute(reading).vcpus_used == 0


def test_a_crashed_guest_that_is_kept_for_a_dump_is_not_active_and_uses_no_vcpu() -> None:
    reading = make_reading(guests=[make_guest()], domains=(make_domain(state=DomainState.CRASHED, id=-1),))
    assert compute(reading).vcpus_used == 0


def test_an_active_guest_whose_xml_cannot_be_read_counts_one_vcpu() -> None:
    assert compute(hide_xml(make_reading(domains=(make_domain(1),)), 1)).vcpus_used == 1


def test_an_active_guest_that_vanished_while_it_was_read_counts_one_vcpu() -> None:
    assert compute(make_reading(domains=(make_domain(),))).vcpus_used == 1


@given(st.lists(st.tuples(st.integers(1, 512), st.booleans(), st.booleans())))
def test_vcpus_in_use_are_the_sum_over_the_active_guests(rows: list[tuple[int, bool, bool]]) -> None:
    guests = [make_guest(n, vcpus=vcpus) for n, (vcpus, _, is_read) in enumerate(rows) if is_read]
    unread = [n for n, (_, _, is_read) in enumerate(rows) if not is_read]
    domains = tuple(make_domain(n, id=n if is_active else -1) for n, (_, is_active, _) in enumerate(rows))
    expected = sum(vcpus if is_read else 1 for vcpus, is_active, is_read in rows if is_active)
    assert compute(hide_xml(make_reading(guests=guests, domains=domains), *unread)).vcpus_used == expected


# Memory


def test_used_memory_is_rounded_as_nova_rounds_it() -> None:
    """Nova takes whole MiB of available memory (2929) from the total; the remainder counts as used."""
    memory = node_memory(total_kib=16 * MIB, available_kib=3_000_001)
    resources = compute_memory(16 * KIB, memory)
    assert (resources.memory_mb, resources.memory_mb_used) == (16384, 16384 - 2929)


def test_available_memory_is_free_and_buffers_and_cached() -> None:
    memory = NodeMemory(total_kib=1000 * KIB, free_kib=100 * KIB, buffers_kib=20 * KIB, cached_kib=3 * KIB)
    resources = compute_memory(1000, memory)
    assert resources.memory_mb_used == 1000 - 123
    assert resources.memory_available_bytes == 123 * MIB


def test_totals_that_differ_by_less_than_a_mebibyte_are_one_total() -> None:
    """getInfo rounds the very number down that the statistics tell in KiB."""
    memory = node_memory(total_kib=1000 * KIB + 1023, available_kib=500 * KIB + 1)
    resources = compute_memory(1000, memory)
    assert resources.memory_mb_used == 500
    assert resources.memory_size_bytes == (1000 * KIB + 1023) * KIB
    assert resources.memory_available_bytes == (500 * KIB + 1) * KIB


def test_memory_plugged_in_outside_any_numa_cell_does_not_make_used_memory_negative() -> None:
    """getInfo knows 4 GiB of 8, of which 6 are available: Nova would say -2 GiB."""
    memory = node_memory(total_kib=8 * MIB, available_kib=6 * MIB)
    resources = compute_memory(4 * KIB, memory)
    assert (resources.memory_mb, resources.memory_mb_used) == (4096, 2048)
    assert resources.memory_size_bytes == 4 * GIB
    assert resources.memory_available_bytes == 2 * GIB


def test_statistics_of_a_smaller_total_than_getinfos_are_used_by_themselves() -> None:
    memory = node_memory(total_kib=6 * MIB, available_kib=1 * MIB)
    resources = compute_memory(8 * KIB, memory)
    assert resources.memory_mb_used == 5 * KIB
    assert resources.memory_available_bytes == 3 * GIB


def test_more_used_than_getinfo_knows_of_leaves_nothing_available() -> None:
    memory = node_memory(total_kib=8 * MIB, available_kib=1 * MIB)
    resources = compute_memory(4 * KIB, memory)
    assert resources.memory_mb_used == 7 * KIB
    assert resources.memory_available_bytes == 0


@pytest.mark.parametrize("total_kib", [4 * MIB, 5 * MIB])
def test_more_available_than_there_is_leaves_nothing_used(total_kib: int) -> None:
    resources = compute_memory(4 * KIB, node_memory(total_kib=total_kib, available_kib=6 * MIB))
    assert resources.memory_mb_used == 0


def test_without_statistics_the_active_guests_memory_is_used() -> None:
    """Whole MiB of the sum, as in Nova, not the sum of whole MiB: 1.5 + 1.5 + 0.75 MiB are 3."""
    sizes_kib = (1536, 1536, 768, 4096)
    guests = [make_guest(n, memory_kib=kib) for n, kib in enumerate(sizes_kib, start=1)]
    states = (DomainState.RUNNING, DomainState.PAUSED, DomainState.RUNNING, DomainState.SHUTOFF)
    domains = tuple(make_domain(n, state) for n, state in enumerate(states, start=1))
    resources = compute_memory(100, None, guests=guests, domains=domains)
    assert resources.memory_mb_used == 3
    assert resources.memory_size_bytes == 100 * MIB
    assert resources.memory_available_bytes == 100 * MIB - 3840 * KIB


def test_of_memory_in_files_there_is_what_the_option_says_and_guests_use_it() -> None:
    """Whatever memory the node has, and whatever is free of it (`Host.get_memory_mb_used`)."""
    guests = [make_guest(n, memory_kib=1536) for n in (1, 2, 3)]
    states = (DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF)
    domains = tuple(make_domain(n, state) for n, state in enumerate(states, start=1))
    resources = compute(
        make_reading(guests=guests, domains=domains), replace(WITHOUT_CPU_SETS, file_backed_memory=2**20)
    )
    assert (resources.memory_mb, resources.memory_mb_used) == (2**20, 3)
    assert resources.memory_size_bytes == 2**20 * MIB
    assert resources.memory_available_bytes == (2**20 - 3) * MIB
    (inventory,) = [each for each in resources.inventories if each.resource_class is ResourceClass.MEMORY_MB]
    assert inventory.total == 2**20


def test_memory_in_files_is_known_without_node_info_and_its_use_is_not_without_guests() -> None:
    reading = replace(make_reading(node=None), domains=None)
    resources = compute(reading, replace(WITHOUT_CPU_SETS, file_backed_memory=1024))
    assert (resources.memory_mb, resources.memory_mb_used) == (1024, None)


def test_without_statistics_a_guest_that_cannot_be_read_adds_no_memory() -> None:
    resources = compute_memory(100, None, domains=(make_domain(1), make_domain(2)))
    assert resources.memory_mb_used == 0


def test_without_node_info_memory_is_not_told() -> None:
    resources = compute(make_reading(node=None))
    assert resources.memory_mb is None
    assert resources.memory_mb_used is None
    assert resources.memory_size_bytes is None
    assert resources.memory_available_bytes is None


kibs = st.integers(min_value=0, max_value=2**50)


@given(node_mib=st.integers(0, 2**40), free=kibs, buffers=kibs, cached=kibs, total=kibs)
def test_memory_is_never_negative_and_its_bytes_make_up_its_mebibytes(
    node_mib: int, free: int, buffers: int, cached: int, total: int
) -> None:
    memory = NodeMemory(total_kib=total, free_kib=free, buffers_kib=buffers, cached_kib=cached)
    resources = compute_memory(node_mib, memory)
    assert resources.memory_mb_used is not None
    assert resources.memory_size_bytes is not None
    assert resources.memory_available_bytes is not None
    assert resources.memory_mb_used >= 0
    assert resources.memory_available_bytes >= 0
    assert resources.memory_size_bytes // MIB == resources.memory_mb == node_mib


@given(total_kib=st.integers(0, 2**40), available=st.floats(0, 1))
def test_with_one_total_used_memory_is_novas_difference(total_kib: int, available: float) -> None:
    available_kib = int(total_kib * available)
    memory = node_memory(total_kib=total_kib, available_kib=available_kib)
    used = compute_memory(total_kib // KIB, memory).memory_mb_used
    assert used == total_kib // KIB - available_kib // KIB


# Storage


@pytest.mark.parametrize(("size", "gib"), [(0, 0), (GIB - 1, 0), (GIB, 1), (2 * GIB - 1, 1), (2 * GIB, 2)])
def test_storage_is_told_in_whole_gib_rounded_down(size: int, gib: int) -> None:
    resources = compute(make_reading(storage=make_storage(size_bytes=size, used_bytes=0)))
    assert (resources.local_gb, resources.local_gb_used) == (gib, 0)
    resources = compute(make_reading(storage=make_storage(size_bytes=10 * GIB, used_bytes=size)))
    assert (resources.local_gb, resources.local_gb_used) == (10, gib)


def test_the_exact_bytes_of_storage_are_kept() -> None:
    storage = make_storage(size_bytes=3, used_bytes=2, free_bytes=1)
    assert compute(make_reading(storage=storage)).storage == storage


@pytest.mark.parametrize(
    ("free", "growth", "gib"),
    [
        (10 * GIB, 0, 10),
        (10 * GIB + GIB // 2, 0, 10),
        (10 * GIB, 10 * GIB, 0),
        (10 * GIB, 10 * GIB + 1, -1),
        (10 * GIB, 10 * GIB + GIB // 2, -1),
        (10 * GIB, 11 * GIB, -1),
        (10 * GIB, 11 * GIB + 1, -2),
        (10 * GIB, 9 * GIB + 1, 0),
    ],
)
def test_disk_available_least_is_rounded_down_below_zero_too(free: int, growth: int, gib: int) -> None:
    size = ImageSize(virtual_bytes=growth, allocated_bytes=0)
    reading = make_reading(
        guests=[make_guest(disks=(QCOW2,))], sizes=[[size]], storage=make_storage(free_bytes=free)
    )
    assert compute(reading).disk_available_least == gib


def test_what_is_kept_for_root_is_not_available() -> None:
    """100 GiB, 50 used, and 45 that a user may write."""
    assert compute(make_reading()).disk_available_least == 45


def test_without_storage_no_number_of_it_is_told_but_the_over_commit_is() -> None:
    size = ImageSize(virtual_bytes=5 * GIB, allocated_bytes=GIB)
    resources = compute(make_reading(guests=[make_guest(disks=(QCOW2,))], sizes=[[size]], storage=None))
    assert resources.storage is None
    assert resources.local_gb is None
    assert resources.local_gb_used is None
    assert resources.disk_available_least is None
    assert resources.storage_overcommitted_bytes == 4 * GIB


# Over-commit


def test_a_qcow2_image_commits_what_it_may_still_grow() -> None:
    assert overcommit((10 * GIB, 3 * GIB + 512)) == 7 * GIB - 512


def test_a_qcow2_image_larger_than_its_disk_gives_nothing_back() -> None:
    """Each image is clamped by itself: the second's metadata do not make room for the first."""
    assert overcommit((10 * GIB, 0), (GIB, GIB + 512)) == 10 * GIB


def test_a_sparse_raw_image_commits_its_holes() -> None:
    assert overcommit((10 * GIB, 3 * GIB), driver_format="raw") == 7 * GIB


def test_a_full_raw_image_commits_nothing() -> None:
    assert overcommit((10 * GIB, 10 * GIB), driver_format="raw") == 0


def test_a_raw_image_with_more_space_than_size_takes_no_growth_from_others() -> None:
    assert overcommit((GIB, GIB + 4096), (GIB, GIB - 8192), driver_format="raw") == 8192


def test_an_image_whose_format_the_xml_does_not_name_is_raw() -> None:
    guest = make_guest(disks=(make_disk(driver_format=None),))
    size = ImageSize(virtual_bytes=4097, allocated_bytes=4096)
    assert compute(make_reading(guests=[guest], sizes=[[size]])).storage_overcommitted_bytes == 1


def test_shut_off_guests_images_count_like_others() -> None:
    size = ImageSize(virtual_bytes=2 * GIB, allocated_bytes=0)
    guests = [make_guest(n, disks=(QCOW2,)) for n in (1, 2)]
    domains = (make_domain(1), make_domain(2, DomainState.SHUTOFF))
    reading = make_reading(guests=guests, sizes=[[size], [size]], domains=domains)
    assert compute(reading).storage_overcommitted_bytes == 4 * GIB


def test_only_image_files_that_are_no_cinder_volumes_are_asked_for_a_size() -> None:
    disks = (
        make_disk(target="vda"),
        make_disk(target="vdb", source_type="block", path="/dev/vg/lv"),
        make_disk(target="vdc", source_type="network", path=None),
        make_disk(target="vdd", source_type="volume", path=None),
        make_disk(target="vde", serial="fa37e7c0"),
        make_disk(target="hda", path=None),
        make_disk(target="hdb", path="/images/disk.config", driver_format="raw"),
    )
    guest = make_guest(disks=disks, has_nova_metadata=True)
    sizes = [
        ImageSize(virtual_bytes=10 * GIB, allocated_bytes=GIB),
        ImageSize(virtual_bytes=MIB, allocated_bytes=0),
    ]
    resources = compute(make_reading(guests=[guest], sizes=[sizes]))
    assert resources.storage_overcommitted_bytes == 9 * GIB + MIB
    assert resources.unsized_disks == 0


def compute_two_guests(first: Sequence[ImageSize | UnsizedImage]) -> Resources:
    """Return the resources of a host with a guest of such images, and one that may grow by 1 GiB."""
    guests = [make_guest(1, disks=(QCOW2,) * len(first)), make_guest(2, disks=(RAW,))]
    second = [ImageSize(virtual_bytes=GIB, allocated_bytes=0)]
    return compute(make_reading(guests=guests, sizes=[first, second]))


def test_a_guest_of_which_one_image_is_gone_commits_nothing_and_is_one_problem() -> None:
    resources = compute_two_guests([ImageSize(virtual_bytes=8 * GIB, allocated_bytes=0), GONE])
    assert resources.storage_overcommitted_bytes == GIB
    assert resources.unsized_disks == 1
    assert resources.problems == (
        Problem(
            severity=Severity.NOTE,
            reason="image",
            subject="guest1",
            message="domain guest1: left out of the over-commit: /images/disk: No such file or directory",
        ),
    )


def test_a_guest_of_which_two_images_are_gone_is_one_problem_and_two_unsized_disks() -> None:
    resources = compute_two_guests([GONE, UnsizedImage("/images/other: not a regular file")])
    assert resources.unsized_disks == 2
    (problem,) = resources.problems
    assert problem.message == (
        "domain guest1: left out of the over-commit:"
        " /images/disk: No such file or directory; /images/other: not a regular file"
    )


def test_a_guest_whose_image_libvirt_is_yet_to_size_commits_nothing_and_is_no_problem() -> None:
    resources = compute_two_guests([UnsizedImage(None), ImageSize(virtual_bytes=GIB, allocated_bytes=0)])
    assert resources.storage_overcommitted_bytes == GIB
    assert resources.unsized_disks == 1
    assert resources.problems == ()


def test_two_guests_with_lost_images_are_two_problems() -> None:
    guests = [make_guest(n, disks=(QCOW2,)) for n in (1, 2)]
    resources = compute(make_reading(guests=guests, sizes=[[GONE], [GONE]]))
    assert resources.unsized_disks == 2
    assert [problem.subject for problem in resources.problems] == ["guest1", "guest2"]


def test_a_guest_whose_xml_cannot_be_read_commits_nothing() -> None:
    resources = compute(hide_xml(make_reading(domains=(make_domain(1),)), 1))
    assert (resources.storage_overcommitted_bytes, resources.unsized_disks) == (0, 0)


image_sizes = st.builds(ImageSize, virtual_bytes=st.integers(0, 2**63), allocated_bytes=st.integers(0, 2**63))


@given(st.lists(st.lists(image_sizes | st.just(GONE), max_size=3), max_size=4))
def test_the_over_commit_of_qcow2_images_is_never_negative(
    sizes: list[list[ImageSize | UnsizedImage]],
) -> None:
    guests = [make_guest(n, disks=(QCOW2,) * len(images)) for n, images in enumerate(sizes)]
    resources = compute(make_reading(guests=guests, sizes=sizes))
    assert resources.storage_overcommitted_bytes >= 0
    assert len(resources.problems) == sum(GONE in images for images in sizes)


# Domains, and what is passed on


def test_domains_are_counted_by_state_and_every_state_is_there() -> None:
    states = (DomainState.RUNNING, DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF)
    reading = make_reading(domains=tuple(make_domain(n, state) for n, state in enumerate(states, start=1)))
    assert dict(compute(reading).domains_by_state) == {
        DomainState.NOSTATE: 0,
        DomainState.RUNNING: 2,
        DomainState.BLOCKED: 0,
        DomainState.PAUSED: 1,
        DomainState.SHUTDOWN: 0,
        DomainState.SHUTOFF: 1,
        DomainState.CRASHED: 0,
        DomainState.PMSUSPENDED: 0,
    }


def test_running_vms_are_the_active_domains_paused_ones_too() -> None:
    states = (DomainState.RUNNING, DomainState.PAUSED, DomainState.PMSUSPENDED, DomainState.SHUTOFF)
    reading = make_reading(domains=tuple(make_domain(n, state) for n, state in enumerate(states, start=1)))
    assert compute(reading).running_vms == 3


def test_a_domain_with_id_0_is_active() -> None:
    """Xen's Domain-0 has it; Nova counts it, too."""
    assert compute(make_reading(domains=(make_domain(id=0),))).running_vms == 1


def test_what_a_hypervisor_is_comes_out_of_its_identity_and_capabilities() -> None:
    identity, capabilities = make_identity(), make_capabilities()
    resources = compute(make_reading(identity=identity, capabilities=capabilities))
    assert resources.hypervisor_hostname == identity.hostname
    assert resources.hypervisor_type == identity.hypervisor_type
    assert resources.hypervisor_version == identity.hypervisor_version
    assert resources.libvirt_version == identity.libvirt_version
    assert resources.host_ip == identity.host_ip
    assert resources.uuid == capabilities.uuid
    assert resources.cpu_info == capabilities.cpu_info


def test_a_host_without_cells_has_no_numa_topology() -> None:
    assert compute(make_reading(capabilities=make_capabilities(cells=()))).numa_topology is None


def test_a_guest_that_cannot_be_read_hides_none_that_is_listed_after_it() -> None:
    reading = hide_xml(make_reading(guests=[make_guest(1), make_guest(2, maximum_vcpus=7)]), 1)
    claimed = {each.resource_class: each.claimed for each in compute(reading).inventories}
    assert claimed[ResourceClass.VCPU] == 7


def test_all_online_cpus_may_be_dedicated() -> None:
    options = configure(cpu_dedicated_set="0-3")
    resources = compute(make_reading(online_cpus=frozenset(range(4))), options)
    assert [each.total for each in resources.inventories if each.resource_class is ResourceClass.PCPU] == [4]
    assert resources.problems == ()


def test_devices_are_told_as_they_were_read() -> None:
    device, mdev_type = make_pci_device(), MdevType(name="nvidia-35", available_instances=3)
    devices = NodeDevices(pci_devices=(device,), mdev_types=(mdev_type,))
    resources = compute(make_reading(node_devices=devices))
    assert resources.pci_passthrough_devices == (device,)
    assert resources.mdev_types == (mdev_type,)


def test_broken_metadata_of_a_guest_are_a_problem_of_its_host() -> None:
    guest = make_guest(metadata_error="no flavor", has_nova_metadata=True)
    (problem,) = compute(make_reading(guests=[guest])).problems
    assert (problem.severity, problem.reason, problem.subject) == (Severity.ERROR, "metadata", guest.name)


def test_problems_of_the_reading_are_passed_on_first() -> None:
    problem = Problem(severity=Severity.NOTE, reason="unsupported", subject="virNodeGetInfo", message="x")
    guest = make_guest(disks=(QCOW2,))
    reading = make_reading(guests=[guest], sizes=[[GONE]], problems=(problem,), online_cpus=frozenset({0}))
    problems = compute(reading, configure(vcpu_pin_set="1")).problems
    assert problems[0] is problem
    assert [each.reason for each in problems] == ["unsupported", "cpu_set", "image"]


def test_a_hypervisor_that_tells_neither_node_nor_storage_lacks_four_fields() -> None:
    resources = compute(make_reading(node=None, storage=None))
    assert verify_resources(resources) == ("memory_mb", "local_gb", "memory_mb_used", "local_gb_used")


WITHOUT_GUESTS = (
    "vcpus_used",
    "disk_available_least",
    "storage_overcommitted_bytes",
    "unsized_disks",
    "domains_by_state",
    "running_vms",
    "domains_age_seconds",
    "unread_guests",
    "outdated_guests",
    "domains",
)


def test_without_a_list_of_domains_what_depends_on_guests_is_not_known_and_all_else_is() -> None:
    """Shows that nobody takes a hypervisor for empty of which nobody knows the guests."""
    options = configure(
        flavors=(Flavor(name="m1", vcpus=1, memory_mb=1, disk_gb=0),), cpu_dedicated_set="2-3"
    )
    free = {0: FreeNumaMemory(free_bytes=5, free_pages={})}
    known = compute(make_reading(free_numa_memory=free), options)
    unknown = compute(replace(make_reading(free_numa_memory=free), domains=None), options)
    expected = dict.fromkeys(WITHOUT_GUESTS)
    assert {name: getattr(unknown, name) for name in WITHOUT_GUESTS} == expected
    assert known.numa_topology is not None
    assert unknown == replace(
        known,
        **expected,
        numa_topology=tuple(replace(cell, pinned_cpus=None) for cell in known.numa_topology),
        inventories=tuple(replace(each, claimed=None) for each in known.inventories),
        flavor_slots=(),
    )
    assert known.flavor_slots != ()
    assert verify_resources(unknown) == ("vcpus_used",)


def test_a_driver_without_memory_statistics_tells_no_use_of_memory_without_its_guests() -> None:
    """Shows it for libvirt drivers whose guests' memory stands in for what is used."""
    resources = compute(replace(make_reading(node_memory=None), domains=None))
    assert (resources.memory_mb, resources.memory_size_bytes) == (16 * KIB, 16 * GIB)
    assert (resources.memory_mb_used, resources.memory_available_bytes) == (None, None)


def test_without_capabilities_what_they_tell_is_not_known() -> None:
    resources = compute(make_reading(capabilities=None))
    unknown = (resources.cpu_info, resources.numa_topology, resources.uuid)
    assert unknown == (None, None, None)
    assert resources.vcpus == 8
    assert verify_resources(resources) == ("cpu_info",)

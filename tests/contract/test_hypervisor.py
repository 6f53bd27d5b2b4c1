"""What a scrape says of a hypervisor, of whatever kind it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
import pytest

from tests.contract.worlds import World
from tests.support.exporter_process import Scrape
from tests.support.guests import GIB
from tests.support.waiting import wait_until

STATES = {"nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"}


@pytest.fixture(scope="module")
def scrape(world: World) -> Scrape:
    """One scrape, for all who only look."""
    return world.scrape()


def count_domains(scrape: Scrape) -> dict[str, float]:
    """Return the states in which there are domains, with how many."""
    return {labels["state"]: count for labels, count in scrape.series("hypervisor_domains") if count}


def count_errors(scrape: Scrape) -> dict[str, float]:
    return {labels["reason"]: count for labels, count in scrape.series("hypervisor_refresh_errors_total")}


def test_it_is_up_and_nothing_goes_wrong(world: World, scrape: Scrape) -> None:
    """Before its pool was there, something did: errors that no scrape adds to are over."""
    assert scrape.value("hypervisor_up") == 1
    assert count_errors(scrape)
    assert count_errors(world.scrape()) == count_errors(scrape), scrape.log


@pytest.mark.parametrize(
    "name",
    [
        "hypervisor_vcpus",
        "hypervisor_vcpus_used",
        "hypervisor_memory_mb",
        "hypervisor_memory_mb_used",
        "hypervisor_local_gb",
        "hypervisor_local_gb_used",
        "hypervisor_disk_available_least",
        "hypervisor_running_vms",
    ],
)
def test_each_of_novas_numbers_is_there_once(scrape: Scrape, name: str) -> None:
    """Each with the host name alone, so that they can be joined without any matching."""
    ((labels, value),) = scrape.series(name)
    assert set(labels) == {"hypervisor_hostname"}
    assert value >= 0


def test_everything_of_a_hypervisor_bears_its_one_host_name(scrape: Scrape) -> None:
    named = {
        labels["hypervisor_hostname"]
        for name in scrape.names
        for labels, _ in scrape.series(name)
        if "hypervisor_hostname" in labels
    }
    assert len(named) == 1


def test_it_is_told_what_it_is(world: World, scrape: Scrape) -> None:
    ((labels, value),) = scrape.series("hypervisor_info")
    assert value == 1
    assert labels["hypervisor_type"] == world.hypervisor_type
    assert int(labels["libvirt_version"]) >= 8_000_000
    assert labels["arch"] in ("x86_64", "i686")


def test_domains_are_counted_by_their_state(scrape: Scrape) -> None:
    """Every state has its series, so that none appears out of nowhere when a domain first gets there."""
    assert {labels["state"] for labels, _ in scrape.series("hypervisor_domains")} == STATES
    assert count_domains(scrape) == {"running": 1, "paused": 1, "shutoff": 1}
    assert scrape.value("hypervisor_running_vms") == 2


def test_used_vcpus_are_the_current_ones_of_active_guests(scrape: Scrape) -> None:
    """Two of the running guest's four, and the paused one's three; none of the guest that is off."""
    assert scrape.value("hypervisor_vcpus_used") == 2 + 3


def test_memory_is_exact_in_bytes_and_whole_in_mib(scrape: Scrape) -> None:
    size = scrape.value("hypervisor_memory_size_bytes")
    assert 0 < scrape.value("hypervisor_memory_available_bytes") <= size
    assert scrape.value("hypervisor_memory_mb") == size // 2**20


def test_each_numa_cell_has_its_cpus_memory_and_pages(world: World, scrape: Scrape) -> None:
    """Of no size are more pages free than there are; the test driver of libvirt 11 makes them up."""
    sizes = {labels["cell"]: size for labels, size in scrape.series("hypervisor_numa_cell_memory_size_bytes")}
    assert sizes
    assert {labels["cell"] for labels, _ in scrape.series("hypervisor_numa_cell_cpus")} == sizes.keys()
    for labels, free in scrape.series("hypervisor_numa_cell_memory_free_bytes"):
        assert 0 < free <= sizes[labels["cell"]]
    free_pages = scrape.series("hypervisor_numa_cell_pages_free")
    if world.hypervisor_type != "QEMU":
        assert bool(free_pages) == (libvirt.getVersion() >= 11_000_000)
        return
    assert free_pages
    for labels, free in free_pages:
        assert free <= scrape.value("hypervisor_numa_cell_pages", **labels)


def test_storage_is_that_of_its_path_or_pool(world: World, scrape: Scrape) -> None:
    storage = world.storage()
    assert scrape.value("hypervisor_storage_size_bytes") == storage.size_bytes
    assert scrape.value("hypervisor_storage_used_bytes") == storage.used_bytes
    assert scrape.value("hypervisor_storage_free_bytes") == storage.free_bytes
    assert scrape.value("hypervisor_local_gb") == storage.size_bytes // GIB
    assert scrape.value("hypervisor_local_gb_used") == storage.used_bytes // GIB


def test_images_may_grow_by_what_they_were_not_given_yet(world: World, scrape: Scrape) -> None:
    """Whoever tells the sizes: the exporter's own look at the files, or libvirt."""
    assert scrape.value("hypervisor_unsized_disks") == 0
    assert scrape.value("hypervisor_storage_overcommitted_bytes") == world.overcommitted_bytes
    left = world.storage().free_bytes - world.overcommitted_bytes
    assert scrape.value("hypervisor_disk_available_least") == left // GIB


def test_a_guests_life_shows_in_the_scrapes_that_follow(world: World) -> None:
    before = world.scrape().value("hypervisor_vcpus_used")
    with defined(world, "newcomer", vcpus=2):
        for operation, state, used in (
            ("start", "running", 2),
            ("suspend", "paused", 2),
            ("resume", "running", 2),
            ("destroy", "shutoff", 0),
        ):
            expected = {"running": 1, "paused": 1, "shutoff": 1}
            expected[state] += 1
            world.perform(operation, "newcomer")
            scrape = world.scrape()
            assert count_domains(scrape) == expected, operation
            assert scrape.value("hypervisor_vcpus_used") == before + used, operation
    assert count_domains(world.scrape()) == {"running": 1, "paused": 1, "shutoff": 1}


def test_a_scrape_makes_as_many_calls_with_more_guests(world: World) -> None:
    """Once they are known: a guest's definition is read when it is new."""
    before = warm_calls(world)
    with defined(world, "one more"), defined(world, "and another"):
        assert warm_calls(world) == before


def test_the_numbers_bear_the_time_at_which_they_were_read(world: World) -> None:
    """By the same clock as the test's; time stamps of a scrape that waits for the next one grow."""
    before = time.time()
    stamp = world.scrape().value("hypervisor_snapshot_timestamp_seconds")
    assert before - 1 <= stamp <= time.time() + 1


@contextmanager
def defined(world: World, name: str, **more: int) -> Iterator[None]:
    """Have one more domain for as long as the block lasts."""
    world.define(name, **more)
    try:
        yield
    finally:
        world.perform("undefine", name)


def warm_calls(world: World) -> float:
    """Return how many calls a scrape makes that need not read any guest."""

    def look() -> float | None:
        scrape = world.scrape()
        is_warm = scrape.value("hypervisor_refresh_guests_read") == 0
        return scrape.value("hypervisor_refresh_libvirt_calls") if is_warm else None

    return wait_until(look, "a scrape without a guest to read") or 0

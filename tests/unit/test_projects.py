"""The collector `projects`: who holds what is claimed, by project and by flavor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors import projects
from exporter.config.settings import HypervisorConfig
from exporter.guest_records import ChosenGuests
from exporter.metric import Metric, Sample
from exporter.model import Guest, NovaFlavor, NovaInstance, Snapshot
from exporter.placement.holders import MAX_HOLDERS
from exporter.virt.resources import get_available_resource
from tests.support.records import make_guest, make_reading, make_snapshot


def make_owned(number: int, project: str, *, vcpus: int = 1, name: str = "", flavor: str = "") -> Guest:
    """Return a guest of a project that claims these vCPUs."""
    nova_flavor = NovaFlavor(
        name=flavor, vcpus=vcpus, memory_mb=512, root_gb=1, ephemeral_gb=0, swap_mb=0, resources={}
    )
    return make_guest(
        number,
        maximum_vcpus=vcpus,
        nova_instance=NovaInstance(project_id=project, project_name=name),
        nova_flavor=nova_flavor if flavor else None,
    )


def look_at(guests: Sequence[Guest], *, show_owner_names: bool = True) -> Snapshot:
    chosen = ChosenGuests(guests=(), omitted=0, show_owner_names=show_owner_names)
    reading = make_reading(guests=guests, parts={"chosen guests": chosen})
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    return replace(make_snapshot(), resources=resources)


def collect(snapshot: Snapshot, metric: Metric) -> list[Sample]:
    """Return the samples of one metric."""
    samples = (each for each in projects.COLLECTOR.collect(snapshot) if isinstance(each, Sample))
    return [each for each in samples if each.metric is metric]


def read(snapshot: Snapshot, metric: Metric, label: str, *, resource_class: str = "VCPU") -> dict[str, float]:
    """Return the values of one resource class by this label."""
    return {
        sample.labels[label]: sample.value
        for sample in collect(snapshot, metric)
        if sample.labels.get("resource_class", resource_class) == resource_class
    }


def test_each_project_has_what_its_guests_claim() -> None:
    """A guest without Nova's metadata is nobody's."""
    snapshot = look_at(
        [
            make_owned(1, "shop", vcpus=1),
            make_owned(2, "bank", vcpus=2),
            make_owned(3, "shop", vcpus=4),
            make_owned(4, "", vcpus=8),
        ]
    )
    assert read(snapshot, projects.PROJECT_CLAIMED, "project") == {"shop": 5, "bank": 2, "": 8}


def test_each_flavor_has_what_its_guests_claim() -> None:
    snapshot = look_at(
        [
            make_owned(1, "shop", vcpus=4, flavor="m1.large"),
            make_owned(2, "bank", vcpus=4, flavor="m1.large"),
            make_owned(3, "shop", vcpus=1, flavor="m1.\nsmall"),
            make_owned(4, "shop", vcpus=2),
        ]
    )
    assert read(snapshot, projects.FLAVOR_CLAIMED, "flavor") == {"m1.large": 8, "m1.\ufffdsmall": 1, "": 2}


def test_a_class_of_which_a_project_claims_nothing_is_0() -> None:
    snapshot = look_at([make_owned(1, "shop")])
    assert read(snapshot, projects.PROJECT_CLAIMED, "project", resource_class="DISK_GB") == {"shop": 0}


@pytest.mark.parametrize(("shows", "shown"), [(True, "Shop GmbH"), (False, "")])
def test_the_name_of_a_project_is_in_its_info_unless_it_is_not_to_be_shown(shows: bool, shown: str) -> None:
    """Of a project that was renamed, it is the name that most of its guests have."""
    guests = [
        make_owned(1, "7d1b", name="Shop"),
        make_owned(2, "7d1b", name="Shop GmbH"),
        make_owned(3, "7d1b", name="Shop GmbH"),
        make_owned(4, ""),
    ]
    snapshot = look_at(guests, show_owner_names=shows)
    infos = [each.labels for each in collect(snapshot, projects.PROJECT_INFO)]
    assert infos == [{"hypervisor_hostname": "kvm01.example", "project": "7d1b", "project_name": shown}]


def make_many(count: int) -> Iterable[Guest]:
    """Return guests of so many projects; the first project has two."""
    yield make_owned(1, "p00000")
    for number in range(count):
        yield make_owned(number + 2, f"p{number:05}")


def test_of_too_many_projects_those_with_the_fewest_guests_are_summed_up() -> None:
    """Each of the others has one guest, so their ids decide. A project may be called other."""
    guests = [*make_many(MAX_HOLDERS + 50), make_owned(900, "other"), make_owned(901, "other")]
    found = read(look_at(guests), projects.PROJECT_CLAIMED, "project")
    assert len(found) == MAX_HOLDERS
    assert found["p00000"] == 2
    assert f"p{MAX_HOLDERS - 2:05}" in found
    assert f"p{MAX_HOLDERS - 1:05}" not in found
    assert found["other"] == 2 + 50 + 1
    infos = read(look_at(guests), projects.PROJECT_INFO, "project")
    assert infos.keys() == found.keys() - {"other"}


def test_what_exactly_fits_is_not_summed_up() -> None:
    found = read(look_at([*make_many(MAX_HOLDERS), make_owned(900, "")]), projects.PROJECT_CLAIMED, "project")
    assert len(found) == MAX_HOLDERS + 1
    assert "other" not in found


def test_without_a_list_of_domains_nobody_holds_anything() -> None:
    reading = replace(make_reading(), domains=None)
    resources = get_available_resource(reading, HypervisorConfig(uri="test:///default"))
    assert list(projects.COLLECTOR.collect(replace(make_snapshot(), resources=resources))) == []


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "other"]), st.integers(1, 64)), max_size=8))
def test_projects_and_flavors_add_up_to_what_is_claimed(owners: list[tuple[str, int]]) -> None:
    snapshot = look_at(
        [make_owned(n, owner, vcpus=vcpus, flavor=owner) for n, (owner, vcpus) in enumerate(owners, 1)]
    )
    claimed = [each.claimed for each in snapshot.resources.inventories]
    for metric, label in ((projects.PROJECT_CLAIMED, "project"), (projects.FLAVOR_CLAIMED, "flavor")):
        sums = [
            sum(read(snapshot, metric, label, resource_class=each).values())
            for each in ("VCPU", "MEMORY_MB", "DISK_GB")
        ]
        assert sums == claimed

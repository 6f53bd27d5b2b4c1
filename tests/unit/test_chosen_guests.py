"""Which guests the collector `guests` shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.compute.source import Settings
from exporter.config.settings import GuestsConfig, HypervisorConfig
from exporter.guest_records import ChosenGuests
from exporter.model import DomainState, NovaInstance
from exporter.virt.sources.chosen_guests import GuestChoice
from tests.support.records import make_domain, make_domains_reading, make_guest

SHOP = NovaInstance(instance_name="web", project_id="7d1b", project_name="shop")
BANK = NovaInstance(instance_name="db", project_id="0a6f", project_name="bank")
READING = make_domains_reading(
    [
        make_guest(1, name="instance-1", nova_instance=SHOP),
        make_guest(2, name="instance-2", nova_instance=BANK),
        make_guest(3, name="test"),
    ],
    domains=[
        make_domain(3, name="test"),
        make_domain(2, name="instance-2"),
        make_domain(1, name="instance-1"),
        make_domain(4, DomainState.SHUTOFF, name="spare"),
    ],
)


def make_settings(**options: object) -> Settings:
    config = HypervisorConfig(uri="qemu:///system", guests=GuestsConfig(**options))  # type: ignore[arg-type]
    return Settings(hypervisor=config, resync_interval=60, stale_grace=120)


def choose(choice: GuestChoice) -> tuple[list[str], int]:
    chosen = choice.choose(READING)
    assert isinstance(chosen, ChosenGuests)
    assert choice.get_part() is chosen
    return [each.record.name for each in chosen.guests], chosen.omitted


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["instance-1", "instance-2", "spare", "test"]),
        ({"include": "instance-.*"}, ["instance-1", "instance-2"]),
        ({"include": "instance"}, []),
        ({"include": "web|spare"}, ["instance-1", "spare"]),
        ({"exclude": "db"}, ["instance-1", "spare", "test"]),
        ({"include": "instance-.*", "exclude": ".*2"}, ["instance-1"]),
        ({"project": "7d1b"}, ["instance-1"]),
        ({"project": "shop|bank"}, ["instance-1", "instance-2"]),
        ({"max": 2}, ["instance-1", "instance-2"]),
        ({"max": 3}, ["instance-1", "instance-2", "test"]),
        ({"max": 0}, []),
    ],
)
def test_guests_are_chosen_by_name_and_project_and_those_that_were_started_first(
    options: dict[str, object], names: list[str]
) -> None:
    assert choose(GuestChoice(make_settings(**options))) == (names, 4 - len(names))


def test_other_settings_count_from_the_next_choice_on() -> None:
    choice = GuestChoice(make_settings(include="test"))
    assert choose(choice) == (["test"], 3)
    choice.configure(make_settings(include="spare", series_labels=("uuid",), per_vcpu=True))
    assert choose(choice) == (["spare"], 3)
    chosen = choice.get_part()
    assert chosen is not None
    assert (chosen.series_labels, chosen.per_vcpu) == (("uuid",), True)


def test_a_guest_is_chosen_anew_when_its_xml_or_its_name_changed() -> None:
    choice = GuestChoice(make_settings(exclude="web|renamed"))
    assert "instance-1" not in choose(choice)[0]
    other = replace(READING, guests={**READING.guests, make_guest(1).uuid: make_guest(1)})
    chosen = choice.choose(other)
    assert chosen is not None
    assert "instance-1" in [each.record.name for each in chosen.guests]
    renamed = replace(other, domains=(make_domain(1, name="renamed"),))
    chosen = choice.choose(renamed)
    assert chosen is not None
    assert (chosen.guests, chosen.omitted) == ((), 1)


def test_without_a_list_of_domains_no_choice_is_known() -> None:
    choice = GuestChoice(make_settings())
    choose(choice)
    assert choice.choose(None) is choice.get_part() is None
    assert choice.get_ages() == {}

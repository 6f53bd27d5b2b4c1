"""Chosen guests: which guests of a hypervisor the collector `guests` shows. No call is made for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from exporter.compute.source import Settings, Source
from exporter.config.settings import GuestsConfig
from exporter.guest_records import ChosenGuest, ChosenGuests
from exporter.model import DomainRecord, DomainsReading, Guest, Problem
from exporter.virt.isolated_read import IsolatedRead

NAME = "chosen guests"


class _Choice(NamedTuple):
    """A decision about a guest."""

    guest: ChosenGuest
    is_shown: bool


class GuestChoice(Source):
    """Chooses guests by name and project, and at most so many. Not thread-safe.

    A decision is kept until the guest's XML is read again.
    """

    name = NAME
    needs = frozenset({"guests"})

    def __init__(self, settings: Settings) -> None:
        self._config = GuestsConfig()
        self._patterns = _Patterns(self._config)
        self._choices: dict[str, _Choice] = {}
        self._chosen: ChosenGuests | None = None
        self._isolated = IsolatedRead(self.name)
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Choose by these settings from now on."""
        if settings.hypervisor.guests != self._config:
            self._config = settings.hypervisor.guests
            self._patterns = _Patterns(self._config)
            self._choices = {}

    def get_part(self) -> ChosenGuests | None:
        """Return the last choice; None while the list of domains is not known."""
        return self._chosen

    def get_ages(self) -> Mapping[str, float]:
        """Return that it is new in each refresh; nothing while there is no choice."""
        return {} if self._chosen is None else {self.name: 0.0}

    def get_problems(self) -> Sequence[Problem]:
        """Return why there is no choice although there is a list of domains."""
        return self._isolated.get_problems()

    def choose(self, domains: DomainsReading | None) -> ChosenGuests | None:
        """Choose from the list of domains, and return the choice; None without a list."""
        self._chosen = self._isolated.make(partial(self._choose, domains))
        return self._chosen

    def _choose(self, domains: DomainsReading | None) -> ChosenGuests | None:
        if domains is None:
            return None
        self._choices = {
            record.uuid: self._decide(record, domains.guests.get(record.uuid)) for record in domains.domains
        }
        shown = [choice.guest for choice in self._choices.values() if choice.is_shown]
        if len(shown) > self._config.max:
            shown = _take_first(shown, self._config.max)
        shown.sort(key=lambda each: each.record.name)
        return ChosenGuests(
            guests=tuple(shown),
            omitted=len(domains.domains) - len(shown),
            series_labels=self._config.series_labels,
            per_vcpu=self._config.per_vcpu,
            show_owner_names=self._config.show_owner_names,
        )

    def _decide(self, record: DomainRecord, guest: Guest | None) -> _Choice:
        known = self._choices.get(record.uuid)
        if known is None or known.guest.guest is not guest or known.guest.record.name != record.name:
            chosen = ChosenGuest(record=record, guest=guest)
            return _Choice(chosen, self._patterns.choose(record.name, guest))
        if known.guest.record == record:
            return known
        return _Choice(replace(known.guest, record=record), known.is_shown)


class _Patterns:
    """The patterns of the configuration. A guest whose XML is not known has no project."""

    def __init__(self, config: GuestsConfig) -> None:
        self._include, self._exclude, self._project = (
            None if pattern is None else re.compile(pattern)
            for pattern in (config.include, config.exclude, config.project)
        )

    def choose(self, name: str, guest: Guest | None) -> bool:
        """Whether a guest is shown, unless there are too many."""
        instance = None if guest is None else guest.nova_instance
        names = (name, instance.instance_name if instance else "")
        projects = (instance.project_id, instance.project_name) if instance else ()
        if self._exclude is not None and _matches(self._exclude, names):
            return False
        if self._include is not None and not _matches(self._include, names):
            return False
        return self._project is None or _matches(self._project, projects)


def _matches(pattern: re.Pattern[str], texts: Iterable[str]) -> bool:
    return any(pattern.fullmatch(text) for text in texts if text)


def _take_first(guests: Iterable[ChosenGuest], maximum: int) -> list[ChosenGuest]:
    """Return the guests that were started first; those that do not run come last, by name."""
    return sorted(guests, key=lambda each: (not each.record.is_active, each.record.id, each.record.name))[
        :maximum
    ]

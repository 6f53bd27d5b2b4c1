"""Tables that map what is known of guests to the metrics of another exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from exporter.collectors.libvirt_names.domains import Domain, DomainDisk, DomainInterface, DomainVcpu
from exporter.label import make_label_value
from exporter.metric import LabelSet, Metric, Series

_MAX_LENGTH = 1024  # of a label's value: paths are long

Kind = Literal["gauge", "counter", "info"]


class _Row(Protocol):
    """What a table has a series of."""

    @property
    def domain(self) -> Domain:
        """Whose it is."""

    @property
    def key(self) -> object:
        """Which of the guest's rows it is."""


Row = TypeVar("Row", bound=_Row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column(Generic[Row]):
    """One metric of the other exporter.

    :param same_as: this exporter's metric with the same meaning, or the libvirt API
    :param value: returns a row's value in base units; None if it is not known
    """

    name: str
    type: Kind
    same_as: str
    value: Callable[[Row], float | None]


def gauge(name: str, same_as: str, value: Callable[[Row], float | None]) -> Column[Row]:
    """Return a gauge."""
    return Column(name=name, type="gauge", same_as=same_as, value=value)


def counter(name: str, same_as: str, value: Callable[[Row], float | None]) -> Column[Row]:
    """Return a counter."""
    return Column(name=name, type="counter", same_as=same_as, value=value)


def info(name: str, same_as: str) -> Column[Row]:
    """Return an info metric, which is always 1. Its name may end in anything."""
    kind: Kind = "info" if name.endswith("_info") else "gauge"
    return Column(name=name, type=kind, same_as=same_as, value=lambda _: 1)


class Table(Generic[Row]):
    """Metrics that have one series for each row, all with the same labels.

    :param list_rows: makes the rows out of the guests that are shown
    :param labels: the labels of all columns, in the other exporter's order
    """

    def __init__(
        self,
        list_rows: Callable[[Sequence[Domain]], Iterable[Row]],
        labels: Mapping[str, Callable[[Row], str]],
        *columns: Column[Row],
    ) -> None:
        self._list_rows = list_rows
        self._labels = tuple(labels.items())
        self._columns = tuple((make_metric(column, labels), column.value) for column in columns)
        self.metrics = tuple(metric for metric, _ in self._columns)

    def collect(self, domains: Sequence[Domain], more: tuple[tuple[str, str], ...]) -> Iterator[Series]:
        """Yield the series of these guests.

        :param more: labels that all series have beside their own
        """
        rows = [(self._get_labels(row, more), row) for row in self._list_rows(domains)]
        for metric, get_value in self._columns:
            yield from metric.series((labels, get_value(row)) for labels, row in rows)

    def _get_labels(self, row: Row, more: tuple[tuple[str, str], ...]) -> LabelSet:
        """Return a row's labels: the same object in each scrape, so that they are rendered once."""
        domain = row.domain
        kept = domain.chosen.kept
        # `kept` is the same as long as the guest's XML is. This is what else the labels depend on.
        key = (self, row.key, more, domain.state, domain.show_owner_names, domain.series_labels)
        labels: LabelSet | None = kept.get(key)
        if labels is None:
            own = [(name, make_label_value(get(row), length=_MAX_LENGTH)) for name, get in self._labels]
            labels = kept[key] = LabelSet({**domain.more_labels, **dict(own), **dict(more)}.items())
        return labels


AnyTable = Table[Domain] | Table[DomainDisk] | Table[DomainInterface] | Table[DomainVcpu]


def make_metric(column: Column[Row], labels: Iterable[str]) -> Metric:
    """Return the declaration of a column."""
    return Metric(
        name=column.name,
        help=f"The same as {column.same_as}.",
        type=column.type,
        labels=tuple(labels),
        source=column.same_as,
        more_labels=True,
        is_foreign=True,
    )

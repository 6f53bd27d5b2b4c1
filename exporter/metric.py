"""Declarations: the name, meaning and labels of each metric family, and what a collector is.

`/metrics`, docs/metrics.md and the tests all use these declarations. A wrong name fails at import. A wrong
label fails in the collector that makes the sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

from exporter.deprecation import Deprecation
from exporter.model import HostView, Snapshot

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BASE_UNITS = {"_seconds": "seconds", "_bytes": "bytes"}
_ENDINGS = {"counter": "_total", "info": "_info"}  # of samples, by the type of their family


class Sample(NamedTuple):
    """One value of one metric family."""

    metric: Metric
    labels: Mapping[str, str]
    value: float


class LabelSet(dict[str, str]):
    """Labels that many samples have, in this scrape and the next ones.

    :ivar names: of the labels
    :ivar text: how they are exposed; None until they were the first time (exporter.web.exposition)
    """

    __slots__ = ("names", "text")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self.names = frozenset(self)
        self.text: str | None = None


class Series(NamedTuple):
    """Many values of one metric family, each with labels that are kept: quicker than as many samples."""

    metric: Metric
    rows: Sequence[tuple[LabelSet, float]]


class HistogramSample(NamedTuple):
    """One histogram of a metric family.

    :ivar buckets: their upper limits, without the infinite one
    :ivar counts: how many observations are in each bucket, but not in the one before; as the last number, how
        many are above all limits
    """

    metric: Metric
    labels: Mapping[str, str]
    buckets: Sequence[float]
    counts: Sequence[int]
    total: float

    def list_lines(self) -> list[Line]:
        """Return its lines: a bucket's value counts all that are at most its limit."""
        name = self.metric.name
        limits = (*map(repr, self.buckets), "+Inf")
        lines: list[Line] = [
            (f"{name}_bucket", {**self.labels, "le": limit}, float(count))
            for limit, count in zip(limits, accumulate(self.counts), strict=True)
        ]
        return [
            *lines,
            (f"{name}_count", self.labels, float(sum(self.counts))),
            (f"{name}_sum", self.labels, self.total),
        ]


AnySample = Sample | Series | HistogramSample

Line = tuple[str, Mapping[str, str], float]  # the name of a sample, its labels and value


@dataclass(kw_only=True, slots=True)
class Family:
    """All samples of one metric family in a scrape.

    :ivar name: without the ending `_total` or `_info` of its samples
    :ivar unit: the base unit at the end of the name, or empty
    :ivar rows: more samples, with labels that are kept (`Series`); all have the name `row_name`
    """

    name: str
    documentation: str
    type: str
    unit: str = ""
    samples: list[Line] = field(default_factory=list)
    row_name: str = ""
    rows: list[tuple[LabelSet, float]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric family.

    :param name: the exposed name: a counter's ends with `_total`, an info's with `_info`
    :param more_labels: whether labels from the configuration may follow the declared ones
    :param unit: of its values; derived from the name's end (`_seconds`, `_bytes`)
    :param deprecated: since when, and what takes its place
    :param source: the libvirt API or Nova function that it comes from, or "this exporter"; never a module
    :param is_foreign: whether another exporter chose its name: a gauge may then end in `_total`
    """

    name: str
    help: str
    type: Literal["gauge", "counter", "histogram", "info"] = "gauge"
    labels: tuple[str, ...]
    source: str
    unit: str = ""
    more_labels: bool = False
    deprecated: Deprecation | None = None
    is_foreign: bool = False
    _declared: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    _stem: str = field(init=False, repr=False, compare=False, default="")
    _stem_unit: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        stem = self.name.removesuffix(_ENDINGS.get(self.type, ""))
        object.__setattr__(self, "_stem", stem)
        object.__setattr__(self, "_stem_unit", _find_unit(stem))
        object.__setattr__(self, "_declared", frozenset(self.labels))
        for name in (self.name, *self.labels):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a metric or label")
        is_gauge_of_another = self.is_foreign and self.type == "gauge"
        if self.name.endswith("_total") != (self.type == "counter") and not is_gauge_of_another:
            raise ValueError(f"{self.name}: counters, and only they, end in _total")
        if self.name.endswith("_info") != (self.type == "info"):
            raise ValueError(f"{self.name}: infos, and only they, end in _info")
        if not self.unit:
            object.__setattr__(self, "unit", _find_unit(self.name))

    @property
    def documentation(self) -> str:
        """The help, as it is exposed and documented: a deprecation comes first."""
        return self.help if self.deprecated is None else f"{self.deprecated}. {self.help}"

    def make_family(self) -> Family:
        """Return a family of this metric, without samples yet."""
        return Family(
            name=self._stem,
            documentation=self.documentation,
            type=self.type,
            unit=self._stem_unit,
            row_name=self.name,
        )

    def samples(self, value: float | None, **labels: str) -> tuple[Sample, ...]:
        """Return one sample with the declared labels, or none for a value that is not known.

        :raises ValueError: if a label is missing or was not declared
        :raises OverflowError: if the value is too large for a sample
        """
        declared = self._declared
        if labels.keys() != declared and not (self.more_labels and labels.keys() > declared):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(labels)}")
        return () if value is None else (Sample(self, labels, float(value)),)

    def histogram(
        self, buckets: Sequence[float], counts: Sequence[int], total: float, **labels: str
    ) -> HistogramSample:
        """Return a histogram; see `HistogramSample`.

        :raises ValueError: if a label is missing or was not declared
        """
        if labels.keys() != self._declared:
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(labels)}")
        return HistogramSample(self, labels, buckets, counts, total)

    def series(self, rows: Iterable[tuple[LabelSet, float | None]]) -> tuple[Series, ...]:
        """Return these values as one series, without those that are not known; none if no value is.

        :param rows: the labels and value of each; the labels are kept for the next scrape
        :raises ValueError: if a label is missing or was not declared
        """
        known = [(labels, value) for labels, value in rows if value is not None]
        declared = self._declared
        for names in {labels.names for labels, _ in known}:
            if names != declared and not (self.more_labels and names > declared):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(sorted(names))}")
        return (Series(self, known),) if known else ()


def _find_unit(name: str) -> str:
    return next((unit for end, unit in _BASE_UNITS.items() if name.endswith(end)), "")


@dataclass(frozen=True, kw_only=True)
class Collector:
    """Turns a hypervisor's snapshot into samples of its metric families. It makes no calls.

    :param name: its module's name, the NAME of `--collector.NAME`, and the value of `collect[]`
    :param collect_view: makes samples of the state of the connection, also while there is no snapshot
    :param of_several: takes its place in a scrape of several hypervisors
    :param needs: the names of the sources that its samples depend on (exporter/virt/sources/)
    :param is_default: whether it is on without `--collector.NAME`
    """

    name: str
    metrics: tuple[Metric, ...]
    collect: Callable[[Snapshot], Iterable[AnySample]]
    collect_view: Callable[[HostView], Iterable[AnySample]] = lambda _: ()
    needs: frozenset[str] = frozenset()
    is_default: bool = True
    of_several: Collector | None = None

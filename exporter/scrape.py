"""One scrape: run the collectors over all snapshots, measure their time, and isolate failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial

from exporter.attempt import Failure, attempt
from exporter.collectors import target
from exporter.metric import AnySample, Collector, Family, HistogramSample, Metric, Sample, Series
from exporter.model import HostView
from exporter.own import METRICS as OWN_METRICS
from exporter.own import OwnMetrics

log = logging.getLogger(__name__)

COLLECTOR_SUCCESS = Metric(
    name="hypervisor_exporter_collector_success",
    help="1 if the collector worked for every hypervisor, 0 if it failed for one.",
    labels=("collector",),
    source="this exporter",
)
COLLECTOR_DURATION_SECONDS = Metric(
    name="hypervisor_exporter_collector_duration_seconds",
    help="How long the collector took, for all hypervisors together.",
    labels=("collector",),
    source="this exporter",
)
METRICS = (COLLECTOR_SUCCESS, COLLECTOR_DURATION_SECONDS)


def collect_families(
    views: Sequence[HostView], collectors: Sequence[Collector], own: OwnMetrics | None = None
) -> list[Family]:
    """Return one scrape's metric families, from the views that were ready by its deadline.

    :param own: the exporter's own metrics, if they are included
    """
    samples: list[AnySample] = [sample for view in views for sample in target.collect(view)]
    health: list[Sample] = []
    for collector in collectors:
        chosen = collector.of_several if len(views) > 1 else None
        samples += _run(chosen or collector, views, health)
    families = _group([*samples, *health])
    return families if own is None else [*families, *own.collect()]


def list_labels(collectors: Iterable[Collector]) -> frozenset[str]:
    """Return the names of all labels that a scrape may show, beside those that the configuration gives."""
    collected = (metric for collector in collectors for metric in collector.metrics)
    declared = (*METRICS, *target.METRICS, *OWN_METRICS, *collected)
    bucket = {"le"}  # a histogram's
    return frozenset(label for metric in declared for label in metric.labels) | bucket


def _run(collector: Collector, views: Sequence[HostView], health: list[Sample]) -> list[AnySample]:
    """Run one collector over all hypervisors. If it fails on one, only that one is missing.

    :param health: the samples about the collector itself are added here
    """
    started = time.perf_counter()
    samples: list[AnySample] = []
    is_success = True
    for view in views:
        outcome = attempt(partial(_collect, collector, view))
        if isinstance(outcome, Failure):
            is_success = False
            log.error(
                "collector failed",
                exc_info=outcome.error,
                extra={"collector": collector.name, "target": view.target},
            )
        else:
            samples += outcome.value
    duration = time.perf_counter() - started
    health += COLLECTOR_SUCCESS.samples(float(is_success), collector=collector.name)
    health += COLLECTOR_DURATION_SECONDS.samples(duration, collector=collector.name)
    return samples


def _collect(collector: Collector, view: HostView) -> list[AnySample]:
    samples = list(collector.collect_view(view))
    if view.snapshot is not None:
        samples += collector.collect(view.snapshot)
    return samples


def _group(samples: Iterable[AnySample]) -> list[Family]:
    """Group samples by metric, as the exposition formats require, in order of first appearance."""
    families: dict[str, Family] = {}
    for sample in samples:
        metric = sample.metric
        name = metric.name
        if name not in families:
            families[name] = metric.make_family()
        family = families[name]
        if isinstance(sample, Series):
            family.rows += sample.rows
        elif isinstance(sample, HistogramSample):
            family.samples += sample.list_lines()
        else:
            family.samples.append((name, sample.labels, sample.value))
    return list(families.values())

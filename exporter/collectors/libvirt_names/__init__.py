"""Names of the exporters that this one replaces, so that boards and alerts for those go on working.

`libvirt_names` in the configuration chooses one: inovex, debian or tinkoff. It maps what the collector
`guests` also shows: nothing is read for it alone.

libvirt_up 1
libvirt_domain_info_cpu_time_seconds_total{domain="instance-2a"} 86.4
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from exporter.collectors import guests
from exporter.collectors.libvirt_names import debian, inovex, tinkoff
from exporter.collectors.libvirt_names.dialect import Dialect, Pair
from exporter.metric import Collector, Sample, Series
from exporter.model import HostView, Snapshot

NAME = "libvirt_names"


def _make_collector(dialect: Dialect) -> Collector:
    """Return the collector of a dialect.

    Those who are replaced read one hypervisor, so their series do not say which. In a scrape of several, all
    series have the label `target` besides: without it they would be there twice.
    """
    of_several = _make(dialect, lambda target: (("target", target),))
    return _make(dialect, lambda _: (), of_several)


def _make(
    dialect: Dialect, make_more: Callable[[str], tuple[Pair, ...]], of_several: Collector | None = None
) -> Collector:
    def collect(snapshot: Snapshot) -> Iterator[Sample | Series]:
        return dialect.collect(snapshot, make_more(snapshot.target))

    def collect_view(view: HostView) -> Iterator[Sample]:
        return dialect.collect_view(view, make_more(view.target))

    return Collector(
        name=NAME,
        metrics=dialect.metrics,
        collect=collect,
        collect_view=collect_view,
        needs=guests.COLLECTOR.needs | {"storage"},
        is_default=False,
        of_several=of_several,
    )


# By the value of the configuration's key. There is one at most, so all have one name.
COLLECTORS: Mapping[str, Collector] = {
    "inovex": _make_collector(inovex.DIALECT),
    "debian": _make_collector(debian.DIALECT),
    "tinkoff": _make_collector(tinkoff.DIALECT),
}

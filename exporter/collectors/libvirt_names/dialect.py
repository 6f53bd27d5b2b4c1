"""A dialect: all metrics of another exporter that can be told from what this one knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from exporter.collectors.libvirt_names.domains import list_domains
from exporter.collectors.libvirt_names.tables import AnyTable
from exporter.label import make_label_value
from exporter.metric import Metric, Sample, Series
from exporter.model import HostView, Resources, Severity, Snapshot, StoragePool

UP = Metric(
    name="libvirt_up",
    help="1 if libvirt answered in the last refresh, also if numbers of the host are missing.",
    labels=(),
    source="hypervisor_up, or 1 where only numbers of the host are missing",
    more_labels=True,
    is_foreign=True,
)

Pair = tuple[str, str]
_INCOMPLETE = "incomplete"  # the reason if libvirt answers, and numbers are missing that Nova requires
_RUNNING = 2  # virStoragePoolState: VIR_STORAGE_POOL_RUNNING
_POOL_INFO = "virStoragePoolGetInfo"


class Pools:
    """The metrics of storage pools. Their numbers are as old as libvirtd's last refresh of the pool.

    :param prefix: of all names
    :param label: which has the pool's name
    :param has_state: whether there is one of the pool's state
    """

    def __init__(self, prefix: str, label: str, *, has_state: bool) -> None:
        def make(end: str) -> Metric:
            return make_host_metric(f"{prefix}_{end}", f"{_POOL_INFO} ({end.partition('_')[0]})", label)

        self._label = label
        self._columns: list[tuple[Metric, Callable[[StoragePool], int]]] = [
            (make("capacity_bytes"), lambda pool: pool.capacity_bytes),
            (make("allocation_bytes"), lambda pool: pool.allocation_bytes),
            (make("available_bytes"), lambda pool: pool.available_bytes),
        ]
        if has_state:
            # Only active pools are read.
            self._columns.append((make("state"), lambda _: _RUNNING))
        self.metrics = tuple(metric for metric, _ in self._columns)

    def collect(self, snapshot: Snapshot, more: Mapping[str, str]) -> Iterator[Sample]:
        """Yield what is known of the pools that were read: of those that hold guests' images."""
        for metric, get_value in self._columns:
            for pool in snapshot.get_part("storage", tuple) or ():
                name = make_label_value(pool.name)
                yield from metric.samples(get_value(pool), **{self._label: name}, **more)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The metrics of another exporter.

    :param domains: counts all domains
    :param active_domains: counts those that run or are paused
    :param versions: has the versions of the hypervisor and of libvirt as labels
    :param pools: of each storage pool
    """

    tables: tuple[AnyTable, ...]
    domains: Metric | None = None
    active_domains: Metric | None = None
    versions: Metric | None = None
    pools: Pools | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that it may show."""
        hosts = (UP, self.domains, self.active_domains, self.versions)
        declared = tuple(each for each in hosts if each is not None)
        of_pools = () if self.pools is None else self.pools.metrics
        return (*declared, *(metric for table in self.tables for metric in table.metrics), *of_pools)

    def collect(self, snapshot: Snapshot, more: tuple[Pair, ...]) -> Iterator[Sample | Series]:
        """Yield the samples of a hypervisor and of its guests that are shown.

        :param more: labels that all of them have beside their own
        """
        resources, labels = snapshot.resources, dict(more)
        if self.domains is not None:
            counts = resources.domains_by_state
            yield from self.domains.samples(None if counts is None else sum(counts.values()), **labels)
        if self.active_domains is not None:
            yield from self.active_domains.samples(resources.running_vms, **labels)
        if self.versions is not None:
            yield from self.versions.samples(1, **_list_versions(resources), **labels)
        guests = list_domains(snapshot)
        for table in self.tables:
            yield from table.collect(guests, more)
        if self.pools is not None:
            yield from self.pools.collect(snapshot, labels)

    def collect_view(self, view: HostView, more: tuple[Pair, ...]) -> Iterator[Sample]:
        """Yield whether the hypervisor answers, also while it does not."""
        fatal = {problem.reason for problem in view.problems if problem.severity is Severity.FATAL}
        yield from UP.samples(view.is_up or fatal == {_INCOMPLETE}, **dict(more))


def make_host_metric(name: str, same_as: str, *labels: str) -> Metric:
    """Return the declaration of a metric with one series for each hypervisor."""
    return Metric(
        name=name,
        help=f"The same as {same_as}.",
        type="info" if name.endswith("_info") else "gauge",
        labels=labels,
        source=same_as,
        more_labels=True,
        is_foreign=True,
    )


def _list_versions(resources: Resources) -> dict[str, str]:
    return {
        "hypervisor_running": _format_version(resources.hypervisor_version),
        "libvirtd_running": _format_version(resources.libvirt_version),
        "libvirt_library": "",  # that of the other exporter itself
    }


def _format_version(version: int | None) -> str:
    """Return 7.2.15 for 7002015; nothing for a version that is not known."""
    if version is None:
        return ""
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"

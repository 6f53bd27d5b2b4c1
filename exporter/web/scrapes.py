"""`/metrics` and `/probe`: which hypervisors a scrape is of, its deadline, collectors and format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from weakref import WeakKeyDictionary

from exporter.compute.host_state import HostState
from exporter.compute.tracker import ResourceTracker
from exporter.config.settings import Config
from exporter.metric import Collector
from exporter.model import HostView
from exporter.own import OwnMetrics
from exporter.scrape import collect_families
from exporter.web.compression import accepts_gzip, compress
from exporter.web.debug import Debugger, Scrape
from exporter.web.exposition import Format, choose_format
from exporter.web.messages import BadRequestError, Request, Response
from exporter.web.parameters import get_one, parse_parameters, scrape_timeout
from exporter.web.probe import ProbeTargets
from exporter.web.rendering import Renderings, Together
from exporter.web.viewers import Viewers

# A scrape that last had so many samples, or more, is rendered in a thread: in the event loop it would keep
# everybody else waiting for longer than a thread takes to begin. 100 samples take 0.3 ms.
MANY_SAMPLES = 500


class ScrapeRoutes:
    """Answers `/metrics` and `/probe`.

    :param collectors: all there are
    :param clock: the hosts' monotonic clock
    """

    def __init__(
        self,
        config: Config,
        *,
        tracker: ResourceTracker,
        probe_targets: ProbeTargets,
        collectors: Sequence[Collector],
        own: OwnMetrics,
        viewers: Viewers,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._probe_targets = probe_targets
        self._all_collectors = collectors
        self._own = own
        self._clock = clock
        self._debugger = Debugger(viewers, clock=clock)
        self._updates: Together[list[HostView]] = Together()
        self._scrapes: Renderings[tuple[Response, int]] = Renderings("scrapes")
        # How many samples the last scrape had, by what was scraped: all hypervisors, or one.
        self._last_samples: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def configure(self, config: Config) -> None:
        """Use this configuration from now on."""
        self._config = config

    async def answer_metrics(self, request: Request) -> Response:
        """Answer for all configured hypervisors and the exporter itself."""
        parameters = parse_parameters(request)
        collectors = self._choose_collectors(parameters)
        own = None if "collect[]" in parameters else self._own
        timeout = scrape_timeout(request.headers, self._config.scrape_timeout)
        if _is_debugged(parameters):
            if len(self._tracker.hosts) != 1:
                raise BadRequestError("debug=true is about one hypervisor: /probe?target=NAME&debug=true")
            scrape = self._find_scrape("", self._tracker.hosts[0].target)
            return await self._debugger.answer(scrape, collectors, self._config)
        views = await self._updates.get(
            timeout, lambda: self._tracker.update_available_resource(deadline=self._clock() + timeout)
        )
        return await self._answer_with(self._tracker, views, collectors, own, request)

    async def answer_probe(self, request: Request) -> Response:
        """Answer for one hypervisor: a configured one by its name, or one that a module allows."""
        parameters = parse_parameters(request)
        collectors = self._choose_collectors(parameters)
        target, module = get_one(parameters, "target"), get_one(parameters, "module")
        scrape = self._find_scrape(module, target)
        timeout = scrape_timeout(request.headers, self._config.scrape_timeout)
        if _is_debugged(parameters):
            return await self._debugger.answer(scrape, collectors, self._config)
        views = await scrape.run(refresh=False, deadline=self._clock() + timeout)
        return await self._answer_with(scrape.host, views, collectors, None, request, target=(module, target))

    def _find_scrape(self, module: str, target: str) -> Scrape:
        found = None if module else self._tracker.find(target)
        if found is not None:
            return Scrape(*found, partial(self._tracker.update_available_resource, target=target))
        module = module or "default"
        host = self._probe_targets.get(module, target)
        return Scrape(self._probe_targets.find_settings(module, target), host, partial(_update, host))

    async def _answer_with(
        self,
        scraped: object,
        views: Sequence[HostView],
        collectors: Sequence[Collector],
        own: OwnMetrics | None,
        request: Request,
        *,
        target: tuple[str, str] = ("", ""),
    ) -> Response:
        """Answer with metrics: in a thread where the last scrape had many samples, or there was none yet.

        :param scraped: what the views are of; one or all
        """
        exposition = choose_format(request.headers.get("accept", ""))
        gzipped = accepts_gzip(request)
        names = tuple(each.name for each in collectors)
        is_special = len(names) < len(self._choose_collectors({}))
        response, samples = await self._scrapes.get(
            (target, names, own is None, exposition.content_type, gzipped),
            partial(_render, views, collectors, own, exposition, gzipped=gzipped),
            in_thread=self._last_samples.get(scraped, MANY_SAMPLES) >= MANY_SAMPLES,
            is_special=is_special,
        )
        if not is_special:  # else a client with few collectors would bring the next full scrape into the loop
            self._last_samples[scraped] = samples
        return response

    def _choose_collectors(self, parameters: Mapping[str, list[str]]) -> list[Collector]:
        """Return the enabled collectors, or those of them that `collect[]` names."""
        disabled = self._config.disabled_collectors
        enabled = {each.name: each for each in self._all_collectors if each.name not in disabled}
        wanted = parameters.get("collect[]", list(enabled))
        unknown = [name for name in wanted if name not in enabled]
        if unknown:
            raise BadRequestError(f"no collector {unknown[0]!r} (enabled: {', '.join(enabled)})")
        return [enabled[name] for name in dict.fromkeys(wanted)]


async def _update(host: HostState, *, refresh: bool, deadline: float) -> list[HostView]:
    await host.get_host_stats(refresh=refresh, deadline=deadline)
    return [host.get_view()]


def _is_debugged(parameters: Mapping[str, list[str]]) -> bool:
    """Whether the request asks for debug output instead of metrics."""
    value = get_one(parameters, "debug")
    if value not in ("", "true", "false"):
        raise BadRequestError("the parameter debug is true or false")
    return value == "true"


def _render(
    views: Sequence[HostView],
    collectors: Sequence[Collector],
    own: OwnMetrics | None,
    exposition: Format,
    *,
    gzipped: bool,
) -> tuple[Response, int]:
    """Return the metrics, and how many samples they are."""
    families = collect_families(views, collectors, own)
    body = exposition.render(families)
    response = Response(
        body=body, content_type=exposition.content_type, headers={"vary": "accept, accept-encoding"}
    )
    samples = sum(len(family.samples) + len(family.rows) for family in families)
    return (compress(response) if gzipped else response), samples

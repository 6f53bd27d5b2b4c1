"""Which path answers what, how long a scrape may take, and in which format it is answered."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus

import pytest

from exporter.collectors import COLLECTORS
from exporter.compute.tracker import ResourceTracker
from exporter.config.libvirt_uri import LibvirtUri
from exporter.config.settings import Config, GuestsConfig, HypervisorConfig, ModuleConfig, WebConfig
from exporter.config.web_file import RateLimit, WebFile
from exporter.errors import ConfigError, ConnectError
from exporter.metric import Collector, Metric, Sample
from exporter.model import Snapshot
from exporter.own import OwnMetrics
from exporter.reload import MAX_HUNG_READS, PAUSE_SECONDS, Loaded, Reloader
from exporter.web.access import Access, AccessSettings
from exporter.web.messages import Request, Response
from exporter.web.parameters import SCRAPE_TIMEOUT_HEADER, scrape_timeout
from exporter.web.probe import (
    IDLE_SECONDS,
    MAINTAINED_SECONDS,
    MAX_TARGETS,
    ProbeError,
    ProbeTargets,
    check_target,
)
from exporter.web.reload import MAX_WAITING_FOR_RELOAD
from exporter.web.routes import Web
from exporter.web.scrapes import MANY_SAMPLES
from exporter.web.viewers import MAX_VIEWERS
from tests.support.hosts import Clock, Driver, Host
from tests.support.records import make_resources

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Site:
    """Everything that the routes stand on: two hypervisors, and one module."""

    collectors: Sequence[Collector] = COLLECTORS

    def __init__(
        self,
        *,
        names: Sequence[str] = ("kvm01", "kvm02"),
        read_timeout: float = 20,
        reload_timeout: float = 20,
        **changes: object,
    ) -> None:
        self.config = Config(
            hypervisors=tuple(HypervisorConfig(name=name, uri=f"test:///{name}") for name in names),
            modules={"default": make_module()},
            **changes,  # type: ignore[arg-type]
        )
        self.clock = Clock()
        self.drivers: dict[str, Driver] = {}
        self.mistakes: list[str] = []
        self.disk_answers = threading.Event()
        self.disk_answers.set()
        self.applied: list[Loaded] = []
        self.own = OwnMetrics()
        self.tracker = ResourceTracker(self.config, self._make_host)
        self.probe_targets = ProbeTargets(self.config, self._make_host, clock=self.clock)
        self.access = Access(None, AccessSettings(), clock=self.clock)
        self.reloader = Reloader(
            self._load,
            self.applied.append,
            self.own,
            wall_clock=lambda: 1.75e9,
            read_timeout=read_timeout,
        )
        self.web = Web(
            self.config,
            tracker=self.tracker,
            probe_targets=self.probe_targets,
            collectors=self.collectors,
            own=self.own,
            reload=self.reloader.reload,
            access=self.access,
            clock=self.clock,
            reload_timeout=reload_timeout,
        )

    def _make_host(self, hypervisor: HypervisorConfig, config: Config):  # type: ignore[no-untyped-def]
        driver = Driver(make_resources(hypervisor_hostname=f"{hypervisor.target}.example"))
        self.drivers[hypervisor.target] = driver
        return Host(driver=driver, clock=self.clock, config=config, target=hypervisor.target).state

    def _load(self) -> Loaded:
        assert self.disk_answers.wait(20)
        if self.mistakes:
            raise ConfigError(self.mistakes)
        return Loaded(config=self.config, access=AccessSettings())

    async def ask(self, target: str, *, method: str = "GET", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.web.handle(
            Request(method=method, target=target, headers={"host": "x:9177", **named})
        )


def make_module(**changes: str) -> ModuleConfig:
    values = {"uri": "qemu+tls://{target}/system", "target": r"kvm[0-9]+\.example", **changes}
    return ModuleConfig(**values, options=HypervisorConfig(uri=""))


def ask(target: str, *, method: str = "GET", site: Callable[[], Site] = Site, **headers: str) -> Response:
    """Ask a new site once."""

    async def run() -> Response:
        return await site().ask(target, method=method, **headers)

    return asyncio.run(run())


def text(response: Response) -> str:
    return response.body.decode()


@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/guests?target=kvm01", "/sd", "/-/healthy", "/-/ready", "/probe?target=kvm01"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_can_be_read_is_read_by_get_and_head(path: str, method: str) -> None:
    response = ask(path, method=method)
    assert response.status == HTTPStatus.OK
    assert response.body


@pytest.mark.parametrize("path", ["/metrics", "/", "/sd", "/-/healthy", "/-/ready", "/probe"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_refused_and_told_which_are_allowed(path: str, method: str) -> None:
    response = ask(path, method=method)
    assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert response.headers["allow"] == "GET, HEAD"


def test_a_reload_is_no_read() -> None:
    response = ask("/-/reload")
    assert (response.status, response.headers["allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "POST, PUT")


@pytest.mark.parametrize(
    "path", ["/nosuch", "/metrics/", "/Metrics", "//", "/probe/", "/-/", "*", "/..", "/%6detrics"]
)
def test_another_path_is_not_found_and_told_where_the_metrics_are(path: str) -> None:
    response = ask(path)
    assert response.status == HTTPStatus.NOT_FOUND
    assert text(response) == "Not found. Metrics are at /metrics\n"


def test_a_scrape_shows_every_hypervisor_and_the_exporter_itself() -> None:
    shown = text(ask("/metrics"))
    for name in ("kvm01", "kvm02"):
        assert f'hypervisor_up{{target="{name}"}} 1.0' in shown
        assert f'hypervisor_vcpus{{hypervisor_hostname="{name}.example"}}' in shown
    assert "hypervisor_exporter_build_info{" in shown


class Guests:
    """A site whose one collector has a sample for each guest, and notes the threads that it runs in."""

    def __init__(self, guests: int) -> None:
        self.guests = guests
        self.is_in_loop: list[bool] = []
        metric = Metric(name="guest_x", help="X.", labels=("guest",), source="a test")
        collector = Collector(name="guests", metrics=(metric,), collect=partial(self._collect, metric))
        self.site = type("GuestSite", (Site,), {"collectors": (collector,)})()

    def _collect(self, metric: Metric, _snapshot: Snapshot) -> Iterator[Sample]:
        self.is_in_loop.append(threading.current_thread() is threading.main_thread())
        for number in range(self.guests):
            yield from metric.samples(number, guest=str(number))


@pytest.mark.parametrize("path", ["/metrics", "/probe?target=kvm01"])
def test_a_scrape_with_many_samples_is_rendered_beside_the_event_loop(path: str) -> None:
    """By how many there were last time; before the first time nobody knows."""

    async def scrape_three_times(guests: int) -> list[bool]:
        site = Guests(guests)
        for _ in range(3):
            await site.site.ask(path)
        number = len(site.is_in_loop) // 3
        return site.is_in_loop[::number]

    assert asyncio.run(scrape_three_times(10)) == [False, True, True]
    assert asyncio.run(scrape_three_times(MANY_SAMPLES)) == [False, False, False]


def test_one_hypervisor_with_many_samples_sends_no_other_into_a_thread() -> None:
    async def scrape_both() -> list[bool]:
        guests = Guests(10)
        await guests.site.ask("/probe?target=kvm02")
        guests.guests = MANY_SAMPLES
        await guests.site.ask("/probe?target=kvm01")
        await guests.site.ask("/probe?target=kvm02")
        return guests.is_in_loop

    assert asyncio.run(scrape_both()) == [False, False, True]


@pytest.mark.parametrize("path", ["/metrics", "/probe?target=kvm01"])
def test_a_client_that_wants_few_collectors_brings_no_full_scrape_into_the_event_loop(path: str) -> None:
    async def scrape() -> list[bool]:
        guests = Guests(MANY_SAMPLES)
        few = Collector(name="few", metrics=(), collect=lambda _snapshot: iter(()))
        guests.site.web._scrapes._all_collectors = (*guests.site.collectors, few)
        separator = "&" if "?" in path else "?"
        await guests.site.ask(path)
        await guests.site.ask(f"{path}{separator}collect[]=few")
        guests.is_in_loop.clear()
        await guests.site.ask(path)
        return guests.is_in_loop

    assert not any(asyncio.run(scrape()))


def one_hypervisor() -> Site:
    return Site(cache_ttl=3600, names=("kvm01",))


@pytest.mark.parametrize(
    "target",
    ["/probe?target=kvm01&debug=true", "/probe?target=kvm1.example&debug=true", "/metrics?debug=true"],
)
def test_debug_answers_with_what_a_new_refresh_did(target: str) -> None:
    """Whatever the cache says; in text that no browser takes for anything else."""

    async def debug_after_a_scrape() -> tuple[Response, list[int]]:
        site = one_hypervisor()
        await site.ask(target.replace("debug=true", "debug=false"))
        response = await site.ask(target)
        return response, [driver.reads for driver in site.drivers.values() if driver.reads]

    response, reads = asyncio.run(debug_after_a_scrape())
    assert reads == [2]
    assert response.status == HTTPStatus.OK
    assert response.content_type == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    shown = text(response)
    assert re.match(r"Refresh of kvm\S*: ended after", shown)
    assert " step     refresh: ok [MainThread]" in shown
    assert "\nhypervisor_up{target=" in shown


def test_debug_of_several_hypervisors_at_once_is_refused_with_the_way_to_one() -> None:
    response = ask("/metrics?debug=true")
    assert response.status == HTTPStatus.BAD_REQUEST
    assert text(response) == "debug=true is about one hypervisor: /probe?target=NAME&debug=true\n"


def test_debug_is_true_or_false() -> None:
    response = ask("/probe?target=kvm01&debug=yes")
    assert (response.status, text(response)) == (
        HTTPStatus.BAD_REQUEST,
        "the parameter debug is true or false\n",
    )


def test_debug_of_one_that_hangs_shares_its_refresh_and_ends_with_the_scrape() -> None:
    async def debug() -> tuple[str, int, int]:
        site = Site(scrape_timeout=20.0)
        driver = site.drivers["kvm01"]
        with driver.held():
            hung = asyncio.create_task(site.ask("/probe?target=kvm01"))
            while not driver.reads:
                await asyncio.sleep(0.01)
            site.clock.now += 19.4
            debugs = [
                asyncio.create_task(
                    site.ask("/probe?target=kvm01&debug=true", **{SCRAPE_TIMEOUT_HEADER: each})
                )
                for each in ("0.000001", "60")
            ]
            await asyncio.sleep(0.3)
            assert not any(each.done() for each in debugs), "one in a hurry does not end it for others"
            shown, also_shown = [text(await each) for each in debugs]
            assert shown == also_shown
        await hung
        return shown, driver.reads, site.drivers["kvm02"].reads

    shown, reads, others = asyncio.run(debug())
    assert shown.startswith("Refresh of kvm01: still under way after 19.400 s, when this answer was due.\n")
    assert "which shares it" in shown
    assert (reads, others) == (1, 0)


def test_a_hypervisor_is_read_for_debugging_once_a_second_however_many_ask() -> None:
    async def debug_at_once() -> tuple[int, float]:
        site = one_hypervisor()
        began_at = time.monotonic()
        await site.ask("/metrics?debug=true")
        await asyncio.gather(*(site.ask("/metrics?debug=true") for _ in range(5)))
        return site.drivers["kvm01"].reads, time.monotonic() - began_at

    reads, seconds = asyncio.run(debug_at_once())
    assert reads == 2
    assert seconds >= 1


def test_collect_chooses_collectors_and_leaves_the_exporter_out() -> None:
    shown = text(ask("/metrics?collect[]=cpu&collect%5B%5D=memory&collect[]=cpu"))
    assert 'hypervisor_exporter_collector_success{collector="cpu"} 1.0' in shown
    assert "hypervisor_memory_mb{" in shown
    assert "hypervisor_up{" in shown, "how reaching it went is always told"
    for absent in ("hypervisor_local_gb{", "hypervisor_exporter_build_info"):
        assert absent not in shown


@pytest.mark.parametrize("query", ["collect[]=nosuch", "collect[]=", "collect[]=cpu&collect[]=storage"])
def test_collectors_that_there_are_not_are_refused_with_those_that_there_are(query: str) -> None:
    response = ask(f"/metrics?{query}", site=lambda: Site(disabled_collectors=frozenset({"storage"})))
    assert response.status == HTTPStatus.BAD_REQUEST
    enabled = ", ".join(each.name for each in COLLECTORS if each.name != "storage")
    assert f"enabled: {enabled}" in text(response)
    assert text(response).count("\n") == 1


def test_a_query_with_too_much_in_it_is_refused() -> None:
    response = ask("/metrics?" + "&".join(f"a{number}=" for number in range(101)))
    assert (response.status, text(response)) == (HTTPStatus.BAD_REQUEST, "too many parameters\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_format_is_the_one_that_is_accepted(accept: str, content_type: str) -> None:
    response = ask("/metrics", accept=accept)
    assert response.content_type == content_type
    assert text(response).endswith("# EOF\n") == (accept == OPENMETRICS)
    assert "accept" in response.headers["vary"]


@pytest.mark.parametrize(
    ("accept_encoding", "is_gzip"),
    [
        ("gzip", True),
        ("deflate, GZip ; q=0.5", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("xgzip", False),
    ],
)
def test_what_is_long_is_compressed_for_those_who_accept_it(accept_encoding: str, is_gzip: bool) -> None:
    response = ask("/metrics", accept_encoding=accept_encoding)
    assert (response.headers.get("content-encoding") == "gzip") == is_gzip
    body = gzip.decompress(response.body) if is_gzip else response.body
    assert b"hypervisor_up" in body


def test_what_is_short_is_not_compressed() -> None:
    response = ask("/-/healthy", accept_encoding="gzip")
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 9.0),  # the bound is lower
        ("5", 4.5),
        ("0.6", 0.3),  # never more than half is kept for the way back
        ("0.000001", 0.25),  # the floor
        ("0", 9.0),
        ("-1", 9.0),
        ("soon", 9.0),
        ("nan", 9.0),
        ("inf", 9.0),
        ("", 9.0),
    ],
)
def test_prometheus_time_out_lowers_the_scrapes(header: str, seconds: float) -> None:
    headers = {"x-prometheus-scrape-timeout-seconds": header}
    assert scrape_timeout(headers, 9.0) == pytest.approx(seconds)
    assert scrape_timeout({}, 9.0) == 9.0


def test_a_scrape_whose_time_is_up_is_answered_with_what_is_known() -> None:
    """Shows that the header reaches the wait: without it this would take an hour."""

    async def run() -> str:
        site = Site(scrape_timeout=3600.0)
        await site.ask("/probe?target=kvm01")  # it is known, and so takes no time
        with site.drivers["kvm02"].held():
            response = await asyncio.wait_for(
                site.ask("/metrics", x_prometheus_scrape_timeout_seconds="0.2"), timeout=20
            )
        return text(response)

    shown = asyncio.run(run())
    assert 'hypervisor_up{target="kvm01"} 1.0' in shown
    assert 'hypervisor_up{target="kvm02"} 0.0' in shown


def test_a_probe_of_a_configured_hypervisor_reads_that_one_only() -> None:
    async def run() -> None:
        site = Site()
        shown = text(await site.ask("/probe?target=kvm02"))
        assert [line for line in shown.splitlines() if line.startswith("hypervisor_up")] == [
            'hypervisor_up{target="kvm02"} 1.0'
        ]
        assert "hypervisor_exporter_build_info" not in shown
        assert (site.drivers["kvm01"].reads, site.drivers["kvm02"].reads) == (0, 1)

    asyncio.run(run())


NO_HOST = (
    "target is not a host name or address:"
    " expected HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT, without a user"
)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "the parameter target is missing: /probe?target=HOST&module=NAME"),
        ("target=", "the parameter target is missing: /probe?target=HOST&module=NAME"),
        ("target=kvm07.example&module=nosuch", "unknown module 'nosuch' (configured: default)"),
        ("target=kvm01.example&target=kvm02.example", "the parameter target is given more than once"),
        (
            "target=evil.example",
            r"module 'default' does not allow this target (pattern 'kvm[0-9]+\\.example')",
        ),
        (
            "target=kvm1.example.evil",
            r"module 'default' does not allow this target (pattern 'kvm[0-9]+\\.example')",
        ),
        ("target=kvm1.example%0a", NO_HOST),
        ("target=kvm1.example/?x=", NO_HOST),
        ("target=user@kvm1.example", NO_HOST),
        ("target=-oProxyCommand", NO_HOST),
        ("target=kvm1.example:0", "target has the port 0, expected 1 to 65535"),
        ("target=kvm1.example:99999", "target has the port 99999, expected 1 to 65535"),
        ("target=kvm1.example:", NO_HOST),
        ("target=kvm1.example:ssh", NO_HOST),
        ("target=[2001:db8::1", NO_HOST),
        (
            "target=kvm1.example:2222",
            (
                r"module 'default' allows this host, but not its port 2222 (pattern 'kvm[0-9]+\\.example'):"
                " leave the port out, or write it into the pattern, with its colon: kvm[0-9]+(:2222)?"
            ),
        ),
        (
            "target=evil.example:16514",
            r"module 'default' does not allow this target (pattern 'kvm[0-9]+\\.example')",
        ),
    ],
)
def test_a_probe_that_no_module_allows_is_refused_with_the_reason(query: str, reason: str) -> None:
    response = ask(f"/probe?{query}")
    assert (response.status, text(response)) == (HTTPStatus.BAD_REQUEST, f"{reason}\n")


@pytest.mark.parametrize(
    "target", ["kvm1.example/session?socket=/tmp/x", "a@b", "", "kvm 1", "x" * 300, "[::1]]"]
)
def test_no_pattern_lets_in_what_is_no_host(target: str) -> None:
    """Shows that a careless pattern makes no hole: a target stays a host in its URI."""

    async def run() -> None:
        site = Site()
        site.probe_targets.configure(Config(modules={"any": make_module(target=".*")}))
        with pytest.raises(ProbeError):
            site.probe_targets.get("any", target)

    asyncio.run(run())


TLS, IPV6 = "qemu+tls://{target}/system", r"2001:db8::[0-9a-f]+"


@pytest.mark.parametrize(
    ("uri", "pattern", "target", "reached"),
    [
        (TLS, "kvm[0-9]+", "kvm01:16514", "qemu+tls://kvm01:16514/system"),
        (TLS, "kvm[0-9]+(:[0-9]+)?", "kvm01:16515", "qemu+tls://kvm01:16515/system"),
        ("qemu://{target}/system", "kvm[0-9]+", "kvm01:16514", "qemu://kvm01:16514/system"),
        ("qemu+tcp://{target}/system", "kvm[0-9]+", "kvm01:16509", "qemu+tcp://kvm01:16509/system"),
        ("qemu+ssh://root@{target}/system", "kvm[0-9]+", "kvm01:22", "qemu+ssh://root@kvm01:22/system"),
        ("qemu+libssh2://{target}/system", "k:2222", "k:2222", "qemu+libssh2://k:2222/system"),
        ("esx://{target}/?no_verify=1", "esx[0-9]+", "esx1:443", "esx://esx1:443/?no_verify=1"),
        (TLS, IPV6, "2001:db8::1", "qemu+tls://[2001:db8::1]/system"),
        (TLS, rf"\[{IPV6}\]", "2001:db8::1", "qemu+tls://[2001:db8::1]/system"),
        (TLS, IPV6, "[2001:db8::1]", "qemu+tls://[2001:db8::1]/system"),
        (TLS, IPV6, "[2001:db8::1]:16514", "qemu+tls://[2001:db8::1]:16514/system"),
        (TLS, rf"\[{IPV6}\]:[0-9]+", "[2001:db8::1]:7", "qemu+tls://[2001:db8::1]:7/system"),
    ],
)
def test_a_target_may_have_the_port_of_its_transport_or_one_that_the_pattern_has(
    uri: str, pattern: str, target: str, reached: str
) -> None:
    module = replace(make_module(target=pattern), uri=uri)
    check_target("a", module, target)
    assert module.make_hypervisor(target).uri == reached
    assert LibvirtUri.parse(reached).host


@pytest.mark.parametrize(
    ("uri", "pattern", "target", "reason"),
    [
        (TLS, ".*", "kvm01:22", "allows this host, but not its port 22"),
        (TLS, "kvm.+", "kvm01:22", "allows this host, but not its port 22"),
        (TLS, "kvm[^/]+", "kvm01:22", "allows this host, but not its port 22"),
        (TLS, "(?:kvm|hv).*", "kvm01:22", "allows this host, but not its port 22"),
        (TLS, "kvm01:16515", "kvm01:22", "does not allow this target"),
        ("qemu+tls://{target}:16520/system", ".*", "kvm01:16514", "has one already"),
        ("qemu+unix://{target}/system", ".*", "kvm01:16514", "its transport has none"),
        ("test://{target}/default", ".*", "kvm01:16514", "its transport has none"),
        (TLS, ".*", "fe80::1%eth0", "not a host name or address"),
        (TLS, ".*", "root@[2001:db8::1]:16514", "without a user"),
    ],
)
def test_a_port_that_nobody_wrote_into_the_module_is_refused(
    uri: str, pattern: str, target: str, reason: str
) -> None:
    """Shows that a dot in the pattern opens no other port of a host."""
    with pytest.raises(ProbeError, match=re.escape(reason)):
        check_target("a", replace(make_module(target=pattern), uri=uri), target)


@pytest.mark.parametrize(("pattern", "is_kept"), [("kvm.*", True), ("node.*", False)])
def test_a_changed_module_keeps_the_connections_to_targets_that_it_reaches_alike(
    pattern: str, is_kept: bool
) -> None:
    async def run() -> None:
        site = Site()
        site.probe_targets.configure(Config(modules={"a": make_module()}))
        host = site.probe_targets.get("a", "kvm1.example")
        options = HypervisorConfig(uri="", cpu_allocation_ratio=9)
        changed = replace(make_module(target=pattern), options=options)
        site.probe_targets.configure(Config(modules={"a": changed}))
        assert site.probe_targets.hosts == ((host,) if is_kept else ())
        settings = site.drivers["kvm1.example"].settings
        assert (settings is not None and settings.cpu_allocation_ratio == 9) == is_kept

    asyncio.run(run())


def test_probes_of_one_target_share_its_state_until_nobody_asks_any_more() -> None:
    async def run() -> None:
        site = Site()
        host = site.probe_targets.get("default", "kvm7.example")
        site.clock.now += IDLE_SECONDS
        assert site.probe_targets.get("default", "kvm7.example") is host
        site.clock.now += IDLE_SECONDS + 1
        site.probe_targets.maintain()
        assert site.probe_targets.hosts == ()
        assert await asyncio.to_thread(site.drivers["kvm7.example"].is_closed.wait, 20)

    asyncio.run(run())


def test_a_changed_module_begins_anew_and_an_unchanged_one_goes_on() -> None:
    async def run() -> None:
        site = Site()
        modules: Mapping[str, ModuleConfig] = {"a": make_module(), "b": make_module()}
        site.probe_targets.configure(Config(modules=modules))
        kept, ended = (site.probe_targets.get(name, "kvm1.example") for name in ("a", "b"))
        changed = make_module(uri="qemu+tcp://{target}/system")
        site.probe_targets.configure(Config(modules={"a": make_module(), "b": changed}, resync_interval=7))
        assert site.probe_targets.hosts == (kept,)
        assert site.probe_targets.get("b", "kvm1.example") is not ended

    asyncio.run(run())


def test_there_are_not_more_targets_than_connections_can_be_kept() -> None:
    async def run() -> None:
        site = Site()
        for number in range(MAX_TARGETS):
            host = site.probe_targets.get("default", f"kvm{number}.example")
            host.hostname = f"kvm{number}"  # as if it had answered
        response = await site.ask("/probe?target=kvm9999.example")
        assert response.status == HTTPStatus.BAD_REQUEST
        assert text(response) == f"{MAX_TARGETS} targets are already being probed\n"

    asyncio.run(run())


def test_service_discovery_has_a_group_for_each_hypervisor() -> None:
    assert json.loads(ask("/sd").body) == [
        {
            "targets": ["x:9177"],
            "labels": {"__metrics_path__": "/probe", "__param_target": name, "instance": name},
        }
        for name in ("kvm01", "kvm02")
    ]


def test_a_refused_reload_says_every_mistake() -> None:
    def make_site() -> Site:
        site = Site()
        site.mistakes = ["a.yaml:1: first", "a.yaml:2: second"]
        return site

    response = ask("/-/reload", method="POST", site=make_site)
    assert response.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert text(response) == "The old configuration stays in use:\na.yaml:1: first\na.yaml:2: second\n"
    assert ask("/-/reload", method="POST").status == HTTPStatus.OK


def test_who_waits_for_a_reload_that_hangs_is_told_soon_and_further_ones_at_once() -> None:
    async def run() -> None:
        site = Site(reload_timeout=0.05)
        site.disk_answers.clear()
        waiting = [site.ask("/-/reload", method="POST") for _ in range(MAX_WAITING_FOR_RELOAD + 1)]
        *told_soon, told_at_once = await asyncio.gather(*waiting)
        assert {response.status for response in told_soon} == {HTTPStatus.GATEWAY_TIMEOUT}
        assert told_at_once.status == HTTPStatus.SERVICE_UNAVAILABLE
        site.disk_answers.set()
        while not site.applied:
            await asyncio.sleep(0.01)

    asyncio.run(run())


@pytest.mark.parametrize("users", [{}, {"prometheus": "$2b$04$" + "x" * 53}])
def test_health_checks_have_no_limit_of_their_rate_where_nobody_can_guess_by_them(
    users: Mapping[str, str],
) -> None:
    async def run() -> list[int]:
        site = Site()
        file = WebFile(users=users, rate_limit=RateLimit(interval=60.0, burst=1))
        site.access.apply(AccessSettings(file=file))
        paths = ("/metrics", "/metrics", "/-/healthy", "/-/ready")
        return [(await site.ask(path)).status for path in paths]

    assert asyncio.run(run()) == ([401, 429, 429, 429] if users else [200, 429, 200, 200])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, HTTPStatus.OK),
        ({"sec-fetch-site": "same-origin"}, HTTPStatus.OK),
        ({"sec-fetch-site": "none"}, HTTPStatus.OK),
        ({"sec-fetch-site": "cross-site"}, HTTPStatus.FORBIDDEN),
        ({"sec-fetch-site": "same-site"}, HTTPStatus.FORBIDDEN),
        ({"origin": "http://x:9177"}, HTTPStatus.OK),
        ({"origin": "https://evil.example"}, HTTPStatus.FORBIDDEN),
        ({"origin": "null"}, HTTPStatus.FORBIDDEN),
        ({"sec-fetch-site": "cross-site", "origin": "http://x:9177"}, HTTPStatus.FORBIDDEN),
    ],
)
async def test_a_page_of_another_site_cannot_ask_for_a_reload(
    headers: dict[str, str], status: HTTPStatus
) -> None:
    """A browser sends it with the user's password. Who is no browser sends neither header."""
    site = Site()
    response = await site.ask("/-/reload", method="POST", **headers)
    assert response.status == status
    assert len(site.applied) == (status == HTTPStatus.OK)
    told = "Reloaded\n" if status == HTTPStatus.OK else "A page of another site asks for this\n"
    assert text(response) == told


async def test_a_reload_that_takes_long_is_answered_with_what_happens_next() -> None:
    site = Site(reload_timeout=0.05)
    site.disk_answers.clear()
    response = await site.ask("/-/reload", method="POST")
    site.disk_answers.set()
    assert response.status == HTTPStatus.GATEWAY_TIMEOUT
    assert text(response) == "Not reloaded within 0.05 s. It goes on; the log says how it ends\n"


async def test_a_reload_beside_others_that_hang_is_refused_at_once_with_the_reason() -> None:
    site = Site(read_timeout=0.02)
    site.disk_answers.clear()
    for _ in range(MAX_HUNG_READS):
        assert (await site.ask("/-/reload", method="POST")).status in (503, 504)
        await asyncio.sleep(PAUSE_SECONDS)
    response = await site.ask("/-/reload", method="POST")
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    expected = (
        "configuration not reloaded, the old one stays in use: it is being read 2 times, the first since"
        " 2025-06-15T15:06:40Z\n"
    )
    assert text(response) == expected
    site.disk_answers.set()
    while site.reloader.hung_reads:
        await asyncio.sleep(0.01)
    assert len(site.applied) == 1


async def test_the_page_leads_to_the_metrics_by_the_address_that_it_was_asked_for() -> None:
    site = Site(web=WebConfig(telemetry_path="/my/metrics"))
    page = text(await site.ask("/"))
    assert 'href="/my/metrics"' in page
    assert "x:9177" in page


async def test_the_guests_are_those_of_the_hypervisor_that_is_asked_for() -> None:
    site = Site()
    page = text(await site.ask("/guests?target=kvm02"))
    assert "Guests of kvm02.example" in page
    assert "guest1" in page


async def test_where_there_is_one_hypervisor_its_guests_need_no_name() -> None:
    assert "Guests of kvm01.example" in text(await Site(names=("kvm01",)).ask("/guests"))


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("", 400, "say which hypervisor: /guests?target=NAME, as the page at / has it"),
        ("?target=", 400, "say which hypervisor: /guests?target=NAME, as the page at / has it"),
        ("?target=kvm09", 404, "No hypervisor is configured with the name 'kvm09'"),
        ("?target=%3Cscript%3E%0A", 404, r"No hypervisor is configured with the name '<script>\n'"),
        ("?target=kvm01&target=kvm02", 400, "the parameter target is given more than once"),
    ],
)
async def test_guests_of_no_hypervisor_are_refused_with_the_reason(
    query: str, status: int, reason: str
) -> None:
    response = await Site().ask(f"/guests{query}")
    assert (response.status, text(response)) == (status, f"{reason}\n")
    assert response.content_type.startswith("text/plain")


async def test_a_telemetry_path_of_that_name_keeps_its_metrics() -> None:
    site = Site(web=WebConfig(telemetry_path="/guests"))
    assert "hypervisor_vcpus{" in text(await site.ask("/guests"))


async def test_names_of_projects_are_shown_on_the_page_unless_the_configuration_forbids_it() -> None:
    site = Site(names=("kvm01",))
    assert ">shop</td>" in text(await site.ask("/guests"))
    (hypervisor,) = site.config.hypervisors
    hidden = replace(hypervisor, guests=GuestsConfig(show_owner_names=False))
    site.tracker.configure(replace(site.config, hypervisors=(hidden,)))
    page = text(await site.ask("/guests"))
    assert "shop" not in page
    assert ">7d1b3f5a9c8e4d2b6f0a1c3e5d7b9f8a</td>" in page


async def test_the_page_is_compressed_for_those_who_accept_it() -> None:
    site = Site()
    plain = await site.ask("/")
    assert "content-encoding" not in plain.headers
    gzipped = await site.ask("/", accept_encoding="gzip")
    assert gzipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(gzipped.body).startswith(b"<!doctype html>")


async def test_the_page_does_not_wait_for_one_that_hangs() -> None:
    site = Site()
    await site.ask("/metrics")
    with site.drivers["kvm01"].held():
        site.clock.advance(3600)
        response = await asyncio.wait_for(site.ask("/"), 8)
        assert response.status == HTTPStatus.OK


async def test_too_many_viewers_at_once_are_asked_to_come_again() -> None:
    site = Site()
    responses = await asyncio.gather(*(site.ask("/") for _ in range(MAX_VIEWERS + 1)))
    refused = [each for each in responses if each.status != HTTPStatus.OK]
    assert [(each.status, each.headers["retry-after"]) for each in refused] == [
        (HTTPStatus.SERVICE_UNAVAILABLE, "2")
    ]


async def test_a_target_that_never_answered_makes_room_and_one_that_answered_does_not() -> None:
    """Shows that names of hosts that do not exist keep no target out."""
    site = Site()
    for number in range(MAX_TARGETS):
        host = site.probe_targets.get("default", f"kvm{number}.example")
        site.clock.advance(0.01)
        host.hostname = "there" if number < 3 else None
        if number in (5, 6):
            site.drivers[host.target].error = ConnectError("nobody")
            await host.get_host_stats(refresh=True, deadline=site.clock() + 20)
    assert (await site.ask("/probe?target=kvm9998.example")).status == HTTPStatus.OK
    assert (await site.ask("/probe?target=kvm9999.example")).status == HTTPStatus.OK
    left = {host.target for host in site.probe_targets.hosts}
    assert len(left) == MAX_TARGETS
    gone = {f"kvm{number}.example" for number in range(MAX_TARGETS)} - left
    assert gone == {"kvm5.example", "kvm6.example"}, "of those that failed, the ones asked longest ago"


async def test_between_probes_nothing_is_done_for_a_target_that_never_answered_or_is_probed_no_more() -> None:
    site = Site()
    done: list[str] = []
    for name in ("kvm1.example", "kvm2.example"):
        host = site.probe_targets.get("default", name)
        site.drivers[name].due = {"sizes": partial(done.append, name)}
        if name == "kvm2.example":
            site.drivers[name].error = ConnectError("nobody")
        await host.get_host_stats(refresh=True, deadline=site.clock() + 20)
    reads = site.drivers["kvm2.example"].reads
    site.probe_targets.maintain()
    await site.probe_targets.get("default", "kvm1.example").finish_maintenance()
    assert done
    assert set(done) == {"kvm1.example"}
    times = len(done)
    site.clock.advance(MAINTAINED_SECONDS + 1)
    site.probe_targets.maintain()
    await asyncio.sleep(0.05)
    assert (len(done), site.drivers["kvm2.example"].reads) == (times, reads)


async def test_probes_of_two_targets_at_once_have_each_its_own_answer() -> None:
    site = Site()
    first, second = await asyncio.gather(*(site.ask(f"/probe?target=kvm0{n}") for n in (1, 2)))
    assert 'target="kvm01"' in text(first)
    assert 'target="kvm02"' in text(second)
    assert 'target="kvm01"' not in text(second)


async def test_connections_to_probed_targets_end_with_the_exporter() -> None:
    site = Site()
    await site.ask("/probe?target=kvm77.example")
    site.probe_targets.close()
    assert site.probe_targets.hosts == ()
    assert await asyncio.to_thread(site.drivers["kvm77.example"].is_closed.wait, 20)

"""The configuration changes while the exporter runs, by SIGHUP and by POST, for better and for worse."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from exporter.attempt import MAX_IDLE_THREADS
from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

_OTHER = {"name": "other", "uri": "test:///default"}


@pytest.mark.parametrize("how", ["POST", "SIGHUP"])
def test_connections_of_unchanged_hypervisors_survive(how: str, libvirtd: LibvirtDaemon) -> None:
    """Shows that a reload adds and takes away hypervisors and times, and touches no other's connection."""
    kept = _hypervisor(libvirtd)
    settings = {"cache_ttl": "0s", "hypervisors": [kept, _OTHER]}
    with serve(settings) as exporter:
        before = _with_targets(exporter, ["kept", "other"])
        assert before is not None
        more = {"name": "more", "uri": "test:///default"}
        _rewrite(exporter, {**settings, "resync_interval": "7s", "hypervisors": [more, kept]})
        _reload(exporter, how)
        after = wait_until(lambda: _with_targets(exporter, ["more", "kept"]), "the reload")
        assert after.value("hypervisor_connects_total", target="kept") == 1
        assert after.value("hypervisor_events_total", target="kept") == 0
        libvirtd.define(guest_xml("guest"))
        wait_until(lambda: exporter.scrape().value("hypervisor_events_total", target="kept"), "its events")
        assert _succeeded(after)
        assert _timestamp(after) > _timestamp(before)


@pytest.mark.parametrize("how", ["POST", "SIGHUP"])
def test_a_bad_file_changes_nothing_and_every_mistake_is_said(how: str) -> None:
    """Shows that the old configuration stays in force, that it can be seen, and that a good file ends it."""
    settings: dict[str, Any] = {"hypervisors": [_OTHER]}
    with serve(settings) as exporter:
        before = exporter.scrape()
        _rewrite(exporter, {"cache_tll": "5s", "scrape_timeout": "soon", "hypervisors": [_OTHER]})
        answer = _reload(exporter, how)
        wait_until(lambda: not _succeeded(exporter.scrape()), "the refusal")
        after = exporter.scrape()
        for text in (exporter.log, answer) if how == "POST" else (exporter.log,):
            assert "cache_tll" in text
            assert "cache_ttl" in text, "the key that was meant"
            assert "scrape_timeout" in text
        assert after.series("hypervisor_up") == before.series("hypervisor_up")
        assert _timestamp(after) == _timestamp(before)
        _rewrite(exporter, settings)
        _reload(exporter, how)
        wait_until(lambda: _succeeded(exporter.scrape()), "the good file")


def test_a_hypervisor_that_is_taken_out_while_it_hangs_is_gone(libvirtd: LibvirtDaemon) -> None:
    """Shows that a reload waits for nobody, and that a scrape which waits meanwhile is answered."""
    settings = {"cache_ttl": "0s", "scrape_timeout": "2s", "hypervisors": [_hypervisor(libvirtd), _OTHER]}
    with serve(settings) as exporter:
        exporter.scrape()
        libvirtd.freeze()
        try:
            exporter.scrape()
            _rewrite(exporter, {**settings, "hypervisors": [_OTHER]})
            _reload(exporter, "POST")
            assert exporter.scrape(seconds=10).series("hypervisor_up") == [({"target": "other"}, 1)]
        finally:
            libvirtd.thaw()
        assert "Traceback" not in exporter.log


def test_reloads_during_refreshes_leave_no_connection_and_hide_no_hypervisor(libvirtd: LibvirtDaemon) -> None:
    """Shows it for a hypervisor far away, whose refresh is under way at almost any time.

    Half of the reloads take it out, and the other half bring it back by another name.
    """
    libvirtd.define_pool("images", libvirtd.images)
    with Proxy(urlsplit(libvirtd.uri_tcp).port or 0) as proxy:
        here = _hypervisor(libvirtd)
        settings = {"cache_ttl": "0s", "hypervisors": [here]}
        with serve(settings) as exporter:
            _with_targets(exporter, ["kept"])
            wait_until(lambda: _is_idle(exporter), "its idle threads")
            before = _count(exporter, "fd"), _count(exporter, "task")
            proxy.lag(0.02)
            with _scraping(exporter) as seen:
                for number in range(15):
                    there = {"name": f"far{number}", "uri": f"qemu+tcp://127.0.0.1:{proxy.port}/system"}
                    for hypervisors in ([here, there], [here]):
                        _rewrite(exporter, {**settings, "hypervisors": hypervisors})
                        assert _reload(exporter, "POST") == "Reloaded\n"
                        time.sleep(0.1 * (number % 4))
                _rewrite(exporter, {**settings, "hypervisors": [here, there]})
                assert _reload(exporter, "POST") == "Reloaded\n"
                wait_until(lambda: any(_has(scrape, there["name"]) for scrape in seen), "the one far away")
                _rewrite(exporter, settings)
                assert _reload(exporter, "POST") == "Reloaded\n"
            assert len(seen) > 30
            assert {scrape.get("hypervisor_up", target="kept") for scrape in seen} == {1}
            wait_until(lambda: _count(exporter, "fd") <= before[0] + 2, "its connections to end")
            assert _count(exporter, "task") <= before[1] + MAX_IDLE_THREADS
            assert "reason=timeout" not in exporter.log
            assert "Traceback" not in exporter.log


@pytest.mark.parametrize(
    "target", ["127.0.0.2", "evil.example", "127.0.0.1/session?x=", "127.0.0.1@evil", ""]
)
def test_a_target_that_no_module_allows_is_refused_with_the_reason(
    target: str, libvirtd: LibvirtDaemon
) -> None:
    """Shows that /probe connects to nothing but what the pattern matches as a whole."""
    with serve({"hypervisors": [_OTHER], "modules": {"default": _module(libvirtd.uri_tcp)}}) as exporter:
        status, text = _get(exporter, f"/probe?target={target}")
        assert status == 400
        assert text.count("\n") == 1
        assert "target" in text
        assert "reason=connect" not in exporter.log


def test_an_allowed_target_is_probed_over_one_connection(libvirtd: LibvirtDaemon) -> None:
    """Shows that probes share a connection, take the module's options, and are no part of /metrics."""
    libvirtd.start_guest(guest_xml("guest", vcpus=3))
    libvirtd.define_pool("images", libvirtd.images)
    module = {**_module(libvirtd.uri_tcp), "cpu_shared_set": "0"}
    settings = {"cache_ttl": "0s", "hypervisors": [_OTHER], "modules": {"tcp": module}}
    with serve(settings) as exporter:
        probes = [exporter.scrape("/probe?target=127.0.0.1&module=tcp") for _ in range(5)]
        assert probes[-1].value("hypervisor_connects_total", target="127.0.0.1") == 1
        assert probes[-1].value("hypervisor_vcpus_used") == 3
        assert probes[-1].value("hypervisor_vcpus") == 1
        assert not [name for name in probes[-1].names if name.startswith("process_")]
        assert exporter.scrape().series("hypervisor_up") == [({"target": "other"}, 1)]
        assert _get(exporter, "/probe?target=127.0.0.1&module=nosuch")[0] == 400
        assert exporter.scrape("/probe?target=other").value("hypervisor_up") == 1


def test_service_discovery_names_every_hypervisor() -> None:
    """Shows that what /sd answers can be scraped as it stands."""
    with serve({"hypervisors": [_OTHER]}) as exporter:
        status, text = _get(exporter, "/sd")
        ((group),) = json.loads(text)
        assert (status, group["targets"]) == (200, [exporter.address])
        labels = group["labels"]
        path = f"{labels['__metrics_path__']}?target={labels['__param_target']}"
        assert labels["instance"] == "other"
        assert exporter.scrape(path).value("hypervisor_up", target="other") == 1


def test_a_password_in_a_uri_is_shown_nowhere() -> None:
    """Shows that neither labels, pages, logs nor libvirt's own messages have it."""
    hypervisors = [
        {
            "uri": "qemu+tcp://metrics:hunter2@127.0.0.1:9/system?command=x&password=hunter3"
        },  # nobody is there
        {"uri": "nosuch://metrics:hunter2@127.0.0.1/system"},
        {"uri": "qemu+nosuch://metrics:hunter2@127.0.0.1/system"},
        {"uri": "qemu+tcp://metrics:hunter2@nosuch.invalid/system?secret=hunter3"},
    ]
    settings = {"log": {"level": "debug"}, "scrape_timeout": "3s", "hypervisors": hypervisors}
    with serve(settings) as exporter:
        texts = [_get(exporter, path)[1] for path in ("/metrics", "/sd", "/")]
        wait_until(lambda: exporter.log.count("level=error") >= 3, "libvirt's messages")
        texts.append(exporter.log)
    assert "metrics@127.0.0.1" in texts[0]
    for text in texts:
        assert "hunter" not in text


def _hypervisor(libvirtd: LibvirtDaemon) -> dict[str, Any]:
    return {"name": "kept", "uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images)}


def _module(uri: str) -> dict[str, Any]:
    return {"uri": uri.replace("127.0.0.1", "{target}"), "target": r"127\.0\.0\.1"}


def _rewrite(exporter: RunningExporter, settings: dict[str, Any]) -> None:
    exporter.config.write_text(json.dumps(settings))


def _reload(exporter: RunningExporter, how: str) -> str:
    """Reload; return what was answered to a POST."""
    if how == "SIGHUP":
        exporter.process.send_signal(signal.SIGHUP)
        return ""
    return _get(exporter, "/-/reload", method="POST")[1]


def _get(exporter: RunningExporter, path: str, *, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{exporter.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _with_targets(exporter: RunningExporter, targets: list[str]) -> Scrape | None:
    scrape = exporter.scrape()
    return scrape if [labels["target"] for labels, _ in scrape.series("hypervisor_up")] == targets else None


@contextlib.contextmanager
def _scraping(exporter: RunningExporter) -> Iterator[list[Scrape]]:
    """Scrape without a pause; the list has what was answered."""
    seen: list[Scrape] = []
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.is_set():
            seen.append(exporter.scrape())

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join(30)


def _has(scrape: Scrape, target: str) -> bool:
    return scrape.get("hypervisor_up", target=target) is not None


def _is_idle(exporter: RunningExporter) -> bool:
    return exporter.scrape().value("hypervisor_refreshes_in_flight") == 0


def _count(exporter: RunningExporter, what: str) -> int:
    """Return how many descriptors ("fd") or threads ("task") the process has."""
    return len(list(Path(f"/proc/{exporter.process.pid}/{what}").iterdir()))


def _succeeded(scrape: Scrape) -> bool:
    return scrape.value("hypervisor_exporter_config_last_reload_successful") == 1


def _timestamp(scrape: Scrape) -> float:
    return scrape.value("hypervisor_exporter_config_last_reload_success_timestamp_seconds")

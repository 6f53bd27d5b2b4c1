"""Many people look at the page at once."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.exporter_process import RunningExporter, serve


def test_viewers_who_come_at_once_get_the_page() -> None:
    """None of them is answered with an error, whoever began the audit that they wait for."""
    hypervisors = [{"name": f"kvm{number}", "uri": "test:///default"} for number in range(20)]
    settings = {"cache_ttl": "0s", "hypervisors": hypervisors}
    with serve(settings) as exporter, ThreadPoolExecutor(30) as viewers:
        statuses = [viewers.submit(_look, exporter, 10) for _ in range(30)]
        counts = {status for viewer in statuses for status in viewer.result()}
        assert counts == {200}
        assert "Traceback" not in exporter.log


def _look(exporter: RunningExporter, times: int) -> list[int]:
    connection = http.client.HTTPConnection(exporter.address, timeout=30)
    statuses = []
    for _ in range(times):
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


def test_viewers_of_a_large_fleet_delay_no_scrape() -> None:
    """They are 150, and there are 300 hypervisors; each page is a scrape's work many times over."""
    hypervisors = [{"name": f"kvm{number}", "uri": "test:///default"} for number in range(300)]
    with serve({"hypervisors": hypervisors}) as exporter, ThreadPoolExecutor(150) as viewers:
        alone = _time_scrape(exporter)
        looks = [viewers.submit(_look, exporter, 4) for _ in range(150)]
        times = []
        while not all(each.done() for each in looks):
            times.append(_time_scrape(exporter))
        assert {status for look in looks for status in look.result()} <= {200, 503}
    assert times
    assert max(times) < max(5.0, 15 * alone)


def _time_scrape(exporter: RunningExporter) -> float:
    started = time.monotonic()
    assert len(exporter.scrape(seconds=30).series("hypervisor_up")) == 300
    return time.monotonic() - started

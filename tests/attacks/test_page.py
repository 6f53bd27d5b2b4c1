"""Many people look at the page at once."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor

from tests.support.exporter_process import RunningExporter, serve


def test_viewers_who_come_at_once_get_the_page() -> None:
    """None of them is answered with an error, whoever began the audit that they wait for."""
    hypervisors = [{"name": f"kvm{number}", "uri": "test:///default"} for number in range(20)]
    settings = {"cache_ttl": "0s", "hypervisors": hypervisors}
    with serve(settings) as exporter, ThreadPoolExecutor(40) as viewers:
        statuses = [viewers.submit(_look, exporter, 10) for _ in range(40)]
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

"""The wall clock is set back and forth while the exporter runs; the monotonic clock goes on, as on Linux."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.support.exporter_process import RunningExporter, serve
from tests.support.waiting import wait_until

HOUR = 3600
_LIBRARY = "libfaketime.so.1"


def test_a_wall_clock_that_is_set_makes_nothing_stale_and_nothing_hang(tmp_path: Path) -> None:
    """Shows that caches, graces and durations do not go by a clock that may be set."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    settings = {
        "cache_ttl": "100ms",
        "stale_grace": "5s",
        "hypervisors": [{"name": "test", "uri": "test:///default"}],
    }
    with serve(settings, command=_command(offset)) as exporter:
        assert abs(_read_age(exporter)) < HOUR / 2
        for hours in (-1, 24, -240, 0):
            offset.write_text(f"{hours * HOUR:+d}")
            before = _count_refreshes(exporter)
            wait_until(lambda before=before: _count_refreshes(exporter) > before + 2, "more refreshes")
            scrape = exporter.scrape()
            assert scrape.value("hypervisor_up") == 1
            assert 0 <= scrape.value("hypervisor_refresh_duration_seconds") < HOUR / 2
            assert abs(_read_age(exporter) + hours * HOUR) < HOUR / 2, "the clock that Prometheus has"
        assert "Traceback" not in exporter.log


def _command(offset: Path) -> list[str]:
    """Return the exporter's command, with a wall clock that is off by what the file says."""
    (library,) = Path("/usr").glob(f"lib*/**/faketime/{_LIBRARY}")
    variables = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": offset,
        "FAKETIME_NO_CACHE": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
    }
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return ["env", *assignments, sys.executable, "-m", "exporter"]


def _read_age(exporter: RunningExporter) -> float:
    """Return by how many seconds the snapshot is older than now, by this process's clock."""
    return time.time() - exporter.scrape().value("hypervisor_snapshot_timestamp_seconds")


def _count_refreshes(exporter: RunningExporter) -> float:
    return exporter.scrape().value("hypervisor_exporter_refresh_duration_seconds_count")

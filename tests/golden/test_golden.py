"""What /metrics is for the golden hypervisor: `make golden` writes it anew, for a person to look at."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.golden.hypervisor import FOLDER, serve_golden
from tests.golden.normalise import normalise
from tests.support.exporter_process import RunningExporter

SETTLE_SECONDS = 10
FORMATS = {"metrics.txt": "text/plain", "metrics.openmetrics.txt": "application/openmetrics-text"}


@pytest.fixture(scope="module")
def exporter() -> Iterator[RunningExporter]:
    with serve_golden() as exporter:
        yield exporter


@pytest.mark.parametrize(("name", "accept"), FORMATS.items(), ids=list(FORMATS))
def test_it_is_as_it_was(
    exporter: RunningExporter, name: str, accept: str, request: pytest.FixtureRequest
) -> None:
    """Every family, help, type, label and value, and their order."""
    golden = FOLDER / name
    found = _get_settled(exporter, accept, golden.read_text())
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    expected = golden.read_text()
    assert found == expected, _advise(found, expected)


def _get_settled(exporter: RunningExporter, accept: str, expected: str) -> str:
    """Return the exposition. On a busy machine, wait until what is read between scrapes was read, too."""
    over = time.monotonic() + SETTLE_SECONDS
    while True:
        found = normalise(exporter.get("/metrics", accept=accept))
        if found == expected or time.monotonic() > over:
            return found
        time.sleep(0.2)


def _advise(found: str, expected: str) -> str:
    """Return what to do about a difference."""
    lines, golden = found.splitlines(), expected.splitlines()
    changed = sorted({re.split("[{ ]", line)[0] for line in {*lines} ^ {*golden} if not line.startswith("#")})
    if [line.rpartition(" ")[0] for line in lines] == [line.rpartition(" ")[0] for line in golden]:
        return (
            f"other values of {', '.join(changed)}. If the change is meant: make golden."
            " If they depend on a clock or on this machine: tests/golden/normalise.py, _MEASURED"
        )
    return f"other samples of {', '.join(changed) or 'none'}. If the change is meant: make golden"


def test_promtool_finds_nothing_but_novas_units(exporter: RunningExporter) -> None:
    """Nova's names are wanted as they are; whatever else its linter says is a defect."""
    result = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exporter.get("/metrics"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    remarks = (result.stdout + result.stderr).splitlines()
    novas = re.compile(r"hypervisor_\w+_(mb|gb)(_\w+)? metric names should not contain abbreviated units")
    assert [remark for remark in remarks if not novas.fullmatch(remark)] == []
    assert remarks, "promtool has always had something to say of _mb and _gb"


def test_both_formats_can_be_parsed_and_say_the_same() -> None:
    """By the strict parser of OpenMetrics, too; in the golden files, which the scrapes are equal to."""
    text, openmetrics = ((FOLDER / name).read_text() for name in FORMATS)
    assert list_samples(parse_openmetrics(openmetrics)) == list_samples(parse_text(text))


def list_samples(families: Iterable[Metric]) -> list[tuple[str, dict[str, str], float]]:
    return [(each.name, each.labels, each.value) for family in families for each in family.samples]

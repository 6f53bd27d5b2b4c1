"""A source of one libvirt call: what collectors get of it, whatever the call does."""

from __future__ import annotations

import logging

import pytest

from exporter.errors import ConnectError, ConnectionLostError, DeniedError, UnsupportedError
from exporter.model import Resources, Severity
from exporter.virt.call_source import CallSource
from exporter.virt.calls import WaitingHypervisor
from tests.support.driver_bench import Bench
from tests.support.hosts import make_settings


class Example(CallSource[dict[str, int]]):
    """A source of a call that libvirt does not have."""

    name = "example"

    def ask(self, connection: WaitingHypervisor) -> dict[str, int]:
        return dict(connection.ask("virConnectGetExample", lambda libvirt: libvirt.getExample(-1)))


class ExampleBench(Bench):
    """Has this source beside all others."""

    def __init__(self) -> None:
        super().__init__()
        settings = make_settings(stale_grace=120)
        source = Example(self.libvirt.make_connections(self.clock), settings, clock=self.clock)
        self.driver = self.make_driver(more_sources=(source,))
        self.answer({"user": 1})

    def answer(self, answer: dict[str, int] | Exception) -> None:
        self.libvirt.answers["getExample"] = answer

    def count_asked(self) -> int:
        return sum(call == "getExample" for call, _ in self.libvirt.asked)


def get_part(resources: Resources) -> object | None:
    return resources.parts.get("example")


def test_each_refresh_asks_once_and_hands_the_answer_to_collectors() -> None:
    bench = ExampleBench()
    for number in (1, 2):
        bench.answer({"user": number})
        resources = bench.read()
        assert get_part(resources) == {"user": number}
        assert resources.ages["example"] == 0
        assert bench.count_asked() == number


def test_while_libvirt_does_not_answer_the_last_answer_is_used_with_its_age() -> None:
    bench = ExampleBench()
    bench.read()
    with bench.libvirt.held("getExample"):
        bench.read()
        assert bench.driver.get_stats().hung == 1
        bench.clock.now += 100
        resources = bench.read()
        assert get_part(resources) == {"user": 1}
        assert 100 < resources.ages["example"] < 102
        bench.driver.configure(resync_interval=60, stale_grace=50)
        resources = bench.read()
        assert get_part(resources) is None
        assert "example" not in resources.ages
        assert [problem.reason for problem in resources.problems] == ["timeout"]
    assert get_part(bench.read()) == {"user": 1}


@pytest.mark.parametrize(
    ("error", "severity", "reason"),
    [
        (DeniedError("polkit"), Severity.ERROR, "denied"),
        (UnsupportedError("no"), Severity.NOTE, "unsupported"),
        (KeyError("user"), Severity.ERROR, "internal"),
    ],
)
def test_an_error_costs_this_part_only_and_is_a_problem(
    error: Exception, severity: Severity, reason: str
) -> None:
    bench = ExampleBench()
    bench.answer(error)
    resources = bench.read()
    assert get_part(resources) is None
    assert resources.vcpus == 8
    (problem,) = resources.problems
    assert (problem.severity, problem.reason, problem.subject) == (severity, reason, "example")
    assert bench.read().problems == (problem,)


def test_a_call_that_the_hypervisor_does_not_have_is_made_again_after_a_new_connection() -> None:
    bench = ExampleBench()
    bench.answer(UnsupportedError("no"))
    for _ in range(3):
        bench.read()
    assert bench.count_asked() == 1
    bench.answer({"user": 1})
    bench.hypervisor.disconnect()
    resources = bench.read()
    assert (get_part(resources), resources.problems) == ({"user": 1}, ())


def test_a_defect_is_one_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bench = ExampleBench()
    bench.answer(KeyError("user"))
    for _ in range(3):
        bench.read()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "a defect of this program")
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [ConnectError("refused"), ConnectionLostError("closed")])
def test_a_lost_connection_is_an_error_of_the_refresh(error: Exception) -> None:
    bench = ExampleBench()
    bench.answer(error)
    with pytest.raises(type(error)):
        bench.read()

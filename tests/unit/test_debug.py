"""What a debugged scrape says."""

from __future__ import annotations

import re
from typing import Any

from exporter.config.settings import Config, HypervisorConfig
from exporter.model import Problem, Severity
from exporter.recorder import CALL, REFRESH, STEP, Recorder
from exporter.web.debug import Debugged, render_debug
from tests.support.hosts import Clock
from tests.support.records import make_view

HOSTILE = "guest\n\x1b[2J\u202eevil</pre><script>"


def render(recording: Any, clock: Clock, **changes: Any) -> str:
    debugged = {
        "hypervisor": HypervisorConfig(uri="qemu+tls://kvm01/system", name="kvm01"),
        "config": Config(disabled_collectors=frozenset({"numa"})),
        "view": make_view(),
        "recording": recording,
        "ended_at": clock(),
        "metrics": "hypervisor_up 1\n",
        **changes,
    }
    return render_debug(Debugged(**debugged)).decode()


def test_it_shows_calls_with_their_times_the_settings_and_the_metrics() -> None:
    clock = Clock()
    recorder = Recorder(clock=clock)
    with recorder.recording() as recording:
        clock.now += 0.25  # before the refresh began
        refresh = recorder.begin(STEP, REFRESH)
        clock.now += 0.5
        with recorder.step("virNodeGetInfo", kind=CALL):
            clock.now += 0.125
        recorder.note_earlier("the capabilities", 5)
        recorder.end(refresh)
    text = render(recording, clock)
    assert text.startswith("Refresh of kvm01: ended after 0.6250 s.\n")
    assert "under way" not in text
    assert re.search(r"^ +0\.5000 +0\.1250  call     virNodeGetInfo: ok \[MainThread\]$", text, re.MULTILINE)
    for line in (
        "the capabilities: 5.0 s old",
        "cache_ttl: 5s",
        "disabled collectors: numa",
        "uri: 'qemu+tls://kvm01/system'",
        "cpu_allocation_ratio: 4.0",
        "hypervisor_up 1",
    ):
        assert f"\n{line}\n" in text


def test_a_call_that_hangs_is_under_way_and_a_refresh_that_others_began_is_shared() -> None:
    clock = Clock()
    recorder = Recorder(clock=clock)
    recorder.begin(STEP, REFRESH)
    clock.now += 1
    recorder.begin(CALL, "virConnectGetAllDomainStats")
    clock.now += 3
    with recorder.recording() as recording:
        clock.now += 8
    text = render(recording, clock)
    assert text.startswith("Refresh of kvm01: still under way after 12.000 s, when this answer was due.\n")
    assert "under way already, since 4.000 s before this request, which shares it" in text
    assert re.search(r"\n +1\.0000 +>11\.0000  call     virConnectGetAllDomainStats: UNDER WAY", text)


def test_without_a_refresh_it_says_so() -> None:
    clock = Clock()
    with Recorder(clock=clock).recording() as recording:
        text = render(
            recording, clock, view=make_view(snapshot=None, refresh=None, age_seconds=None, is_up=False)
        )
    assert text.startswith("Refresh of kvm01: none was made.\nUp: no. Numbers: there are no numbers.")
    assert "Steps and calls, in seconds since the refresh began:\n\nnone\n" in text


def test_names_and_messages_of_others_are_one_line_of_visible_characters() -> None:
    clock = Clock()
    recorder = Recorder(clock=clock)
    with (
        recorder.recording() as recording,
        recorder.step("virDomainGetInfo", HOSTILE + "x" * 1000, kind=CALL),
    ):
        pass
    problem = Problem(severity=Severity.ERROR, reason="guest_xml", subject="", message=HOSTILE)
    hypervisor = HypervisorConfig(uri="test:///default", name=HOSTILE)
    text = render(recording, clock, view=make_view(problems=(problem,)), hypervisor=hypervisor)
    assert text.count(r"guest\n\x1b[2J\u202eevil") == 3
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(map(len, text.split("\n"))) < 500


def test_users_and_passwords_are_left_out() -> None:
    clock = Clock()
    uri = "qemu+ssh://root:hunter2@kvm01/system?keyfile=/root/.ssh/id&password=hunter3&no_verify=1"
    with Recorder(clock=clock).recording() as recording:
        text = render(recording, clock, hypervisor=HypervisorConfig(uri=uri, rbd_user="root-of-ceph"))
    assert "uri: 'qemu+ssh://***@kvm01/system?keyfile=***&no_verify=1'" in text
    assert not re.search("hunter|root|rbd_user", text)

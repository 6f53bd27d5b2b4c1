"""What is recorded of a refresh, and that nothing is kept while nobody asks."""

from __future__ import annotations

from itertools import count

import pytest

from exporter import recorder
from exporter.errors import GoneError
from exporter.recorder import CALL, EARLIER, FILES, STEP, Entry, Recorder


def make_recorder() -> Recorder:
    """Return one whose clock goes on by 1 s each time that it is looked at."""
    return Recorder(clock=count(1.0).__next__)


def test_what_begins_and_ends_while_somebody_records_is_kept_in_its_order() -> None:
    recorder = make_recorder()
    with recorder.recording() as recording:
        outer = recorder.begin(STEP, "outer")
        with recorder.step("virDomainGetInfo", "guest", kind=CALL):
            pass
        recorder.end(outer)
    assert recording.get_entries() == [
        Entry(STEP, "outer", "", "MainThread", 2.0, 5.0, "ok"),
        Entry(CALL, "virDomainGetInfo", "guest", "MainThread", 3.0, 4.0, "ok"),
    ]


def test_what_is_under_way_when_the_recording_begins_is_in_it_and_what_has_ended_is_not() -> None:
    recorder = make_recorder()
    with recorder.step("over"):
        pass
    hung = recorder.begin(CALL, "hung")
    with recorder.recording() as recording:
        assert [(each.name, each.ended_at) for each in recording.get_entries()] == [("hung", None)]
        recorder.end(hung)
    with recorder.step("later"):
        pass
    assert [(each.name, each.outcome) for each in recording.get_entries()] == [("hung", "ok")]


def test_what_began_before_anybody_could_say_so_has_that_time() -> None:
    recorder = make_recorder()
    with recorder.recording() as recording:
        recorder.begin(FILES, "read", "/mnt/gone", started_at=-5)
    assert [(each.started_at, each.ended_at) for each in recording.get_entries()] == [(-5, None)]


def test_two_may_record_at_once_and_each_has_all() -> None:
    recorder = make_recorder()
    with recorder.recording() as first:
        with recorder.recording() as second, recorder.step("both"):
            pass
        with recorder.step("first"):
            pass
    assert [each.name for each in first.get_entries()] == ["both", "first"]
    assert [each.name for each in second.get_entries()] == ["both"]


def test_the_outcome_is_the_error_and_no_more_than_its_kind_where_it_may_hold_a_password() -> None:
    recorder = make_recorder()
    with recorder.recording() as recording:
        with pytest.raises(GoneError), recorder.step("a"):
            raise GoneError("no such domain")
        with pytest.raises(ValueError, match="secret"), recorder.step("b"):
            raise ValueError("secret")
    assert [each.outcome for each in recording.get_entries()] == ["gone: no such domain", "failed"]


def test_an_earlier_answer_is_noted_with_its_age() -> None:
    recorder = make_recorder()
    assert not recorder.is_recording
    with recorder.recording() as recording:
        assert recorder.is_recording
        recorder.note_earlier("the capabilities", 12.34)
    (entry,) = recording.get_entries()
    assert (entry.kind, entry.name, entry.outcome) == (EARLIER, "the capabilities", "12.3 s old")


def test_a_recording_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_ENTRIES", 2)
    one = make_recorder()
    with one.recording() as recording:
        for _ in range(5):
            one.end(one.begin(CALL, "call"))
    assert (len(recording.get_entries()), recording.left_out) == (2, 3)

"""One record is one line, whatever a guest's owner called the guest."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from exporter.log import (
    BURST_LINES,
    FLUSH_SECONDS,
    LINES_PER_SECOND,
    MAX_VALUE_CHARACTERS,
    MAX_WAITING_BYTES,
    LogfmtFormatter,
    QueuedHandler,
    configure_logging,
)
from tests.support.hosts import Clock
from tests.support.waiting import wait_until

HOSTILE = 'x\n\r\x1b[31m"=\u202e\u2028\udcff<script> level=error'


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def flush() -> None:
    """Wait until the thread has written what was logged."""
    for handler in logging.getLogger().handlers:
        handler.flush()


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_hostile_name_stays_one_harmless_value(form: str) -> None:
    """No line end, control character or quote gets out of its field; the text is still the same."""
    stream = io.StringIO()
    configure_logging(level="info", form=form, stream=stream)
    logging.getLogger("test").warning("domain %s", HOSTILE, extra={"domain": HOSTILE})
    flush()
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["domain"] == HOSTILE
    else:
        assert json.loads(line[line.index(" domain=") + len(" domain=") :]) == HOSTILE


def test_a_plain_value_stands_without_quotes() -> None:
    """As the rest of the Prometheus family writes it."""
    stream = io.StringIO()
    configure_logging(level="info", form="logfmt", stream=stream)
    logging.getLogger("test").info("listening", extra={"addresses": ":9177"})
    flush()
    assert stream.getvalue().endswith(" level=info source=test msg=listening addresses=:9177\n")


class Reader:
    """A stream whose reader hangs until it is told to read."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.text = ""

    def fileno(self) -> int:
        raise io.UnsupportedOperation

    def write(self, text: str) -> int:
        assert self.reads.wait(20)
        self.text += text
        return len(text)


def make_handler(stream: Any, clock: Callable[[], float] = lambda: 0.0) -> QueuedHandler:
    handler = QueuedHandler(stream, clock=clock)
    handler.setFormatter(LogfmtFormatter())
    return handler


def make_record(message: str, *, level: int = logging.INFO, error: Exception | None = None) -> Any:
    exc_info = None if error is None else (type(error), error, None)
    return logging.LogRecord("test", level, "a.py", 1, message, None, exc_info)


def test_whoever_logs_does_not_wait_for_the_reader_and_what_was_dropped_is_counted() -> None:
    """More than the queue holds, while nobody reads; then somebody does."""
    stream = Reader()
    handler = make_handler(stream)
    for _ in range(1000):
        handler.emit(make_record("x" * MAX_VALUE_CHARACTERS))
    stream.reads.set()
    wait_until(lambda: "lines were dropped" in stream.text, "the count")
    written = stream.text.count("msg=xxx")
    assert written * MAX_VALUE_CHARACTERS < MAX_WAITING_BYTES
    assert f" lines={1000 - written}\n" in stream.text
    handler.emit(make_record("again"))
    handler.flush()
    assert stream.text.endswith("msg=again\n")
    assert stream.text.count("lines were dropped") == 1


def test_the_end_of_the_process_waits_for_a_reader_that_hangs_a_moment_only() -> None:
    stream = Reader()
    handler = make_handler(stream)
    handler.emit(make_record("last words"))
    started = time.monotonic()
    handler.flush()
    assert time.monotonic() - started < FLUSH_SECONDS + 5
    stream.reads.set()


def test_a_defect_that_shows_in_each_request_is_logged_once_a_minute() -> None:
    clock = Clock()
    stream = io.StringIO()
    handler = make_handler(stream, clock)
    for seconds in (0, 1, 58, 2, 1):
        clock.now += seconds
        handler.emit(make_record("a defect", error=ValueError("one")))
        handler.emit(make_record("another defect", error=KeyError("two")))
    handler.flush()
    assert stream.getvalue().count("a defect") == 2
    assert stream.getvalue().count("another defect") == 2


def test_whoever_finds_a_way_to_cause_lines_fills_no_disk() -> None:
    """A burst, and then so many a second; at level debug all."""
    clock = Clock()
    stream = io.StringIO()
    handler = make_handler(stream, clock)
    for seconds in (0, 10):
        clock.now += seconds
        for number in range(BURST_LINES + 50):
            handler.emit(make_record("line"))
            if number % 1000 == 0:
                handler.flush()
        handler.flush()
    assert stream.getvalue().count("msg=line") == BURST_LINES + 10 * LINES_PER_SECOND
    handler.emit(make_record("a step", level=logging.DEBUG))
    handler.flush()
    assert 'msg="a step"' in stream.getvalue()


def test_a_value_as_long_as_a_guest_likes_is_cut() -> None:
    stream = io.StringIO()
    handler = make_handler(stream)
    handler.emit(make_record("x" * 1_000_000))
    handler.flush()
    assert 'x... (998000 more)"' in stream.getvalue()


def test_to_configure_it_anew_loses_nothing_and_starts_no_other_thread() -> None:
    stream = io.StringIO()
    threads = threading.active_count()
    for form in ("logfmt", "json", "logfmt"):
        configure_logging(level="info", form=form, stream=stream)
        logging.getLogger("test").info(form)
    flush()
    assert len(stream.getvalue().splitlines()) == 3
    assert threading.active_count() == threads + 1

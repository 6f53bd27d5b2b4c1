"""Log lines: one line for each record, in logfmt or JSON, as in the Prometheus family.

Logging never waits for the reader of the log: lines go into a queue, and a thread writes them. Lines that do
not fit into the queue are counted. The count is logged when lines can be written again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TextIO

from exporter.attempt import Failure, attempt

MAX_WAITING_BYTES = 2**20
MAX_VALUE_CHARACTERS = 2000
MAX_TRACEBACK_CHARACTERS = 8000
FLUSH_SECONDS = 1.0

# This many lines are written at once (a fleet without network needs one for each hypervisor), then this many
# a second. So hostile clients cannot fill the disk.
BURST_LINES = 5000
LINES_PER_SECOND = 20.0
# A defect in every request is logged with its traceback only once in this many seconds.
REPEAT_SECONDS = 60.0
_MAX_KNOWN_DEFECTS = 100

# The attributes of every LogRecord. All others came by `extra` and are written.
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[!#-<>-~]+")  # printable ASCII without blanks, quotes and equals signs


def configure_logging(*, level: str, form: str, stream: TextIO) -> None:
    """Send all messages of this level and above to the stream, and nothing anywhere else."""
    root = logging.getLogger()
    known = [each for each in root.handlers if isinstance(each, QueuedHandler) and each.stream is stream]
    handler = known[0] if known else QueuedHandler(stream, clock=time.monotonic)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class QueuedHandler(logging.Handler):
    """Lets its own thread write the records.

    :param stream: the destination; if it has a descriptor, this is used, so that a hung write holds no lock
        of Python that the end of the process would wait for
    :param clock: monotonic seconds
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        super().__init__()
        self.stream = stream
        self._write = _find_write(stream)
        self._limit = _Limit(clock)
        self._changed = threading.Condition()
        self._lines: deque[str] = deque()
        self._waiting_bytes = 0  # the bytes of the lines in the queue, and of the line being written
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record into the queue, if there is room."""
        is_allowed = self._limit.allows(record)
        line = f"{self.format(record)}\n" if is_allowed else ""
        with self._changed:
            if not is_allowed or self._waiting_bytes + len(line) > MAX_WAITING_BYTES or not self._start():
                self._dropped += 1
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait a moment until all is written.

        A reader that does not read must not block the end of the process.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting_bytes, timeout=FLUSH_SECONDS)

    def _start(self) -> bool:
        """Whether there is a thread that writes. The process may be unable to start more threads."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="log", daemon=True)
            if isinstance(attempt(thread.start), Failure):
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            is_written = not isinstance(attempt(lambda line=line: self._write(line)), Failure)  # type: ignore[misc]
            with self._changed:
                self._waiting_bytes -= len(line)
                self._dropped += not is_written
                if is_written and self._dropped and not self._lines:
                    self._lines.append(self._describe_dropped())
                    self._waiting_bytes += len(self._lines[0])
                self._changed.notify_all()

    def _describe_dropped(self) -> str:
        record = logging.makeLogRecord(
            {
                "name": __name__,
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "msg": "log lines were dropped: nobody took them, or they were too many",
                "lines": self._dropped,
            }
        )
        self._dropped = 0
        return f"{self.format(record)}\n"


class _Limit:
    """Decides which records are too many; see BURST_LINES and REPEAT_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = float(BURST_LINES)
        self._filled_at = clock()
        self._defects: dict[object, float] = {}

    def allows(self, record: logging.LogRecord) -> bool:
        """Whether this record may be written. At level debug there is no limit."""
        if record.levelno < logging.INFO:
            return True
        now = self._clock()
        if record.exc_info and self._is_repeated(record, now):
            return False
        gained = (now - self._filled_at) * LINES_PER_SECOND
        self._tokens, self._filled_at = min(BURST_LINES, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _is_repeated(self, record: logging.LogRecord, now: float) -> bool:
        """Whether the same error was logged at the same place a short time ago."""
        defect = (record.pathname, record.lineno, record.exc_info and record.exc_info[0])
        if now - self._defects.get(defect, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return True
        if len(self._defects) >= _MAX_KNOWN_DEFECTS:
            self._defects.clear()
        self._defects[defect] = now
        return False


def _find_write(stream: TextIO) -> Callable[[str], object]:
    """Return the function that writes to the stream. It may hang."""
    descriptor = attempt(stream.fileno)
    if isinstance(descriptor, Failure):  # it is in memory
        return stream.write
    number = descriptor.value

    def write(text: str) -> None:
        left = text.encode(errors="backslashreplace")
        while left:
            # Another process that shares the descriptor may have made it non-blocking.
            select.select([], [number], [])
            left = left[os.write(number, left) :]

    return write


class LogfmtFormatter(logging.Formatter):
    """Writes `time=… level=info msg="…" key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(f"{key}={_quote(str(value))}" for key, value in _fields(self, record).items())


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return json.dumps(_fields(self, record), default=str)


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    time = datetime.fromtimestamp(record.created, timezone.utc)
    fields: dict[str, Any] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "source": record.name,
        "msg": record.getMessage(),
    }
    fields |= {key: value for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES}
    fields = {key: _cut(value) for key, value in fields.items()}
    if record.exc_info:
        # The end of a traceback says what went wrong, and where.
        fields["traceback"] = formatter.formatException(record.exc_info)[-MAX_TRACEBACK_CHARACTERS:]
    return fields


def _cut(value: Any) -> Any:
    """Return the value, or its cut text if it is too long: guests' names may be long."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    left_out = len(text) - MAX_VALUE_CHARACTERS
    return f"{text[:MAX_VALUE_CHARACTERS]}... ({left_out} more)" if left_out > 0 else value


def _quote(text: str) -> str:
    """Return plain text as it is, other text as a JSON string. So no control character gets through."""
    return text if _BARE.fullmatch(text) else json.dumps(text)

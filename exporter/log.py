"""Log lines: one record, one line, in logfmt or JSON, as the rest of the Prometheus family writes them."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone
from typing import Any, TextIO

# What LogRecord has by itself; everything else on a record came by `extra` and is written out.
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[!#-<>-~]+")  # printable ASCII without blanks, quotes and equals signs


def configure_logging(*, level: str, form: str, stream: TextIO) -> None:
    """Send everything of at least this level to the stream, and nothing anywhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


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
    if record.exc_info:
        fields["traceback"] = formatter.formatException(record.exc_info)
    return fields


def _quote(text: str) -> str:
    """Return the text bare if it is plain, else as a JSON string: no control character gets through."""
    return text if _BARE.fullmatch(text) else json.dumps(text)

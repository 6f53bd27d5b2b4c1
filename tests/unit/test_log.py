"""One record is one line, whatever a guest's owner called the guest."""

from __future__ import annotations

import io
import json
import logging

import pytest

from exporter.log import configure_logging

HOSTILE = 'x\n\r\x1b[31m"=\u202e\u2028\udcff<script> level=error'


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_a_hostile_name_stays_one_harmless_value(form: str) -> None:
    """No line end, control character or quote gets out of its field; the text is still the same."""
    stream = io.StringIO()
    configure_logging(level="info", form=form, stream=stream)
    logging.getLogger("test").warning("domain %s", HOSTILE, extra={"domain": HOSTILE})
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
    assert stream.getvalue().endswith(" level=info source=test msg=listening addresses=:9177\n")

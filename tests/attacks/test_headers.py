"""Headers of the web configuration that the HTTP library refuses to send."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.web.served import check, serve_web

CLEANED = {"max-age=1\n": "max-age=1", " max-age=2": "max-age=2", "max-age=3\r\nX: y": "max-age=3  X: y"}


def write(directory: Path, header: str) -> Path:
    file = directory / "web.yml"
    file.write_text(json.dumps({"http_server_config": {"headers": {"Strict-Transport-Security": header}}}))
    return file


def test_a_header_is_cleaned_as_go_does_when_it_is_taken_up_too(tmp_path: Path) -> None:
    """Every answer is whole, and has the header that the file has by now."""
    with serve_web(write(tmp_path, "max-age=0")) as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        for header, sent in (*CLEANED.items(), ("max-age=4; \u00fc", "max-age=4; \u00c3\u00bc")):
            write(tmp_path, header)
            wait_until(lambda sent=sent: read_header(url) == sent, f"the header {sent}", seconds=20)


def read_header(url: str) -> str | None:
    with urllib.request.urlopen(url, timeout=10) as response:
        assert b"hypervisor_up" in response.read()
        header: str | None = response.headers["strict-transport-security"]
        return header


@pytest.mark.parametrize("header", ["max-age=1\0", "max-age=1\x7f", "\ud800"])
def test_a_header_that_cannot_be_sent_is_refused_when_it_is_checked_and_when_it_is_taken_up(
    tmp_path: Path, header: str
) -> None:
    status, said = check(write(tmp_path, header))
    assert status == 1
    assert said.count("\n") == 1
    assert "expected text without control characters" in said or "YAML" in said
    with serve_web(write(tmp_path, "max-age=1")) as served:
        url = f"http://127.0.0.1:{served.port}/metrics"
        write(tmp_path, header)
        wait_until(lambda: "web configuration refused" in served.log, "the refusal", seconds=20)
        assert read_header(url) == "max-age=1"

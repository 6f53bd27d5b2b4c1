"""What libvirt's library says of its own accord becomes lines of the exporter's log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from exporter.virt.libvirt_log import redirect_libvirt_log, relay_line
from tests.support.waiting import wait_until

HEAD = "2026-11-27 23:56:49.646+0000: 24522: "


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        (
            "warning : virGetHostnameImpl:462 : getaddrinfo failed for 'kvm01': Name or service not known",
            logging.WARNING,
            "getaddrinfo failed for 'kvm01': Name or service not known",
        ),
        (
            "warning : virFind:9 : Malformed entry 'qemu+tcp://me:secret@kvm01/system'",
            logging.WARNING,
            "Malformed entry 'qemu+tcp://me@kvm01/system'",
        ),
        ("error : virNodeGetMemoryStats:678 : not supported", logging.DEBUG, "not supported"),
        ("info : libvirt version: 9.0.0", logging.DEBUG, "libvirt version: 9.0.0"),
    ],
)
def test_a_line_gets_its_level_and_loses_its_head(
    line: str, level: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors are raised, too, and so are not told twice; no password gets through."""
    with caplog.at_level(logging.DEBUG):
        assert relay_line(HEAD + line, logging.WARNING) == level
    assert caplog.record_tuples == [("libvirt", level, message)]


def test_a_line_without_a_head_goes_on_as_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        level = relay_line(HEAD + "error : virThing:1 : first line", logging.WARNING)
        assert relay_line("second line", level) == logging.DEBUG
    assert caplog.messages == ["first line", "second line"]


def test_what_is_written_where_the_environment_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The variable is there while libvirt is loaded, and programs started later do not see it."""
    environment: dict[str, str] = {}
    with redirect_libvirt_log(environment):
        level, kind, path = environment["LIBVIRT_LOG_OUTPUTS"].split(":")
        assert (level, kind) == ("3", "file")
        output = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)  # as libvirt opens it
    assert environment == {}
    os.write(output, (HEAD + "warning : virThing:1 : mind the gap\n").encode())
    os.close(output)
    wait_until(lambda: "mind the gap" in caplog.messages, "the line in the log", seconds=10)


@pytest.mark.parametrize("name", ["LIBVIRT_DEBUG", "LIBVIRT_LOG_OUTPUTS", "LIBVIRT_LOG_FILTERS"])
def test_who_asks_libvirt_for_its_log_gets_it(name: str, tmp_path: Path) -> None:
    environment = {name: f"1:file:{tmp_path}/log"}
    with redirect_libvirt_log(environment):
        assert environment == {name: f"1:file:{tmp_path}/log"}

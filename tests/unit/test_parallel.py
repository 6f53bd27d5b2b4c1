"""`pytest -n`: what runs where, and that one run of several workers is told as one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.loopback import find_free_port

pytest.importorskip("xdist", reason="pytest-xdist is not installed: only make test has it, and needs it")
from tests.support.parallel import APART, FIRST, TOGETHER, rank_of, unit_of

CHECKOUT = Path(__file__).resolve().parents[2]

NOT_UTF8 = r"""
import os
def test_output(): print("caf\udce9"); os.write(1, b"caf\xe9"); assert False
def test_message(): assert "caf\udce9" == "tea"
def test_well(): print("caf\udce9")
"""
OUTCOMES = """
import pytest
def test_passes(): pass
def test_fails(): assert False
@pytest.mark.skip(reason="left out to be recorded")
def test_is_left_out(): pass
"""
LEFT_OUT = """
import pytest
pytest.skip("nobody wants it", allow_module_level=True)
"""
HEARTBEAT = """
from tests.support.heartbeat import Heartbeat

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Heartbeat(seconds=0.2))
"""
# Ends when one line names two tests.
IS_NAMED = """
from pathlib import Path
from tests.support.waiting import wait_until

def test_it():
    said = Path(__file__).with_name("said")
    wait_until(lambda: "test_it; " in said.read_text(), "a sign of life of both")
"""


def run(folder: Path, *arguments: str | Path) -> str:
    """Run the tests in a folder with two workers and this project's plugins, and return what was said."""
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider")
    with (folder / "said").open("w") as said:
        subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, "-n", "2", "--rootdir", folder, *arguments, folder],
            cwd=CHECKOUT,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
    return (folder / "said").read_text()


def test_what_is_no_utf8_kills_no_worker(tmp_path: Path) -> None:
    """Shows that such output and such a failure are told, and written out: execnet would send neither."""
    (tmp_path / "test_it.py").write_text(NOT_UTF8)
    said = run(tmp_path)
    assert "2 failed, 1 passed" in said
    assert r"caf\udce9" in said
    assert "crashed" not in said


def test_a_run_in_workers_has_one_record(tmp_path: Path) -> None:
    """Shows that each test counts once, and a module that all workers leave out as one."""
    (tmp_path / "test_it.py").write_text(OUTCOMES)
    (tmp_path / "test_other.py").write_text("def test_passes(): pass\n")
    (tmp_path / "test_left_out.py").write_text(LEFT_OUT)
    run(tmp_path, "--record", tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["passed"], record["failed"], record["stopped"]) == (2, 1, False)
    assert record["left_out"] == {"left out to be recorded": 1, "nobody wants it": 1}


def test_one_line_names_what_each_worker_is_at(tmp_path: Path) -> None:
    """Shows that the process that hands out the tests gives signs of life for all."""
    (tmp_path / "conftest.py").write_text(HEARTBEAT)
    (tmp_path / "test_first.py").write_text(IS_NAMED)
    (tmp_path / "test_second.py").write_text(IS_NAMED)
    said = run(tmp_path)
    assert "2 passed" in said
    both = r"^    at it for \d+ s: test_(\w+).py::test_it; \d+ s: test_(?!\1)\w+.py::test_it$"
    assert re.search(both, said, re.MULTILINE), said


def test_a_unit_is_a_file_or_what_shares_something_or_a_test_that_takes_long() -> None:
    """Shows one of each kind."""
    assert unit_of("tests/unit/test_log.py::test_a[1]") == "tests/unit/test_log.py"
    assert unit_of("tests/fleet/test_shards.py::test_a") == unit_of("tests/fleet/test_alerts.py::test_b")
    frozen = "tests/faults/test_frozen_guests.py::test_a[b::c]"
    assert unit_of(frozen) == frozen


def test_frozen_guests_come_first_and_what_nothing_is_said_of_comes_last() -> None:
    """Shows the order, in which a unit stays together."""
    tests = ["tests/unit/test_log.py::test_a", "tests/fleet/test_shards.py::test_a"]
    tests += ["tests/fleet/test_alerts.py::test_a", "tests/faults/test_frozen_guests.py::test_a"]
    assert sorted(tests, key=rank_of) == [tests[3], tests[1], tests[2], tests[0]]


def test_the_lists_name_what_is_there() -> None:
    """Shows that no file was renamed without them."""
    for path in (*APART, *FIRST, *(path for files in TOGETHER for path in files)):
        assert (CHECKOUT / path).exists(), path


def test_tests_that_are_apart_share_nothing_that_takes_long() -> None:
    """Shows that none of these files makes something for all its tests: each worker would make it again."""
    for path in APART:
        assert "scope=" not in (CHECKOUT / path).read_text(), path


def test_a_port_is_given_to_one_as_long_as_that_one_lives() -> None:
    """Shows that two workers do not get the same port, though neither may listen there yet."""
    finder = "from tests.support.loopback import *; print(find_free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", finder], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(OSError, match="no port is free"):
            find_free_port([port])
        other.communicate("\n", timeout=20)
    assert find_free_port([port]) == port

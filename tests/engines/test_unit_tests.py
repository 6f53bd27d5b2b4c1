"""The rules' unit tests say the same under every Prometheus that Debian has, and VictoriaMetrics."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.support.engines import find_engine
from tests.support.rule_tests import write_for_promtool, write_for_vmalert_tool

CHECKOUT = Path(__file__).resolve().parents[2]
PROMETHEUS = CHECKOUT / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
SCRAPE_CONFIGURATIONS = sorted((PROMETHEUS / "scrape").glob("*.yaml"))

# What Debian 12, 13 and unstable have: Prometheus 2.42, 2.53 and 3.5.
each_release = pytest.mark.parametrize("release", ["bookworm", "trixie", "sid"])


def count_tests() -> int:
    return sum(len(yaml.safe_load(path.read_text())["tests"]) for path in UNIT_TESTS)


def write_all(write: Callable[[Path, Path], list[Path]], directory: Path) -> list[Path]:
    """Write all unit tests for one engine, and return the files."""
    return [written for path in UNIT_TESTS for written in write(path, directory)]


def run(*command: str | Path) -> str:
    """Run a command that has to succeed, and return what it says."""
    # These programs end soon, and have no need to tidy up their memory often.
    environment = {**os.environ, "GOGC": "400"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def run_in_halves(files: Sequence[Path], command: Callable[[Sequence[Path]], list[str | Path]]) -> str:
    """Run a command over the files in two processes at once, as it uses one processor only."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        halves: list[Future[str]] = [pool.submit(run, *command(files[first::2])) for first in range(2)]
    return "".join(half.result() for half in halves)


@each_release
def test_its_promtool_takes_rules_and_examples(release: str) -> None:
    """An agent's example is checked as an agent's."""
    promtool = find_engine(release, "promtool")
    assert run(promtool, "check", "rules", *RULE_FILES).count("SUCCESS") == len(RULE_FILES)
    for path in SCRAPE_CONFIGURATIONS:
        mode = ["--agent"] if path.stem == "agent" else []
        assert "SUCCESS" in run(promtool, "check", "config", *mode, path)


@each_release
def test_its_promtool_finds_what_the_unit_tests_say(release: str, tmp_path: Path) -> None:
    promtool = find_engine(release, "promtool")
    files = write_all(write_for_promtool, tmp_path)
    output = run_in_halves(files, lambda half: [promtool, "test", "rules", *half])
    assert output.count("SUCCESS") == count_tests()


def test_victoriametrics_finds_what_the_unit_tests_say(tmp_path: Path) -> None:
    """Every alert and total at the same minute, with the same words, as in Prometheus."""
    tool = find_engine("sid", "vmalert-tool")
    files = write_all(write_for_vmalert_tool, tmp_path)

    def command(half: Sequence[Path]) -> list[str | Path]:
        return [tool, "unittest", "--disableAlertgroupLabel", *(f"--files={path}" for path in half)]

    assert run_in_halves(files, command).count("SUCCESS") == count_tests()


def test_vmalert_takes_the_rules_and_vmagent_the_examples() -> None:
    """vmagent reads what says how to scrape, and no other field."""
    vmalert, vmagent = find_engine("sid", "vmalert"), find_engine("sid", "vmagent")
    run(vmalert, "-dryRun", *(f"-rule={path}" for path in RULE_FILES))
    for path in SCRAPE_CONFIGURATIONS:
        run(vmagent, "-dryRun", "-promscrape.config.strictParse=false", f"-promscrape.config={path}")

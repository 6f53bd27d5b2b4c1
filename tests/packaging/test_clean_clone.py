"""What the README promises a newcomer: its two commands work on a clean clone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.packaging.processes import find_last_descendant
from tests.support.exporter_process import Scrape
from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]

# The first run makes a virtual environment, and compiles libvirt-python where pip has not done so before.
INSTALLING_SECONDS = 300

# What the make that runs these tests, and its virtual environment, would otherwise tell the clone's make.
INHERITED = {"ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "URI", "VIRTUAL_ENV", "WORKERS"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "hypervisor-exporter"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def commands(clone: Path) -> list[str]:
    """The commands of the README's first shell block, without its comments."""
    block = re.search(r"^```sh\n(.*?)^```", (clone / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


def test_the_readme_names_two_commands(commands: list[str]) -> None:
    """The other tests know what to expect of each."""
    assert commands == ["make run", "make test"]


def test_make_run_shows_numbers_and_stops_in_good_order(
    clone: Path, commands: list[str], tmp_path: Path
) -> None:
    """A newcomer's first minute, but for the port, which somebody may use here."""
    port = find_free_port()
    output = tmp_path / "output"
    with _started(commands[0], clone, output, ARGS=f"--web.listen-address=127.0.0.1:{port}") as make:

        def scrape() -> Scrape | None:
            assert make.poll() is None, output.read_text()
            return _scrape(port)

        numbers = wait_until(scrape, "make run to serve", seconds=INSTALLING_SECONDS)
        assert numbers.value("hypervisor_up", target=f"test://{clone}/deploy/demo/hypervisor.xml") == 1
        assert numbers.value("hypervisor_vcpus") == 3
        assert numbers.value("hypervisor_memory_mb") == 256 * 1024
        os.kill(find_last_descendant(make.pid), signal.SIGTERM)
        assert make.wait(timeout=20) == 0, output.read_text()
    assert "==> Making a virtual environment" in output.read_text()

    # What is there already is not installed again.
    with _started(commands[0], clone, output, ARGS="--once") as make:
        assert make.wait(timeout=60) == 0
    steps = [line for line in output.read_text().splitlines() if line.startswith("==>")]
    assert len(steps) == 1, steps
    assert steps[0].startswith(f"==> Running on test://{clone}/deploy/demo/hypervisor.xml")


def test_make_test_would_run_all_tests(clone: Path, commands: list[str]) -> None:
    """It would run this test too, so that it only says what it would do."""
    dry_run = subprocess.run(
        commands[1],
        shell=True,
        cwd=clone,
        env=_environment(MAKEFLAGS="n"),
        capture_output=True,
        text=True,
        check=True,
    )
    last = dry_run.stdout.splitlines()[-1].rstrip()
    assert last.endswith("-m pytest -n 4 $left_out"), last


@contextmanager
def _started(
    command: str, folder: Path, output: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of the README as it stands there; whatever happens, nothing of it goes on."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def _environment(**additions: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in INHERITED}
    return {**kept, **additions}


def _scrape(port: int) -> Scrape | None:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            return Scrape(text=response.read().decode())
    except HTTPError as error:
        error.close()
        return None
    except (URLError, ConnectionError):
        return None

"""What `make run` watches, wherever the checkout lies, and what it announces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.run import announce, make_test_uri

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = "deploy/demo/hypervisor.xml"


def make(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `make run` in there, with this interpreter as that of a virtual environment which is complete."""
    return subprocess.run(
        ["make", "-s", "--old-file=.venv/.run", "run", *flags],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copy_checkout(folder: Path) -> None:
    """Put what `make run` needs into the folder."""
    for name in ("Makefile", "pyproject.toml", DEMO, "scripts/__init__.py", "scripts/run.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)


@pytest.mark.parametrize(
    "name",
    ["rücken", "a b", "50%", "%41", 'a "quoted" one', "back\\slash", "what?", "a#b", "o'brien", "$HOME"],
)
def test_the_demo_runs_wherever_the_checkout_lies(tmp_path: Path, name: str) -> None:
    """Shows that make, the shell, the URI and libvirt agree on the path, whatever letters it holds."""
    folder = tmp_path / name
    copy_checkout(folder)
    ran = make(folder, "ARGS=--once --log.level=error")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\nhypervisor_vcpus{" in ran.stdout


def test_an_address_with_an_apostrophe_comes_through(tmp_path: Path) -> None:
    """Shows that URI= needs no escape for the shell; here libvirt then finds no such file."""
    copy_checkout(tmp_path)
    ran = make(tmp_path, "URI=test:///o'brien.xml", "ARGS=--once --log.level=error")
    assert 'hypervisor_up{target="test:///o\'brien.xml"} 0.0' in ran.stdout, ran.stdout + ran.stderr


def test_a_path_that_is_no_utf_8_has_its_own_bytes() -> None:
    assert make_test_uri(Path("/srv/\udce9/h.xml")) == "test:///srv/%E9/h.xml"


def test_what_ends_by_itself_is_not_said_to_listen() -> None:
    assert announce("test:///default", ["--once"]) == "==> Running on test:///default"
    assert announce("test:///default", ["--config.check"]) == "==> Running on test:///default"


def test_it_says_where_to_look() -> None:
    assert "http://localhost:9177/metrics (Ctrl-C" in announce("test:///default", [])
    assert "the address logged below (Ctrl-C" in announce("test:///default", ["--web.listen-address=:9178"])


def test_a_password_is_not_announced() -> None:
    assert "secret" not in announce("qemu+tcp://nova:secret@kvm02/system", [])

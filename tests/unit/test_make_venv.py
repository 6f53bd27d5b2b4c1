"""scripts/make-venv: when the virtual environment is made, and made anew; Python and Debian are played."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.programs import path_with, write_program

CHECKOUT = Path(__file__).resolve().parents[2]

# Knows what the script asks of an interpreter; the environment that it makes holds a copy of itself.
PYTHON = """\
case "$*" in
    *'-m venv'*) shift 3; mkdir -p "$1/bin" && cp "$0" "$1/bin/python" ;;
    *'print("%d.%d"'*) echo 3.11 ;;
    *--version*) echo Python 3.11.2 ;;
esac"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout on a Debian that has everything; its programs come first on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    write_program(programs, "dpkg-query", "printf installed")
    write_program(programs, "apt-get", "exit 1")
    write_program(programs, "python3", PYTHON)
    folder = tmp_path / "a checkout"
    folder.mkdir()
    return folder


def make_venv(folder: Path, python: str = "python3") -> tuple[int, str]:
    """Return the script's status and what it says."""
    done = subprocess.run(
        [CHECKOUT / "scripts/make-venv", ".venv"],
        cwd=folder,
        env={"PATH": path_with(folder.parent / "programs"), "PYTHON": python, "GOALS": "run"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


MAKING = "==> Making a virtual environment in .venv (Python 3.11.2)\n"


def test_a_sound_one_is_left_alone(folder: Path) -> None:
    """Not even its stamp is touched, since make would then install everything again."""
    assert make_venv(folder) == (0, MAKING)
    made = (folder / ".venv/.python").stat().st_mtime_ns
    assert make_venv(folder) == (0, "")
    assert (folder / ".venv/.python").stat().st_mtime_ns == made


def test_an_interpreter_that_is_not_there_is_one_line(folder: Path) -> None:
    assert make_venv(folder, "python3.99") == (
        1,
        "There is no python3.99 here. Name another: make PYTHON=python3 run\n",
    )
    assert not (folder / ".venv").exists()


def test_an_interpreter_that_does_not_run_is_not_there(folder: Path) -> None:
    """As one of pyenv's which nobody has chosen."""
    write_program(folder.parent / "programs", "python3.99", "echo 'pyenv: not found' >&2; exit 127")
    assert make_venv(folder, "python3.99")[1].startswith("There is no python3.99 here.")


def test_in_a_checkout_that_was_moved_it_is_made_anew(folder: Path) -> None:
    make_venv(folder)
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert make_venv(moved) == (0, f"==> .venv is made anew: it was made in {folder}\n{MAKING}")
    assert make_venv(moved) == (0, "")


def test_without_its_interpreter_it_is_made_anew(folder: Path) -> None:
    make_venv(folder)
    (folder / ".venv/bin/python").unlink()
    why = "its Python 3.11 is gone, or does not start"
    assert make_venv(folder) == (0, f"==> .venv is made anew: {why}\n{MAKING}")


def test_under_another_python_it_is_made_anew(folder: Path) -> None:
    """As after an upgrade of Debian: the interpreter runs, and looks for its packages elsewhere."""
    make_venv(folder)
    write_program(folder / ".venv/bin", "python", PYTHON.replace("echo 3.11", "echo 3.13"))
    why = "it was made for Python 3.11, and that is now 3.13"
    assert make_venv(folder) == (0, f"==> .venv is made anew: {why}\n{MAKING}")


def test_without_its_command_it_is_made_anew(folder: Path) -> None:
    make_venv(folder)
    (folder / ".venv/.run").touch()
    why = ".venv/bin/hypervisor-exporter is gone"
    assert make_venv(folder) == (0, f"==> .venv is made anew: {why}\n{MAKING}")


def test_one_that_says_nothing_of_itself_is_made_anew(folder: Path) -> None:
    """As versions before this one left it."""
    make_venv(folder)
    (folder / ".venv/.python").write_text("")
    assert make_venv(folder) == (0, f"==> .venv is made anew: it does not say where it was made\n{MAKING}")


def test_one_that_was_not_finished_is_made_anew(folder: Path) -> None:
    make_venv(folder)
    (folder / ".venv/.python").unlink()
    assert make_venv(folder) == (0, MAKING)


def test_the_way_to_the_checkout_is_ascii_wherever_that_lies(tmp_path: Path) -> None:
    """Shows that a Python which reads it by an ASCII locale (3.11 with LC_ALL=C) starts; pip is played."""
    folder = tmp_path / "rücken"
    packages = folder / ".venv/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (folder / ".venv/bin").mkdir()
    path = packages / "_editable_impl_hypervisor_exporter.pth"
    write_program(folder / ".venv/bin", "python", f"echo '{folder}' > '{path}'")
    subprocess.run([CHECKOUT / "scripts/install-here", ".venv", "."], cwd=folder, timeout=60, check=True)
    written = path.read_bytes().decode("ascii").rstrip("\n")
    assert (packages / written).resolve() == folder

"""A short run of each target, and every input that was ever worth keeping."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
SECONDS = 2
SEEDS = sorted((HERE / "corpus").glob("*/*"))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.parent.name}/{seed.name}")
def test_what_was_worth_keeping_is_taken_or_refused(seed: Path) -> None:
    """Seeds and former findings: an answer or a refusal in one line, and nothing else."""
    TARGETS[seed.parent.name](seed.read_bytes())


def test_every_target_has_seeds() -> None:
    """Without any, a short run would reach nothing."""
    assert {seed.parent.name for seed in SEEDS} == set(TARGETS)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no build for this Python or machine"
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(target: str, tmp_path: Path) -> None:
    """Guided by coverage from the seeds on: no crash, no hang, no more than 64 MiB more memory."""
    command = [sys.executable, "-m", "tests.fuzz.run", target, str(SECONDS), str(tmp_path)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    found = {path.name: path.read_bytes()[:500] for path in tmp_path.iterdir()}
    assert (result.returncode, found) == (0, {}), result.stderr[-3000:]

"""Prometheus and VictoriaMetrics from releases of Debian. scripts/fetch-engines gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

_FETCHED = Path(__file__).resolve().parents[2] / ".cache" / "engines"


def find_engine(release: str, program: str) -> Path:
    """Return a program of this release of Debian. If it is not available, skip the test and say why."""
    path = _FETCHED / release / program
    if path.exists():
        return path
    reason = _FETCHED / f"{release}.missing"
    why = reason.read_text().strip() if reason.exists() else "scripts/fetch-engines was not run"
    pytest.skip(f"{program} of Debian {release} is not here: {why}")

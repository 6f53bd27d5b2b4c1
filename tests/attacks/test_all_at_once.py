"""Every attack at once beside one Prometheus; `make bench-attacks` does it for minutes."""

from __future__ import annotations

from bench.attacks import measure, read_bounds


def test_every_attack_at_once_fails_no_scrape() -> None:
    """Prometheus says so itself. SECURITY.md states the bounds."""
    outcome = measure(25.0, interval_seconds=5)
    assert outcome.find_failures(read_bounds()) == []

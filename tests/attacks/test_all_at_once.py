"""Every attack at once beside one scraper; `make bench-attacks` does it for minutes."""

from __future__ import annotations

from bench.attacks import measure


def test_every_attack_at_once_fails_no_scrape() -> None:
    """SECURITY.md states these bounds."""
    outcome = measure(15.0)
    assert outcome.failures == []
    assert outcome.descriptors <= 512 + 100
    assert outcome.threads <= 40
    assert outcome.memory_kib <= 256 * 1024

"""Hundreds of hypervisors that accept a connection and say nothing, before one that is well."""

from __future__ import annotations

from bench.hung_hypervisors import measure
from exporter.compute.places import MAX_OPENINGS


def test_hypervisors_that_hang_cost_few_descriptors_and_threads_and_delay_no_other() -> None:
    """Before, 300 of them took all descriptors. `python -m bench.hung_hypervisors` does it for longer."""
    outcome = measure(300, files=1024, seconds=20.0)
    assert outcome.first_numbers_after is not None
    assert (len(outcome.probe_seconds) > 5, outcome.without_numbers) == (True, 0)
    openings = 1024 // 10
    assert openings < MAX_OPENINGS
    # Beside these are only those that are being ended and those that have just begun.
    assert outcome.descriptors <= 2 * openings + 100
    assert outcome.threads <= openings + 64
    assert max(outcome.scrape_seconds) < 5, "of all, beside those that hang"
    assert outcome.log_lines < 3 * 300

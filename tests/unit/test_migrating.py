"""docs/migrating.md says what the code says of other exporters' names."""

from __future__ import annotations

import re

from exporter.collectors.libvirt_names import COLLECTORS
from scripts.generate_names import PAGE, render_page

TEXT = PAGE.read_text(encoding="utf-8")
NAMES = {metric.name for collector in COLLECTORS.values() for metric in collector.metrics}


def test_the_tables_are_what_make_docs_writes() -> None:
    assert render_page(TEXT) == TEXT


def test_every_old_name_in_a_query_is_one_that_can_be_had() -> None:
    queries = TEXT.partition("\n## Queries\n")[2] + TEXT.partition("```promql")[2].partition("```")[0]
    asked = set(re.findall(r"libvirt_[a-z_]+", queries)) - {"libvirt_names"}
    assert asked
    assert asked <= NAMES


def test_what_is_not_shown_is_said_so_and_is_really_not_shown() -> None:
    """The others have these, as of their sources of June 2026."""
    missing = {
        "libvirt_domain_vcpu_state",
        "libvirt_domain_vcpu_cpu",
        "libvirt_domain_vcpu_wait_seconds_total",
        "libvirt_domain_block_stats_allocation",
        "libvirt_storage_pool_timed_out",
    }
    assert missing & NAMES == set()
    assert {name for name in missing if f"`{name}`" not in TEXT} == set()
    assert not any(name.startswith("libvirt_domain_job_info_") for name in NAMES)
    assert "`libvirt_domain_job_info_*`" in TEXT

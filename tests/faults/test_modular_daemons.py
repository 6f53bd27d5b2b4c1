"""virtqemud with and without the daemons beside it: each costs its own numbers, and brings them back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exporter_process import scrape_once
from tests.support.guests import guest_xml
from tests.support.modular_daemons import ModularDaemons, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def daemons(libvirt_cache: Path) -> Iterator[ModularDaemons]:
    """virtqemud alone; the tests start the others."""
    with ModularDaemons(started=["virtqemud"], cache=libvirt_cache) as daemons:
        yield daemons


def test_virtqemud_alone_is_enough_where_nothing_is_wanted_of_the_others(daemons: ModularDaemons) -> None:
    """Shows that no number of CPU, memory or the instances path needs another daemon."""
    daemons.start_guest(guest_xml("guest", vcpus=3))
    scrape = scrape_once([{"uri": daemons.uri_read_only, "instances_path": str(daemons.images)}])
    assert scrape.exit_status == 0, scrape.log
    assert (scrape.value("hypervisor_up"), scrape.value("hypervisor_vcpus_used")) == (1, 3)

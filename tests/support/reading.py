"""A hypervisor's resources read in the test's own process: records, where a scrape has numbers alone."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from exporter.config.settings import HypervisorConfig
from exporter.model import Resources
from exporter.virt.driver import LibvirtDriver
from exporter.virt.hypervisor import LibvirtHypervisor


def make_driver(uri: str, **options: Any) -> LibvirtDriver:
    """Return the driver of the hypervisor at `uri`, with these options of its configuration."""
    config = HypervisorConfig(uri=uri, **options)
    return LibvirtDriver(
        LibvirtHypervisor(uri),
        partial(LibvirtHypervisor, uri),
        LibvirtHypervisor(uri),
        config,
        resync_interval=60,
        stale_grace=120,
        clock=time.monotonic,
    )


def do_what_is_due(driver: LibvirtDriver) -> None:
    """Do the jobs that maintenance would do between two scrapes."""
    for source in driver.sources:
        for job in source.list_jobs():
            job.run()


def read_resources(uri: str, **options: Any) -> Resources:
    """Read the hypervisor once."""
    driver = make_driver(uri, **options)
    try:
        return driver.get_available_resource()
    finally:
        driver.close()

"""The collectors, one file per subject. Each turns a hypervisor's snapshot into samples.

A new collector is a new file, one line here, `make docs` and `make golden`. docs/design.md has the steps.
"""

from exporter.collectors import (
    capacity,
    cpu,
    devices,
    domains,
    flavors,
    guests,
    info,
    memory,
    numa,
    projects,
    storage,
    usage,
)
from exporter.metric import Collector

COLLECTORS: tuple[Collector, ...] = (
    cpu.COLLECTOR,
    usage.COLLECTOR,
    memory.COLLECTOR,
    numa.COLLECTOR,
    storage.COLLECTOR,
    capacity.COLLECTOR,
    flavors.COLLECTOR,
    devices.COLLECTOR,
    domains.COLLECTOR,
    guests.COLLECTOR,
    projects.COLLECTOR,
    info.COLLECTOR,
)

"""The collectors, one file each: what a hypervisor's snapshot says about one subject.

A new one is a new file, one line here, `make docs` and `make golden` (docs/design.md, Adding a collector).
"""

from exporter.collectors import capacity, cpu, devices, domains, flavors, info, memory, numa, storage
from exporter.metric import Collector

COLLECTORS: tuple[Collector, ...] = (
    cpu.COLLECTOR,
    memory.COLLECTOR,
    numa.COLLECTOR,
    storage.COLLECTOR,
    capacity.COLLECTOR,
    flavors.COLLECTOR,
    devices.COLLECTOR,
    domains.COLLECTOR,
    info.COLLECTOR,
)

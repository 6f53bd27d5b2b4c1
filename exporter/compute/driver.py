"""Driver: the methods that HostState uses to read its hypervisor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from exporter.compute.source import Source
from exporter.config.settings import HypervisorConfig
from exporter.model import DriverStats, Resources


class Driver(Protocol):
    """Reads one hypervisor: exporter.virt.driver.LibvirtDriver."""

    @property
    def sources(self) -> Sequence[Source]:
        """The sources of the hypervisor's numbers."""

    @property
    def has_to_connect(self) -> bool:
        """Whether it has no connection, and opens one over a network at the next read, or is opening it."""

    def get_available_resource(self) -> Resources:
        """Read the hypervisor; may block for ever."""

    def get_stats(self) -> DriverStats:
        """Return the counters."""

    def has_lost_connection(self) -> bool:
        """Whether the connection was lost since the last read."""

    def configure(self, *, resync_interval: float, stale_grace: float) -> None:
        """Use these times from now on."""

    def reconfigure(self, config: HypervisorConfig) -> None:
        """Use these settings from the next refresh on. The URI is the same."""

    def stop_commands(self) -> None:
        """Kill the commands that it has run for itself, and run none from now on. Does not block."""

    def close(self) -> None:
        """Release the hypervisor; may block for ever."""

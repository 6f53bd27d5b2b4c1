"""The numbers of the online CPUs, which each refresh asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exporter.compute.source import Settings
from exporter.errors import NoAnswerError, UnsupportedError
from exporter.model import CpuMap
from exporter.virt.call_source import CallSource
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from exporter.virt.cpu_cells import NODE_FOLDER, read_cpu_cells


class OnlineCpus(CallSource[CpuMap]):
    """The online CPUs of a hypervisor, as Nova asks for them (Host.get_online_cpus). Not thread-safe.

    Under power management all CPUs are asked for, too (Host.get_available_cpus). On this machine, the kernel
    tells which NUMA cell those are in that are offline.

    :param node_folder: where it tells
    """

    name = "online CPUs"

    def __init__(
        self,
        connections: Connections[WaitingHypervisor],
        settings: Settings,
        *,
        clock: Callable[[], float],
        node_folder: Path = NODE_FOLDER,
    ) -> None:
        super().__init__(connections, settings, clock=clock)
        self._node_folder = node_folder if settings.hypervisor.is_local else None
        self._wants_available = settings.hypervisor.cpu_power_management

    def configure(self, settings: Settings) -> None:
        """Use these times and this power management from now on."""
        super().configure(settings)
        self._wants_available = settings.hypervisor.cpu_power_management

    def ask(self, connection: WaitingHypervisor) -> CpuMap:
        """Return the CPUs.

        :raises UnsupportedError: if libvirt's driver does not know them
        """
        online = connection.get_online_cpus()
        if not self._wants_available:
            return CpuMap(online=online, available=None)
        by_cell = {} if self._node_folder is None else read_cpu_cells(self._node_folder)
        return CpuMap(online=online, available=connection.get_available_cpus(), by_cell=by_cell)

    def get(self) -> CpuMap | None:
        """Return the CPUs; None where they are not known."""
        return super().get_part()

    def get_part(self) -> None:
        """Return nothing for collectors: the numbers are computed from the CPUs."""
        return

    @property
    def has_failed(self) -> bool:
        """Whether libvirt has them and answers with an error. No answer yet is none."""
        problem = self._problem
        return problem is not None and problem.reason not in (UnsupportedError.reason, NoAnswerError.reason)

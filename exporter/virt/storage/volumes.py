"""Sizes of storage volumes. libvirt is asked for one after the other, as long as it answers.

libvirt answers from its storage pools and asks no guest. But a pool's file system may hang. With modular
daemons, virtstoraged has to answer.
"""

from __future__ import annotations

from collections.abc import Collection

from exporter.attempt import Attempt
from exporter.errors import ConnectionLostError, DaemonError, HypervisorError
from exporter.model import ImageSize
from exporter.virt.calls import StorageHypervisor
from exporter.virt.connections import Connections

TIMEOUT_SECONDS = 1.0


class VolumeSizes:
    """Asks for storage volumes by their paths. Not thread-safe.

    A call that is not answered is left waiting. Until it is answered, no other call is made and no volume is
    known.

    :param connections: lends one connection to each series of calls
    :param timeout: seconds after which a call is left waiting
    """

    def __init__(
        self, connections: Connections[StorageHypervisor], *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._connections = connections
        self._timeout = timeout
        self._attempt: Attempt[None] | None = None

    @property
    def hung(self) -> int:
        """How many calls are left waiting: 0 or 1."""
        return int(self._attempt is not None and not self._attempt.is_over)

    def ask(self, paths: Collection[str]) -> dict[str, ImageSize]:
        """Return the sizes of the volumes at these paths that libvirt has."""
        if self.hung or not paths:
            return {}
        series = _Series(paths)
        self._attempt = self._connections.start(series.run, name="ask volumes")
        done = -1
        while self.hung and series.done > done:
            done = series.done
            self._attempt.wait(self._timeout)
        series.is_given_up = True
        return dict(series.sizes)


class _Series:
    """Calls that one thread makes over one connection, until it is abandoned.

    :ivar sizes: what was answered so far
    :ivar done: how many calls were made
    """

    def __init__(self, paths: Collection[str]) -> None:
        self.sizes: dict[str, ImageSize] = {}
        self.done = 0
        self.is_given_up = False
        self._paths = tuple(paths)

    def run(self, hypervisor: StorageHypervisor) -> None:
        """Make the remaining calls, also over a second connection if the first one is lost."""
        while self.done < len(self._paths) and not self.is_given_up:
            path = self._paths[self.done]
            try:
                self.sizes[path] = hypervisor.get_volume_size(path)
            except (ConnectionLostError, DaemonError):
                raise
            except HypervisorError:
                pass  # no storage pool has it, or this libvirt has no pools
            self.done += 1

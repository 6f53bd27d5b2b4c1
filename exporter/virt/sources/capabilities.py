"""Capabilities of the host: its CPU, its NUMA cells, its UUID. They almost never change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from exporter.compute.source import Source
from exporter.errors import (
    BusyError,
    ConnectError,
    ConnectionLostError,
    HypervisorError,
    NoAnswerError,
)
from exporter.model import Capabilities, NodeInfo, Problem
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.capabilities import CapabilitiesError, parse_capabilities
from exporter.virt.connections import Connections
from exporter.virt.failed_calls import make_failed_call
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import SlowCall

# The capabilities change when a CPU or memory is plugged in (virNodeGetInfo shows it), or when huge pages are
# set aside (it does not). They are libvirt's slowest answer (0.4 s was seen).
MAX_AGE_SECONDS = 600

_CALL = "virConnectGetCapabilities"


class HostCapabilities(Source):
    """The last read capabilities. Not thread-safe.

    :param connections: lends the connection for the call
    :param clock: monotonic seconds
    """

    name = "capabilities"

    def __init__(self, connections: Connections[WaitingHypervisor], *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self._call = SlowCall(connections, _ask, what="the capabilities", max_age=math.inf, clock=clock)
        self._known: Capabilities | None = None
        self._read_at = 0.0
        self._is_expired = False
        self._node: NodeInfo | None = None
        self._problem: Problem | None = None

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        return self._call.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return their age; nothing before they were read."""
        return {} if self._known is None else {"the capabilities": self._clock() - self._read_at}

    def get_problems(self) -> Sequence[Problem]:
        """Return why they cannot be read, or which parts of them."""
        odd_parts = "" if self._known is None else self._known.odd_parts
        problem = None
        if odd_parts:
            error = CapabilitiesError(f"unexpected capabilities XML: {odd_parts}")
            problem = make_failed_call(_CALL, error)
        return [each for each in (self._problem or problem,) if each is not None]

    def note_reconnected(self) -> None:
        """Forget the capabilities: the libvirt of a new connection may be another one."""
        self._known, self._problem = None, None
        self._call.abandon()

    def expire(self) -> None:
        """Let the next refresh read them again."""
        self._is_expired = True

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call that a refresh will wait for, without waiting."""
        if self._known is None:
            self._call.begin(refresh_timeout)

    def get(self, node: NodeInfo | None) -> Capabilities | None:
        """Return the capabilities without asking; None where they are to be read anew.

        :param node: the current node; the capabilities describe the node at the time of the read
        """
        is_young = self._clock() - self._read_at < MAX_AGE_SECONDS and node == self._node
        return self._known if is_young and not self._is_expired else None

    def read(
        self, refresh_timeout: RefreshTimeout, node: NodeInfo | None, *, is_libvirt_answering: bool
    ) -> Capabilities | None:
        """Return the capabilities. Read them again if they are old and libvirt answers.

        The first time, wait for them: once, libvirtd may first have to detect QEMU, which takes seconds.

        :param node: as `get` has it
        :param is_libvirt_answering: whether other calls of this kind were answered
        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        known = self.get(node)
        if known is not None:
            return known
        try:
            if self._known is None and is_libvirt_answering:
                return self._keep(self._connections.run(_ask), node)
            answer = self._call.get(refresh_timeout)
        except (ConnectError, ConnectionLostError):
            raise
        except HypervisorError as error:
            if isinstance(error, NoAnswerError) and not isinstance(error, BusyError):
                return self._known  # the list of domains has the same problem
            self._problem = make_failed_call(_CALL, error)
            return self._known
        return self._known if answer.age_seconds else self._keep(answer.value, node)

    def _keep(self, capabilities: Capabilities, node: NodeInfo | None) -> Capabilities:
        self._known, self._read_at, self._node = capabilities, self._clock(), node
        self._is_expired, self._problem = False, None
        return capabilities


def _ask(connection: WaitingHypervisor) -> Capabilities:
    return parse_capabilities(connection.get_capabilities_xml())

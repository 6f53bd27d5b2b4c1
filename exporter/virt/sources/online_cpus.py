"""The numbers of the online CPUs. Read only to check a configured CPU set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from exporter.compute.source import Settings, Source
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError, UnsupportedError
from exporter.model import Problem, Severity
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.connections import Connections
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.slow_calls import SlowCall


class OnlineCpus(Source):
    """The online CPUs of a hypervisor. Not thread-safe.

    :param connections: lends the connection for the call
    :param clock: monotonic seconds
    """

    name = "online CPUs"

    def __init__(
        self,
        connections: Connections[WaitingHypervisor],
        settings: Settings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._call = SlowCall(
            connections,
            lambda connection: connection.get_online_cpus(),
            what="the online CPUs",
            max_age=settings.stale_grace,
            clock=clock,
        )
        self._problems: tuple[Problem, ...] = ()
        self._age: float | None = None
        self._is_wanted = _names_cpus(settings)

    @property
    def hung(self) -> int:
        """How many calls are past their timeout: 0 or 1."""
        return self._call.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return their age; nothing where they are not known."""
        return {} if self._age is None else {"the online CPUs": self._age}

    def get_problems(self) -> Sequence[Problem]:
        """Return why they could not be read."""
        return self._problems

    def configure(self, settings: Settings) -> None:
        """Read them if these settings have a CPU set."""
        self._is_wanted = _names_cpus(settings)
        self._call.configure(max_age=settings.stale_grace)

    def note_reconnected(self) -> None:
        """Abandon a call that may be asking a hypervisor that is gone."""
        self._call.abandon()

    def begin(self, refresh_timeout: RefreshTimeout) -> None:
        """Start the call that a refresh will wait for, without waiting."""
        if self._is_wanted:
            self._call.begin(refresh_timeout)

    def read(self, refresh_timeout: RefreshTimeout) -> frozenset[int] | None:
        """Return the numbers of the online CPUs; None if not needed, or if libvirt does not give them.

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        self._problems, self._age = (), None
        if not self._is_wanted:
            return None
        try:
            answer = self._call.get(refresh_timeout)
            self._age = answer.age_seconds
            return answer.value
        except UnsupportedError as error:
            self._note(Severity.NOTE, "unsupported", "virNodeGetCPUMap", f"virNodeGetCPUMap: {error}")
        except (ConnectError, ConnectionLostError):
            raise
        except HypervisorError as error:
            message = f"{error}. Until then the CPU sets are used as configured"
            self._note(Severity.ERROR, error.reason, "online CPUs", message)
        return None

    def _note(self, severity: Severity, reason: str, subject: str, message: str) -> None:
        self._problems = (Problem(severity=severity, reason=reason, subject=subject, message=message),)


def _names_cpus(settings: Settings) -> bool:
    config = settings.hypervisor
    return bool(config.vcpu_pin_set or config.cpu_shared_set or config.cpu_dedicated_set)

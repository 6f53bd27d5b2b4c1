"""Which guests are seen to run. Calls that wait for a guest's monitor are made for these first.

A frozen guest does not answer such a call, and the call holds the guest's job as long as the guest is frozen.
libvirt does not know whether a guest is frozen. But it knows, without waiting for the guest, the CPU time of
its process. If that grows, the guest is not frozen. If it does not grow, the guest may be frozen, paused or
idle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.guests.calls import GuestCalls, GuestJob

LOOK_SECONDS = 60.0
# If two looks are further apart, they show that the guest ran in between, but not that it runs now.
MAX_GAP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Look:
    """The result of one look at a guest.

    :ivar is_compared: whether an earlier look was recent enough to compare with
    :ivar is_busy: whether its monitor has not answered some client for a while
    :ivar is_running: whether the guest probably answers now
    """

    at: float
    cpu_time_ns: int
    is_compared: bool = False
    is_busy: bool = False
    is_running: bool = False


class Liveness:
    """Looks at guests and remembers the results. Not thread-safe.

    :param calls: asks about one guest at a time
    :param clock: monotonic seconds
    """

    def __init__(self, calls: GuestCalls, *, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    @property
    def busy(self) -> frozenset[str]:
        """The UUIDs of guests that do not answer some client: this process or another one."""
        return frozenset(uuid for uuid, look in dict(self._looks).items() if look.is_busy)

    def is_running(self, uuid: str) -> bool:
        """Whether the last look showed that the guest runs, or that it has no process that could hang."""
        look = self._looks.get(uuid)
        return look is not None and look.is_running

    def is_still(self, uuid: str) -> bool:
        """Whether the guest used no CPU time between the last two looks, if they were close together."""
        look = self._looks.get(uuid)
        return look is not None and look.is_compared and not look.is_running

    def forget_others(self, uuids: Collection[str]) -> None:
        """Forget all other guests."""
        self._looks = {uuid: look for uuid, look in dict(self._looks).items() if uuid in uuids}

    def look(self, uuids: Collection[str]) -> None:
        """Look at these guests (virDomainGetControlInfo, virDomainGetInfo: neither waits for a monitor).

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        jobs = [
            GuestJob(uuid=uuid, kind="liveness", ask=partial(self._look, uuid), may_wait_for_monitor=False)
            for uuid in uuids
        ]
        self._calls.ask(jobs, seconds=LOOK_SECONDS)

    def _look(self, uuid: str, hypervisor: WaitingHypervisor) -> None:
        try:
            is_busy = hypervisor.is_guest_busy(uuid)
            cpu_time_ns = hypervisor.get_domain_info(uuid).cpu_time_ns
        except (ConnectionLostError, NoAnswerError):
            raise
        except HypervisorError:
            # It is shut off or gone, or its driver has no monitors. So no call waits for it.
            self._looks[uuid] = _Look(self._clock(), 0, is_running=True)
            return
        now, before = self._clock(), self._looks.get(uuid)
        is_recent = before is not None and now - before.at <= MAX_GAP_SECONDS
        has_grown = before is not None and cpu_time_ns > before.cpu_time_ns
        self._looks[uuid] = _Look(
            now,
            cpu_time_ns,
            is_compared=is_recent,
            is_busy=is_busy,
            is_running=is_recent and has_grown and not is_busy,
        )

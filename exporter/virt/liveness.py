"""Which guests are seen to run: a call that waits for a guest's monitor is made for those first.

A frozen guest does not answer such a call, and the call then holds the guest's job for as long as the guest
is frozen. libvirt cannot say whether a guest is frozen. But it says, without waiting for the guest, how much
CPU time its process has used: if that grows, the guest is not frozen. If it does not grow, the guest may be
frozen, paused or idle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.virt.connections import WaitingHypervisor
from exporter.virt.guest_calls import GuestCalls, GuestJob

LOOK_SECONDS = 60.0
# Two looks that are further apart show that the guest ran since the first, but not that it runs now.
MAX_GAP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a guest.

    :ivar is_compared: whether an earlier look was recent enough to show by this one whether the guest runs
    :ivar is_busy: whether its monitor has not answered somebody for a while
    :ivar is_running: whether it can be taken to answer now
    """

    at: float
    cpu_time_ns: int
    is_compared: bool = False
    is_busy: bool = False
    is_running: bool = False


class Liveness:
    """Looks at guests, and remembers what it saw. Not for two threads at once.

    :param calls: asks about one guest at a time
    :param clock: monotonic seconds
    """

    def __init__(self, calls: GuestCalls, *, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    @property
    def busy(self) -> frozenset[str]:
        """The UUIDs of the guests that do not answer somebody: this process or any other client."""
        return frozenset(uuid for uuid, look in dict(self._looks).items() if look.is_busy)

    def is_running(self, uuid: str) -> bool:
        """Whether the guest was seen to run when it was last looked at, or has no process that could hang."""
        look = self._looks.get(uuid)
        return look is not None and look.is_running

    def is_still(self, uuid: str) -> bool:
        """Whether the guest used no CPU time between the last two looks, which were close to each other."""
        look = self._looks.get(uuid)
        return look is not None and look.is_compared and not look.is_running

    def forget_others(self, uuids: Collection[str]) -> None:
        """Forget guests that are not among these."""
        self._looks = {uuid: look for uuid, look in dict(self._looks).items() if uuid in uuids}

    def look(self, uuids: Collection[str]) -> None:
        """Look at these guests (virDomainGetControlInfo, virDomainGetInfo: neither waits for a monitor).

        :raises HypervisorError: when the connection is lost or cannot be made
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
            # It is shut off or gone, or its driver has no monitors: there is nothing to wait for.
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

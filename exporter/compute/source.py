"""Source: one thing that is read of a hypervisor, such as its guests, its images or its storage.

Each source keeps what it last read. Some of it is read by refreshes, some between scrapes. The latter are
jobs, which `exporter.compute.maintenance` runs. The sources that there are lie in `exporter/virt/sources/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.config.settings import HypervisorConfig
from exporter.model import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Something to read between scrapes.

    :ivar key: tells it from the other jobs of its source
    :ivar run: does it, in a thread of its own
    :ivar timeout: seconds after which it counts as hung, and the next job of its source begins beside it
    :ivar may_hang: whether it may never end; one that cannot has no timeout
    """

    key: str
    run: Callable[[], None]
    timeout: float = math.inf
    may_hang: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What sources go by: one hypervisor's configuration, and the times that are the same for all.

    :ivar resync_interval: seconds after which what may have changed unseen is read again
    :ivar stale_grace: seconds for which the last answer is used while there is no new one
    """

    hypervisor: HypervisorConfig
    resync_interval: float
    stale_grace: float


class Source(Protocol):
    """One thing that is read of a hypervisor. What a source does not need, it leaves as it is here.

    :cvar name: of its threads, and of its age; what a collector says it needs
    :cvar needs: the names of the sources without which this one is of no use
    """

    name: str
    needs: frozenset[str] = frozenset()

    @property
    def hung(self) -> int:
        """How many of its calls nobody waits for any more; each keeps a thread."""
        return 0

    def get_age(self) -> float | None:
        """Return how many seconds ago the oldest of what it has was read; None where it has nothing."""
        return None

    def get_part(self) -> object | None:
        """Return what collectors are handed of it as it is, beside what Nova's numbers are computed from."""
        return None

    def list_jobs(self) -> Sequence[Job]:
        """Return what is to be read now, between scrapes."""
        return ()

    def get_problems(self) -> Sequence[Problem]:
        """Return what was wrong when it was last read."""
        return ()

    def list_earlier(self) -> Sequence[tuple[str, float]]:
        """Return what counts although the last refresh did not read it, each with its age in seconds."""
        return ()

    def configure(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        return

    def note_reconnected(self) -> None:
        """Take note that the connection is a new one: nobody knows what was missed meanwhile."""
        return

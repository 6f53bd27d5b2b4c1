"""Source: one part of a hypervisor that is read, such as its guests, its images or its storage.

Each source keeps what it last read. Refreshes read some of it. The rest is read between scrapes, by jobs that
`exporter.compute.maintenance` runs. The sources are in `exporter/virt/sources/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.config.settings import HypervisorConfig
from exporter.model import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A read between scrapes.

    :ivar key: identifies the job in its source
    :ivar run: does it, in its own thread
    :ivar timeout: seconds after which it counts as hung, and the source's next job starts beside it
    :ivar may_hang: whether it may never end; a job that cannot hang has no timeout
    :ivar ends_cache: whether the next scrape reads the hypervisor to show what the job has read. If not, that
        is shown by the first scrape that finds no snapshot younger than `cache_ttl`
    """

    key: str
    run: Callable[[], None]
    timeout: float = math.inf
    may_hang: bool = False
    ends_cache: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of sources: one hypervisor's configuration, and the times that all share.

    :ivar resync_interval: seconds after which values that may have changed are read again
    :ivar stale_grace: seconds for which the last answer is used while there is no new one
    """

    hypervisor: HypervisorConfig
    resync_interval: float
    stale_grace: float


class Source(Protocol):
    """One part of a hypervisor that is read. A source overrides only the methods that it needs.

    :cvar name: the name of its threads and its age; collectors name it in their `needs`
    :cvar needs: the names of sources that this one depends on
    :cvar follows_refreshes: whether its jobs begin right after a refresh, always at the same distance from
        it, and at no other time. One that failed follows the next refresh after its pause
    """

    name: str
    needs: frozenset[str] = frozenset()
    follows_refreshes: bool = False

    @property
    def hung(self) -> int:
        """How many of its calls are past their timeout. Each keeps a thread."""
        return 0

    def get_ages(self) -> Mapping[str, float]:
        """Return how many seconds ago each thing was read that it has: {"the list of domains": 0.0}."""
        return {}

    def get_part(self) -> object | None:
        """Return what collectors are handed of it as it is, beside what Nova's numbers are computed from."""
        return None

    def list_jobs(self) -> Sequence[Job]:
        """Return the jobs that are due now, between scrapes."""
        return ()

    def get_problems(self) -> Sequence[Problem]:
        """Return the problems of the last read."""
        return ()

    def configure(self, settings: Settings) -> None:
        """Use these settings from now on."""
        return

    def note_reconnected(self) -> None:
        """Handle a new connection: events may have been missed meanwhile."""
        return

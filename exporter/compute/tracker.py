"""ResourceTracker: the configured hypervisors, and the audit that refreshes all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from exporter.compute.host_names import HostNames
from exporter.compute.host_state import HostState
from exporter.config.settings import Config, HypervisorConfig
from exporter.model import HostView

MakeHost = Callable[[HypervisorConfig, Config], HostState]


class ResourceTracker:
    """The configured hypervisors, in the configuration's order.

    All state of a hypervisor is in its HostState. So nothing is left of a removed hypervisor.

    :param make_host: returns a new HostState
    """

    def __init__(self, config: Config, make_host: MakeHost) -> None:
        self._make_host = make_host
        self._hosts: dict[HypervisorConfig, HostState] = {}
        self._names = HostNames()
        self._changed = asyncio.Event()
        self.configure(config)

    @property
    def hosts(self) -> tuple[HostState, ...]:
        """The hypervisors, in the configuration's order."""
        return tuple(self._hosts.values())

    def find(self, target: str) -> tuple[HypervisorConfig, HostState] | None:
        """Return the hypervisor with this name, and its settings; None if none is configured."""
        return next((pair for pair in self._hosts.items() if pair[1].target == target), None)

    def configure(self, config: Config) -> None:
        """Track this configuration's hypervisors, with their existing connections.

        Unchanged ones keep their state. If only the URI is unchanged, the state starts anew.
        """
        unchanged = {each: self._hosts[each] for each in config.hypervisors if each in self._hosts}
        old = {each: host for each, host in self._hosts.items() if each not in unchanged}
        self._hosts = {}
        for hypervisor in config.hypervisors:
            host = unchanged.get(hypervisor)
            if host is None:
                host = self._take_over(hypervisor, old, config)
            else:
                host.configure(config)
            self._hosts[hypervisor] = host
        for host in old.values():
            host.close()
        # Audits that are under way read what is new at once.
        self._changed.set()
        self._changed = asyncio.Event()

    async def update_available_resource(
        self, *, deadline: float, refresh: bool = False, target: str | None = None
    ) -> list[HostView]:
        """Refresh all hypervisors at the same time, and return their views by the deadline.

        If a reload comes meanwhile, they are those of the new configuration. A single hypervisor that is not
        in it is shown a last time, as it was.

        :param deadline: on the hosts' clock
        :param refresh: whether to read them even if the snapshots are young enough
        :param target: refresh and return only this hypervisor
        """
        asked = await self._refresh(deadline=deadline, refresh=refresh, target=target)
        hosts = self._list(target)
        duplicates = self._names.find_duplicates(self._hosts)
        for host in hosts:
            host.note_duplicate(duplicates.get(host))
        if target is not None and not hosts:
            return [host.get_view() for host in asked[-1:]]
        return [host.get_view(duplicate_of=duplicates.get(host)) for host in hosts]

    async def _refresh(self, *, deadline: float, refresh: bool, target: str | None) -> list[HostState]:
        """Refresh hypervisors, also those that a reload brings meanwhile. Return all of them."""
        asked: dict[HostState, int] = {}
        waiting: set[asyncio.Future[list[None]]] = set()
        while True:
            changed = self._changed
            new = [host for host in self._list(target) if asked.get(host) != host.changes]
            asked |= {host: host.changes for host in new}
            audit = asyncio.gather(*(host.get_host_stats(refresh=refresh, deadline=deadline) for host in new))
            audit.add_done_callback(_retrieve)
            waiting = {each for each in (*waiting, audit) if not each.done()}
            if not await _wait_unless(changed, waiting):
                return list(asked)

    def _list(self, target: str | None) -> list[HostState]:
        return [host for host in self.hosts if target in (None, host.target)]

    def get_views(self) -> list[HostView]:
        """Return every hypervisor's current view, without a refresh and without waiting."""
        duplicates = self._names.find_duplicates(self._hosts)
        return [host.get_view(duplicate_of=duplicates.get(host)) for host in self.hosts]

    def maintain(self) -> None:
        """Let every hypervisor do its due work between scrapes."""
        for host in self.hosts:
            host.maintain()

    async def finish_maintenance(self, *, timeout: float) -> None:
        """Wait, at most this number of seconds, until everything is read that scrapes do not wait for."""
        await asyncio.wait(
            [asyncio.ensure_future(host.finish_maintenance()) for host in self.hosts], timeout=timeout
        )

    def close(self) -> None:
        """Release all hypervisors, at the end of the process."""
        for host in self.hosts:
            host.end()

    def stop_commands(self) -> None:
        """Kill the commands that run for the hypervisors, when the process ends without `close`."""
        for host in self.hosts:
            host.stop_commands()

    def _take_over(
        self, hypervisor: HypervisorConfig, old: dict[HypervisorConfig, HostState], config: Config
    ) -> HostState:
        """Return the hypervisor's host: an old one, which is removed from the old ones, or a new one."""
        before = next((each for each in old if each.uri == hypervisor.uri), None)
        if before is None:
            return self._make_host(hypervisor, config)
        host = old.pop(before)
        host.reconfigure(hypervisor, config)
        return host


async def _wait_unless(event: asyncio.Event, futures: Collection[asyncio.Future[Any]]) -> bool:
    """Wait for all of the futures; return at once if the event comes. Return whether it has come."""
    coming = asyncio.ensure_future(event.wait())
    pending: set[asyncio.Future[Any]] = set(futures)
    try:
        while pending and not coming.done():
            done, pending = await asyncio.wait({coming, *pending}, return_when=asyncio.FIRST_COMPLETED)
            pending.discard(coming)
            for each in done:
                each.result()  # raises the error of a defect
    finally:
        coming.cancel()
    return event.is_set()


def _retrieve(audit: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging the end of an audit that nobody waits for any more, as when all ends."""
    if not audit.cancelled():
        audit.exception()

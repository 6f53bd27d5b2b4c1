"""ResourceTracker: which hypervisors there are, and the audit that brings all of them up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exporter.compute.host_names import HostNames
from exporter.compute.host_state import HostState
from exporter.config.settings import Config, HypervisorConfig
from exporter.model import HostView

MakeHost = Callable[[HypervisorConfig, Config], HostState]


class ResourceTracker:
    """The configured hypervisors, in the configuration's order.

    It keeps nothing of a hypervisor beside its HostState: one that is taken out leaves nothing behind.

    :param make_host: returns a new HostState
    """

    def __init__(self, config: Config, make_host: MakeHost) -> None:
        self._make_host = make_host
        self._hosts: dict[HypervisorConfig, HostState] = {}
        self._names = HostNames()
        self.configure(config)

    @property
    def hosts(self) -> tuple[HostState, ...]:
        """The hypervisors, in the configuration's order."""
        return tuple(self._hosts.values())

    def find(self, target: str) -> tuple[HypervisorConfig, HostState] | None:
        """Return the hypervisor of this name, and its settings; None where none is configured."""
        return next((pair for pair in self._hosts.items() if pair[1].target == target), None)

    def configure(self, config: Config) -> None:
        """Track this configuration's hypervisors, each over the connections that it has.

        Unchanged ones keep their state, and those of which only the URI is unchanged begin anew.
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

    async def update_available_resource(
        self, *, deadline: float, refresh: bool = False, target: str | None = None
    ) -> list[HostView]:
        """Bring every hypervisor up to date, all at once, and return their views by the deadline.

        :param deadline: on the hosts' clock
        :param refresh: whether to read them even if the cached snapshots are young enough
        :param target: the one hypervisor to bring up to date and return, where not all are wanted
        """
        hosts = [host for host in self.hosts if target in (None, host.target)]
        await asyncio.gather(*(host.get_host_stats(refresh=refresh, deadline=deadline) for host in hosts))
        duplicates = self._names.find_duplicates(self._hosts)
        tracked = set(self.hosts)  # a reload may have taken one out meanwhile
        hosts = [host for host in hosts if host in tracked]
        for host in hosts:
            host.note_duplicate(duplicates.get(host))
        return [host.get_view(duplicate_of=duplicates.get(host)) for host in hosts]

    def get_views(self) -> list[HostView]:
        """Return every hypervisor's view as it is known now, without asking any and without waiting."""
        duplicates = self._names.find_duplicates(self._hosts)
        return [host.get_view(duplicate_of=duplicates.get(host)) for host in self.hosts]

    def maintain(self) -> None:
        """Have every hypervisor do what is due between scrapes."""
        for host in self.hosts:
            host.maintain()

    async def finish_maintenance(self, *, timeout: float) -> None:
        """Wait until everything is known that scrapes do not wait for, for so many seconds."""
        await asyncio.wait(
            [asyncio.ensure_future(host.finish_maintenance()) for host in self.hosts], timeout=timeout
        )

    def close(self) -> None:
        """Let go of all hypervisors."""
        for host in self.hosts:
            host.close()

    def _take_over(
        self, hypervisor: HypervisorConfig, old: dict[HypervisorConfig, HostState], config: Config
    ) -> HostState:
        """Return the hypervisor's host: one of the old, which is then taken out of them, or a new one."""
        before = next((each for each in old if each.uri == hypervisor.uri), None)
        if before is None:
            return self._make_host(hypervisor, config)
        host = old.pop(before)
        host.reconfigure(hypervisor, config)
        return host

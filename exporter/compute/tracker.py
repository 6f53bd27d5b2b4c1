"""ResourceTracker: the configured hypervisors, and the audit that refreshes all of them."""

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

    All state of a hypervisor is in its HostState. So nothing is left of a removed hypervisor.

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

    async def update_available_resource(
        self, *, deadline: float, refresh: bool = False, target: str | None = None
    ) -> list[HostView]:
        """Refresh all hypervisors at the same time, and return their views by the deadline.

        :param deadline: on the hosts' clock
        :param refresh: whether to read them even if the snapshots are young enough
        :param target: refresh and return only this hypervisor
        """
        hosts = [host for host in self.hosts if target in (None, host.target)]
        await asyncio.gather(*(host.get_host_stats(refresh=refresh, deadline=deadline) for host in hosts))
        duplicates = self._names.find_duplicates(self._hosts)
        tracked = set(self.hosts)  # a reload may have removed one meanwhile
        hosts = [host for host in hosts if host in tracked]
        for host in hosts:
            host.note_duplicate(duplicates.get(host))
        return [host.get_view(duplicate_of=duplicates.get(host)) for host in hosts]

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
        """Release all hypervisors."""
        for host in self.hosts:
            host.close()

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

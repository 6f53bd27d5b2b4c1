"""ResourceTracker: which hypervisors there are, and the audit that brings all of them up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from exporter.host_state import HostState
from exporter.model import HostView


class ResourceTracker:
    """The configured hypervisors, in the configuration's order.

    It keeps nothing of a hypervisor beside its HostState: one that is taken out leaves nothing behind.
    """

    def __init__(self, hosts: Sequence[HostState]) -> None:
        self._hosts = tuple(hosts)
        self._owners: dict[str, HostState] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """What the hypervisors are called in the configuration."""
        return tuple(host.target for host in self._hosts)

    async def update_available_resource(self, *, deadline: float, refresh: bool = False) -> list[HostView]:
        """Bring every hypervisor up to date, all at once, and return their views by the deadline.

        :param deadline: on the hosts' clock
        :param refresh: whether to read them even if the cached snapshots are young enough
        """
        views = await asyncio.gather(
            *(host.get_host_stats(refresh=refresh, deadline=deadline) for host in self._hosts)
        )
        return self._refuse_duplicates(views)

    def close(self) -> None:
        """Let go of all hypervisors."""
        for host in self._hosts:
            host.close()

    def _refuse_duplicates(self, views: Sequence[HostView]) -> list[HostView]:
        """Show each host name once: by the target that had it first, for as long as that one shows it."""
        shown = {
            view.snapshot.resources.hypervisor_hostname: host
            for host, view in zip(reversed(self._hosts), reversed(views), strict=True)
            if view.snapshot is not None
        }
        still_shown = {
            (host, view.snapshot.resources.hypervisor_hostname)
            for host, view in zip(self._hosts, views, strict=True)
            if view.snapshot is not None
        }
        kept = {name: host for name, host in self._owners.items() if (host, name) in still_shown}
        self._owners = {**shown, **kept}
        return [self._own_or_refuse(host, view) for host, view in zip(self._hosts, views, strict=True)]

    def _own_or_refuse(self, host: HostState, view: HostView) -> HostView:
        owner = view.snapshot and self._owners[view.snapshot.resources.hypervisor_hostname]
        if owner is None or owner is host:
            host.note_duplicate(None)
            return view
        host.note_duplicate(owner.target)
        return replace(host.get_view(), is_up=False, snapshot=None)

"""Host names: which target is shown if several hypervisors have the same host name.

Only one of them is shown. Otherwise two series would be the same, and Prometheus would refuse the whole
scrape.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.compute.host_state import HostState
from exporter.config.libvirt_uri import LibvirtUri
from exporter.config.settings import HypervisorConfig

_Rival = tuple[HypervisorConfig, HostState]


class HostNames:
    """Decides which target is shown by a host name, in the same way after each start:

    1. the target that has this name in the configuration, by its name or by the host in its URI;
    2. if none or several have it there: the target that had the name first, while it is shown;
    3. if none had it yet: the first in the configuration.
    """

    def __init__(self) -> None:
        self._owners: dict[str, HostState] = {}

    def find_duplicates(self, hosts: Mapping[HypervisorConfig, HostState]) -> dict[HostState, str]:
        """Decide for all hypervisors, in the configuration's order.

        Return those that are not shown, each with the target that is shown instead, and why.
        """
        named: dict[str, list[_Rival]] = {}
        for hypervisor, host in hosts.items():
            if host.hostname is not None:
                named.setdefault(host.hostname, []).append((hypervisor, host))
        duplicates: dict[HostState, str] = {}
        owners = {hostname: rivals[0][1] for hostname, rivals in named.items()}
        for hostname, rivals in named.items():
            if len(rivals) > 1:
                shown = [(hypervisor, host) for hypervisor, host in rivals if host.has_usable_numbers]
                owner, why = self._choose(hostname, shown or rivals)
                owners[hostname] = owner
                duplicates |= {host: f"{owner.target}, which {why}" for _, host in shown if host is not owner}
        self._owners = owners
        return duplicates

    def _choose(self, hostname: str, rivals: list[_Rival]) -> tuple[HostState, str]:
        called_so = [host for hypervisor, host in rivals if _is_called(hypervisor, hostname)]
        candidates = called_so or [host for _, host in rivals]
        before = self._owners.get(hostname)
        owner = before if before in candidates else candidates[0]
        return owner, "is configured by that name" if len(called_so) == 1 else "had it first"


def _is_called(hypervisor: HypervisorConfig, hostname: str) -> bool:
    """Whether the configuration has this name for it. The domain is optional: kvm02 is kvm02.example."""
    configured = (hypervisor.name or "", LibvirtUri.parse(hypervisor.uri).host)
    return _shorten(hostname) in [_shorten(each) for each in configured if each]


def _shorten(hostname: str) -> str:
    return hostname.partition(".")[0].lower()

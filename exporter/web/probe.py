"""Probe targets: hypervisors that Prometheus names in the request, if a configured module allows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from exporter.compute.host_state import HostState
from exporter.compute.tracker import MakeHost
from exporter.config.libvirt_uri import bracket_address
from exporter.config.settings import Config, HypervisorConfig, ModuleConfig
from exporter.errors import ExporterError

MAX_TARGETS = 2000
IDLE_SECONDS = 600.0
# A target is maintained between probes while it is probed at least this often. Prometheus itself loses series
# that are scraped less often.
MAINTAINED_SECONDS = 300.0

# A target becomes the host in a URI, and maybe its port. So characters that could end either are refused,
# whatever the module's pattern is.
_TARGET = re.compile(
    r"(?P<host>[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_MAX_PORT = 65535


class ProbeError(ExporterError):
    """No module allows the request. The message says why."""


@dataclass(slots=True)
class _Probed:
    host: HostState
    asked_at: float

    @property
    def eviction_order(self) -> tuple[bool, float]:
        """Order of those that never answered: first those that failed, then by when they were asked."""
        return not self.host.has_failed, self.asked_at


class ProbeTargets:
    """The recently probed hypervisors. The connection of one that is not probed any more is closed.

    Whoever may probe can name hosts that do not exist. So a target that has never answered makes room for the
    next one, and nothing is done for it between probes.

    :param make_host: returns a new HostState
    :param clock: monotonic seconds
    """

    def __init__(self, config: Config, make_host: MakeHost, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._make_host = make_host
        self._clock = clock
        self._probed: dict[tuple[str, str], _Probed] = {}

    @property
    def hosts(self) -> tuple[HostState, ...]:
        """The hypervisors that are probed at present."""
        return tuple(probed.host for probed in self._probed.values())

    def configure(self, config: Config) -> None:
        """Use this configuration's modules from now on.

        Targets of changed modules start anew; with an unchanged URI they keep their connections.
        """
        for (name, target), probed in list(self._probed.items()):
            before, module = self._config.modules[name], config.modules.get(name)
            if module == before:
                probed.host.configure(config)
            elif module is not None and _is_reached_alike(target, module, before):
                probed.host.reconfigure(module.make_hypervisor(target), config)
            else:
                self._forget(name, target)
        self._config = config

    def get(self, module_name: str, target: str) -> HostState:
        """Return the hypervisor of this target by the module.

        :raises ProbeError: if there is no such module, or it does not allow the target
        """
        self.close_idle()
        probed = self._probed.get((module_name, target))
        if probed is None:
            probed = _Probed(self._connect(module_name, target), 0.0)
            self._probed[module_name, target] = probed
        probed.asked_at = self._clock()
        return probed.host

    def find_settings(self, module_name: str, target: str) -> HypervisorConfig:
        """Return the settings that the module makes of a target that it allows."""
        return self._config.modules[module_name].make_hypervisor(target)

    def maintain(self) -> None:
        """Do the due work between probes, of targets that have answered and are still probed."""
        self.close_idle()
        oldest = self._clock() - MAINTAINED_SECONDS
        for probed in self._probed.values():
            if probed.host.has_answered and probed.asked_at >= oldest:
                probed.host.maintain()

    def close_idle(self) -> None:
        """Close connections that were not used recently."""
        oldest = self._clock() - IDLE_SECONDS
        for (module, target), probed in list(self._probed.items()):
            if probed.asked_at < oldest:
                self._forget(module, target)

    def close(self) -> None:
        """Close all connections."""
        for module, target in list(self._probed):
            self._forget(module, target)

    def _connect(self, module_name: str, target: str) -> HostState:
        module = find_module(self._config.modules, module_name)
        check_target(module_name, module, target)
        if len(self._probed) >= MAX_TARGETS:
            self._make_room()
        return self._make_host(module.make_hypervisor(target), self._config)

    def _make_room(self) -> None:
        """Forget a target that never answered.

        :raises ProbeError: if all have answered
        """
        silent = [key for key, probed in self._probed.items() if not probed.host.has_answered]
        if not silent:
            raise ProbeError(f"{MAX_TARGETS} targets are already being probed")
        self._forget(*min(silent, key=lambda key: self._probed[key].eviction_order))

    def _forget(self, module: str, target: str) -> None:
        self._probed.pop((module, target)).host.end()


def _is_reached_alike(target: str, module: ModuleConfig, before: ModuleConfig) -> bool:
    """Whether a changed module still allows the target with the same URI."""
    return (
        _is_allowed(module, target)
        and module.make_hypervisor(target).uri == before.make_hypervisor(target).uri
    )


def find_module(modules: Mapping[str, ModuleConfig], name: str) -> ModuleConfig:
    """Return the module of this name.

    :raises ProbeError: when there is none
    """
    if name not in modules:
        known = ", ".join(modules) or "none"
        raise ProbeError(f"unknown module {name!r} (configured: {known})")
    return modules[name]


def check_target(module_name: str, module: ModuleConfig, target: str) -> None:
    """Refuse a target that is not a host, or that the module does not allow.

    :raises ProbeError: saying why
    """
    if not target:
        raise ProbeError("the parameter target is missing: /probe?target=HOST&module=NAME")
    match = _TARGET.fullmatch(bracket_address(target))
    if match is None:
        raise ProbeError(
            "target is not a host name or address: expected HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT,"
            " without a user"
        )
    host, port = match["host"], match["port"]
    if port is not None and not 1 <= int(port) <= _MAX_PORT:
        raise ProbeError(f"target has the port {port}, expected 1 to {_MAX_PORT}")
    if port is not None and module.default_port is None:
        raise ProbeError(
            f"target has a port, but the uri of module {module_name!r} has one already, or its transport has"
            " none: leave the port out"
        )
    if _is_allowed(module, target):
        return
    if _matches(module, host):
        raise ProbeError(
            f"module {module_name!r} allows this host, but not its port {port} (pattern {module.target!r}):"
            f" leave the port out, or write it into the pattern, with its colon: kvm[0-9]+(:{port})?"
        )
    raise ProbeError(f"module {module_name!r} does not allow this target (pattern {module.target!r})")


def _is_allowed(module: ModuleConfig, target: str) -> bool:
    """Whether the module allows a target that is one.

    A port is that of the module's transport, or the pattern has it. There its colon has to be written: that
    a dot matches one, too, allows no port.
    """
    match = _TARGET.fullmatch(bracket_address(target))
    if match is None or match["port"] is None:
        return match is not None and _matches(module, target)
    host, port = match["host"], match["port"]
    if int(port) == module.default_port and _matches(module, host):
        return True
    return _matches(module, target) and not _matches(module, f"{host}\0{port}")


def _matches(module: ModuleConfig, target: str) -> bool:
    """Whether the module's pattern matches all of a target; an IPv6 address with or without brackets."""
    forms = {target, bracket_address(target), target.removeprefix("[").removesuffix("]")}
    return any(re.fullmatch(module.target, each) for each in forms)

"""Which hypervisor it is: what it tells of itself once for each connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from exporter.config.settings import HypervisorConfig
from exporter.errors import ConnectError, ConnectionLostError, HypervisorError
from exporter.label import MAX_HOSTNAME_LENGTH, make_label_value
from exporter.model import HostIdentity, Problem
from exporter.virt.calls import NodeHypervisor
from exporter.virt.failed_calls import make_failed_call
from exporter.virt.host_ip import get_host_ip

T = TypeVar("T")


class Identity:
    """The identity of a hypervisor. Not thread-safe.

    All but the host name are labels of hypervisor_info alone. So one that libvirt does not tell is left out,
    and asked for again by the next refresh. virConnectGetVersion, for example, fails on a host without QEMU.
    """

    def __init__(self, hypervisor: NodeHypervisor) -> None:
        self._hypervisor = hypervisor
        self._known: HostIdentity | None = None
        self._hostname: str | None = None
        self._problems: tuple[Problem, ...] = ()

    def get_problems(self) -> Sequence[Problem]:
        """Return what could not be read."""
        return self._problems

    def forget(self) -> None:
        """Read it again: the connection is a new one, or the settings are."""
        self._known, self._problems = None, ()

    def get(self, config: HypervisorConfig) -> HostIdentity:
        """Return it, after asking for what is not known.

        :raises HypervisorError: if the host name is not known: nothing could be shown under another one
        """
        known = self._known
        if known is not None and not any(problem.reason != "unsupported" for problem in self._problems):
            return known
        self._problems = ()
        hypervisor = self._hypervisor
        hypervisor_type = self._ask("virConnectGetType", hypervisor.get_type)
        self._known = HostIdentity(
            hostname=self._get_hostname(),
            hypervisor_type=None if hypervisor_type is None else make_label_value(hypervisor_type),
            hypervisor_version=self._ask("virConnectGetVersion", hypervisor.get_version),
            libvirt_version=self._ask("virConnectGetLibVersion", hypervisor.get_libvirt_version),
            host_ip=config.my_ip or get_host_ip(None if config.is_local else config.uri),
        )
        return self._known

    def _get_hostname(self) -> str:
        """Return the host name; the last one if libvirt does not tell it any more."""
        try:
            name = self._hypervisor.get_hostname()
        except HypervisorError as error:
            if self._hostname is None or isinstance(error, ConnectError | ConnectionLostError):
                raise
            self._note("virConnectGetHostname", error)
        else:
            self._hostname = make_label_value(name, length=MAX_HOSTNAME_LENGTH)
        return self._hostname

    def _ask(self, call: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (ConnectError, ConnectionLostError):
            raise
        except HypervisorError as error:
            self._note(call, error)
        return None

    def _note(self, call: str, error: HypervisorError) -> None:
        self._problems = (*self._problems, make_failed_call(call, error))

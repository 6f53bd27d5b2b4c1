"""A real connection of libvirt, some of whose calls fail or give other answers, as a test says.

The exporter's own boundary (`LibvirtHypervisor`) is used as it is, so that libvirt's errors are translated as
ever. What libvirt's test driver does not have is answered by `ANSWERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import libvirt

from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop

start_event_loop()

_PARTS = (libvirt.virDomain, libvirt.virStoragePool, libvirt.virStorageVol, libvirt.virNodeDevice)

CAPABILITIES = """<capabilities><host><uuid>4c4c4544-0042-4810-8051-b4c04f4d3132</uuid>
  <cpu><arch>x86_64</arch><model>Skylake-Server</model><vendor>Intel</vendor>
    <topology sockets='1' dies='1' cores='4' threads='2'/></cpu>
  <topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>4194304</memory>
      <pages unit='KiB' size='4'>524288</pages><pages unit='KiB' size='2048'>1024</pages>
      <cpus num='4'><cpu id='0' socket_id='0' core_id='0' siblings='0,4'/><cpu id='1' siblings='1,5'/>
        <cpu id='4' siblings='0,4'/><cpu id='5' siblings='1,5'/></cpus></cell>
    <cell id='1'><memory unit='KiB'>4194304</memory>
      <pages unit='KiB' size='4'>524288</pages><pages unit='KiB' size='2048'>1024</pages>
      <cpus num='4'><cpu id='2' siblings='2,6'/><cpu id='3' siblings='3,7'/>
        <cpu id='6' siblings='2,6'/><cpu id='7' siblings='3,7'/></cpus></cell>
  </cells></topology></host></capabilities>"""

# Of the calls that libvirt's test driver does not have, or not as it may be asked: by libvirt-python's names.
ANSWERS: Mapping[str, Any] = {
    "getMemoryStats": {"total": 8 << 20, "free": 1 << 20, "buffers": 0, "cached": 1 << 20},
    "getCapabilities": CAPABILITIES,
    "getCPUMap": (8, [True] * 8, 8),
    "getInfo": ["x86_64", 8192, 8, 2000, 2, 1, 4, 2],
    "getVersion": 7002015,
    "getCellsFreeMemory": lambda first, count: [(cell + 1) << 30 for cell in range(first, first + count)],
    "getFreePages": lambda sizes, first, count: {
        cell: dict.fromkeys(sizes, 100 * (cell + 1)) for cell in range(first, first + count)
    },
}


def make_error(code: int, message: str = "it failed", *, domain: int = libvirt.VIR_FROM_QEMU) -> Exception:
    """Return an error as libvirt-python raises it."""
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, None, None, None, -1, -1)
    return error


class Faults:
    """What goes wrong: by libvirt-python's name of a call, or by this and the name of what it is asked of.

    A fault is an exception that is raised, or a function that makes another answer of the answer and of the
    arguments.

    :ivar asked: the names of the calls that were made
    """

    def __init__(self) -> None:
        self.by_call: dict[str | tuple[str, str], Exception | Callable[..., Any]] = {}
        self.asked: set[str] = set()

    def call(self, target: Any, name: str, subject: str, arguments: tuple[Any, ...]) -> Any:
        self.asked.add(name)
        fault = self.by_call.get((name, subject), self.by_call.get(name))
        if isinstance(fault, Exception):
            raise fault
        answer = ANSWERS[name] if name in ANSWERS else getattr(target, name)
        if callable(answer):
            answer = answer(*arguments)
        return wrap(answer if fault is None else fault(answer, *arguments), self)


class Faulty:
    """libvirt's object, whose calls go through `Faults`."""

    def __init__(self, target: Any, faults: Faults) -> None:
        self._target = target
        self._faults = faults
        self._subject = "" if isinstance(target, libvirt.virConnect) else str(target.name())

    def __getattr__(self, name: str) -> Any:
        if name in _LOCAL or name.endswith(("registerAny", "RegisterAny", "CloseCallback")):
            return getattr(self._target, name)
        return lambda *arguments: self._faults.call(self._target, name, self._subject, arguments)


# These ask no daemon.
_LOCAL = ("name", "UUIDString", "ID", "isAlive", "setKeepAlive", "path")


def wrap(answer: Any, faults: Faults) -> Any:
    """Return the answer, in which every object of libvirt's goes through `Faults`."""
    if isinstance(answer, _PARTS):
        return Faulty(answer, faults)
    if isinstance(answer, list):
        return [wrap(each, faults) for each in answer]
    if isinstance(answer, tuple):
        return tuple(wrap(each, faults) for each in answer)
    return answer


class FaultyHypervisor(LibvirtHypervisor):
    """The exporter's connection over such a one of libvirt."""

    def __init__(self, uri: str, faults: Faults) -> None:
        super().__init__(uri)
        self._faults = faults

    def _open(self) -> Any:
        return Faulty(super()._open(), self._faults)

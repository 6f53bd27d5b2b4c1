"""libvirt as the calls see it that may wait: it answers what a test says, when a test says.

Time passes on a test's clock only: a call takes none of it, and who waits for one that is held has waited in
vain as soon as it is. So no busy machine makes a healthy guest slow, and nobody sits out a time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal, TypeVar

import libvirt

from exporter.attempt import Attempt, Failure, Success
from exporter.errors import ConnectionLostError, GoneError, HypervisorError
from exporter.model import DomainInfo, DomainRecord, ImageSize, StoragePool, UnreadPool
from exporter.virt.calls import StatisticsGroup
from exporter.virt.connections import MAX_CONNECTIONS, Connections
from tests.support.holding import Hold
from tests.support.hosts import Clock

T = TypeVar("T")

_PATIENCE_SECONDS = 20
# A waiting thread is never woken at exactly the requested moment.
_WOKEN_LATE_SECONDS = 0.001

UUID = "4c4c4544-0042-4810-8051-b4c04f4d3132"
# What libvirt gives for the calls of `WaitingConnection.ask` that its test driver does not have.
ANSWERS: Mapping[str, Any] = {}
# What libvirt 9.0 told of a guest with a balloon and one disk, but for the zeros.
STATISTICS: Mapping[str, object] = {
    "balloon.current": 524288,
    "balloon.maximum": 1048576,
    "balloon.swap_in": 4,
    "balloon.swap_out": 8,
    "balloon.major_fault": 12,
    "balloon.minor_fault": 16,
    "balloon.unused": 100000,
    "balloon.available": 500000,
    "balloon.usable": 300000,
    "balloon.last-update": 1749999990,
    "balloon.disk_caches": 70000,
    "balloon.hugetlb_pgalloc": 0,
    "balloon.hugetlb_pgfail": 0,
    "balloon.rss": 40000,
    "block.count": 1,
    "block.0.name": "vda",
    "block.0.path": "/images/vda",
    "block.0.backingIndex": 3,
    "block.0.rd.reqs": 10,
    "block.0.rd.bytes": 40960,
    "block.0.rd.times": 500000000,
    "block.0.wr.reqs": 20,
    "block.0.wr.bytes": 81920,
    "block.0.wr.times": 1500000000,
    "block.0.fl.reqs": 3,
    "block.0.fl.times": 250000000,
    "block.0.allocation": 0,
    "block.0.capacity": 1073741824,
    "block.0.physical": 200704,
}
# What it told of the same guest while another call had its job.
STATISTICS_WITHOUT_MONITOR = {
    name: STATISTICS[name]
    for name in (
        "balloon.current",
        "balloon.maximum",
        "block.count",
        "block.0.name",
        "block.0.path",
        "block.0.backingIndex",
    )
}
_CAPABILITIES = f"""<capabilities><host><uuid>{UUID}</uuid>
  <cpu><arch>x86_64</arch></cpu></host></capabilities>"""


class WaitingLibvirt:
    """Answers over any number of connections, and counts what it is asked.

    What is held answers nothing until it is let go: a guest by its UUID, a call by its name ("list"), the
    opening of connections ("connect"), or one call about one guest ("XML " and its UUID).

    :ivar xml: each domain's XML, or what is raised instead
    :ivar statistics: each domain's, instead of STATISTICS
    :ivar answers: of calls that have no method in `WaitingConnection`, by libvirt-python's name
    :ivar refused: what is raised instead of opening a connection
    :ivar asked: the calls, each with what it was about
    :ivar connections: those that were made
    """

    def __init__(self) -> None:
        self.domains: tuple[DomainRecord, ...] | Exception = ()
        self.xml: dict[str, str | Exception] = {}
        self.info: dict[str, DomainInfo | Exception] = {}
        self.statistics: dict[str, Mapping[str, object] | Exception] = {}
        self.volumes: dict[str, ImageSize | Exception] = {}
        self.blocks: dict[str, ImageSize | Exception] = {}
        self.pools: tuple[StoragePool | UnreadPool, ...] | Exception = ()
        self.devices: tuple[str, ...] | Exception = ()
        self.capabilities = _CAPABILITIES
        self.answers: dict[str, Any] = dict(ANSWERS)
        self.online_cpus: frozenset[int] | Exception = frozenset(range(8))
        self.available_cpus = frozenset(range(8))
        self.busy: set[str] = set()
        self.control_errors: dict[str, Exception] = {}
        self.refused: Exception | None = None
        self.asked: list[tuple[str, str]] = []
        self.connections: list[WaitingConnection] = []
        self._held: dict[str, Hold] = {}
        self._unanswered: list[Hold] = []

    def make_connection(self) -> WaitingConnection:
        self.connections.append(WaitingConnection(self))
        return self.connections[-1]

    def make_connections(self, clock: Clock, *, maximum: int = MAX_CONNECTIONS) -> Connections[Any]:
        """Return connections that are lent, whose calls take time on this clock only."""
        return PlayedConnections(self, self.make_connection, clock=clock, maximum=maximum)

    def take_asked(self) -> list[tuple[str, str]]:
        """Return what was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked

    @contextmanager
    def held(self, *what: str) -> Iterator[None]:
        """Let these guests or calls answer nothing before the block ends, and end all of them with it.

        Over the connections of `make_connections`, callers wait without an answer.
        """
        with self.delayed(*what):
            holds = [self._held[each] for each in what]
            self._unanswered += holds
            try:
                yield
            finally:
                self._unanswered = [each for each in self._unanswered if each not in holds]

    @contextmanager
    def delayed(self, *what: str) -> Iterator[None]:
        """Do the same, but callers wait until the block ends, whatever their timeout is."""
        holds = {each: Hold() for each in what}
        self._held.update(holds)
        try:
            yield
        finally:
            for each, hold in holds.items():
                self._held.pop(each, None)
                hold.let_go()
            for hold in holds.values():
                hold.join()

    def is_waited_for_in_vain(self, thread: threading.Thread | None) -> bool:
        """Whether this thread makes a call that is held."""
        return any(thread in hold.threads for hold in self._unanswered)

    def let_go_of_newer(self, what: str) -> None:
        """Let later calls answer at once; those that are held already stay so."""
        self._held.pop(what)

    def wait_if_held(self, what: str) -> None:
        hold = self._held.get(what)
        if hold is not None:
            hold.enter()
            hold.wait()

    def answer(self, call: str, about: str, answer: T | Exception) -> T:
        found = (self._held.get(what) for what in (call, about, f"{call} {about}"))
        holds = [hold for hold in found if hold is not None]
        for hold in holds:
            hold.enter()
        self.asked.append((call, about))
        for hold in holds:
            hold.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class WaitingConnection:
    """One connection to it."""

    def __init__(self, libvirt: WaitingLibvirt) -> None:
        self.calls = 0
        self.hung_openings = 0
        self.is_open = False
        self.is_closed = False
        self._libvirt = libvirt

    def connect(self) -> bool:
        if self.is_closed:
            raise ConnectionLostError("closed")
        if self._libvirt.refused is not None and not self.is_open:
            raise self._libvirt.refused
        if not self.is_open:
            self._libvirt.wait_if_held("connect")
        is_new, self.is_open = not self.is_open, True
        return is_new

    def disconnect(self) -> None:
        self.is_open = False

    def forbid_connecting(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed, self.is_open = True, False

    def ask(self, name: str, call: Callable[[Any], T]) -> T:
        self.calls += 1
        return call(_AnyCall(self._libvirt))

    def get_capabilities_xml(self) -> str:
        return self._answer("capabilities", "", self._libvirt.capabilities)

    def get_online_cpus(self) -> frozenset[int]:
        return self._answer("online CPUs", "", self._libvirt.online_cpus)

    def get_available_cpus(self) -> frozenset[int]:
        return self._answer("available CPUs", "", self._libvirt.available_cpus)

    def list_domains(self) -> tuple[DomainRecord, ...]:
        return self._answer("list", "", self._libvirt.domains)

    def get_domain_xml(self, uuid: str) -> str:
        return self._answer("XML", uuid, self._libvirt.xml.get(uuid, GoneError("no domain")))

    def get_domain_info(self, uuid: str) -> DomainInfo:
        return self._answer("info", uuid, self._libvirt.info.get(uuid, HypervisorError("no info")))

    def is_guest_busy(self, uuid: str) -> bool:
        self._libvirt.asked.append(("busy", uuid))
        if uuid in self._libvirt.control_errors:
            raise self._libvirt.control_errors[uuid]
        return uuid in self._libvirt.busy

    def get_volume_size(self, path: str) -> ImageSize:
        return self._answer("volume", path, self._libvirt.volumes.get(path, GoneError("no volume")))

    def get_block_size(self, uuid: str, target: str) -> ImageSize:
        return self._answer("block", uuid, self._libvirt.blocks.get(target, HypervisorError("no such disk")))

    def get_domain_statistics(self, uuid: str, groups: Collection[StatisticsGroup]) -> Mapping[str, object]:
        told = self._answer("statistics", uuid, self._libvirt.statistics.get(uuid, STATISTICS))
        kinds = {"balloon": "balloon", "block": "block", "interface": "net"}
        asked_for = {kinds[group] for group in groups}
        return {name: value for name, value in told.items() if name.partition(".")[0] in asked_for}

    def list_active_pools(self) -> tuple[StoragePool | UnreadPool, ...]:
        return self._answer("pools", "", self._libvirt.pools)

    def list_active_pools_of(self, kind: Literal["logical", "rbd"]) -> tuple[StoragePool | UnreadPool, ...]:
        return self._answer("pools", kind, self._libvirt.pools)

    def watch_node_devices(self) -> None:
        """They send no events."""

    def pop_node_devices_changed(self) -> bool:
        return False

    def count_node_devices(self) -> int:
        return len(self._answer("device count", "", self._libvirt.devices))

    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]:
        return self._answer("devices", "", self._libvirt.devices)

    def _answer(self, call: str, about: str, answer: T | Exception) -> T:
        self.calls += 1
        return self._libvirt.answer(call, about, answer)


class _AnyCall:
    """libvirt's own connection. Whatever it is asked, it answers like libvirt's test driver.

    An answer stays the same. A test may put another one, or an error, into `WaitingLibvirt.answers`.
    """

    def __init__(self, libvirt: WaitingLibvirt) -> None:
        self._libvirt = libvirt

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._libvirt.answer(name, "", self._find_answer(name, arguments))

    def _find_answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        answers = self._libvirt.answers
        return answers[name] if name in answers else _ask_test_driver(name, arguments)


@cache
def _ask_test_driver(name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(_open_test_driver(), name)(*arguments)
    except libvirt.libvirtError as error:
        raise LookupError(
            f"libvirt's test driver has no answer to {name} ({error}):"
            " add one to ANSWERS in tests/support/waiting_libvirt.py"
        ) from error


@cache
def _open_test_driver() -> libvirt.virConnect:
    return libvirt.openReadOnly("test:///default")


class PlayedConnections(Connections[Any]):
    """Connections to it, on a clock that stands but for those who wait in vain."""

    def __init__(
        self,
        libvirt: WaitingLibvirt,
        make: Callable[[], Any],
        *,
        clock: Clock,
        maximum: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__(make, clock=clock, maximum=maximum)
        self._libvirt = libvirt
        self._played_clock = clock

    def start(self, call: Callable[[Any], T], *, name: str) -> Attempt[T]:
        return _PlayedAttempt(partial(self.run, call), name, libvirt=self._libvirt, clock=self._played_clock)


class _PlayedAttempt(Attempt[T]):
    """A call that has ended when a caller waits for it. A held call makes the caller wait, on the clock."""

    def __init__(self, call: Callable[[], T], name: str, *, libvirt: WaitingLibvirt, clock: Clock) -> None:
        self._libvirt = libvirt
        self._played_clock = clock
        self._thread: threading.Thread | None = None

        def work() -> T:
            self._thread = threading.current_thread()
            return call()

        super().__init__(work, name=name, clock=clock)

    def wait(self, seconds: float) -> Success[T] | Failure | None:
        if seconds <= 0:
            return self.outcome
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while super().wait(0.002) is None and not self._libvirt.is_waited_for_in_vain(self._thread):
            if time.monotonic() > deadline:
                raise TimeoutError("a call is neither answered nor held")
        if self.outcome is None:
            self._played_clock.now += seconds + _WOKEN_LATE_SECONDS
        return self.outcome

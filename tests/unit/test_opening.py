"""Openings that get no answer, with real sockets and programs, on a clock that is moved by hand."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.attempt import Attempt, Failure
from exporter.virt.opening import TIMEOUT_SECONDS, Openings, OpeningTimeoutError
from exporter.virt.silent_sockets import SilentSocket, list_sockets
from tests.support.hosts import Clock
from tests.support.waiting import wait_until


class Far:
    """A port that accepts connections and says nothing, and openings that wait for it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.silent_seconds: float | None = None
        self.openings = Openings(clock=self.clock, list_sockets=self.list_sockets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.sockets: list[socket.socket] = []
        self._attempts: list[Attempt[bytes]] = []

    def open(self, *, least_bytes: int = 1) -> Attempt[bytes]:
        """Start an opening, and wait until it has connected.

        :param least_bytes: it goes on waiting until so many have come
        """
        connected = threading.Event()

        def connect() -> bytes:
            client = socket.create_connection(self._listener.getsockname())
            self.sockets.append(client)
            connected.set()
            received = client.recv(least_bytes, socket.MSG_WAITALL)
            if len(received) < least_bytes:
                raise ConnectionError("end of file")
            return received

        attempt = self.start(connect)
        assert connected.wait(20)
        return attempt

    def start(self, open_: Callable[[], bytes]) -> Attempt[bytes]:
        attempt = Attempt(lambda: self.openings.run(open_), name="opening", clock=self.clock)
        self._attempts.append(attempt)
        return attempt

    def answer(self) -> None:
        with self.accept() as accepted:
            accepted.sendall(b"!")

    def accept(self) -> socket.socket:
        accepted, _address = self._listener.accept()
        return accepted

    def list_sockets(self) -> list[SilentSocket]:
        """Return the openings' sockets only; this process has others."""
        own = {each.fileno() for each in self.sockets}
        found = [each for each in list_sockets() if each.descriptor in own]
        if self.silent_seconds is None:
            return found
        return [
            SilentSocket(each.descriptor, each.inode, self.silent_seconds, each.has_received)
            for each in found
        ]

    def close(self) -> None:
        for each in (self._listener, *self.sockets):
            with each:
                pass
        for attempt in self._attempts:
            assert attempt.wait(20) is not None


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.close()


def find_error(attempt: Attempt[bytes]) -> Exception:
    outcome = attempt.wait(20)
    assert isinstance(outcome, Failure), outcome
    return outcome.error


def test_what_is_opened_is_returned(far: Far) -> None:
    attempt = far.open()
    assert len(far.openings) == 1
    far.answer()
    outcome = attempt.wait(20)
    assert not isinstance(outcome, Failure)
    assert outcome is not None
    assert outcome.value == b"!"
    assert len(far.openings) == 0


def test_what_opening_raises_is_raised(far: Far) -> None:
    def refuse() -> bytes:
        raise ConnectionRefusedError("nobody")

    assert isinstance(find_error(far.start(refuse)), ConnectionRefusedError)
    assert len(far.openings) == 0


def test_one_without_an_answer_is_ended_after_its_time_and_says_how_long_it_was(far: Far) -> None:
    attempt = far.open()
    far.silent_seconds = TIMEOUT_SECONDS
    far.clock.advance(TIMEOUT_SECONDS - 1)
    far.openings.end_overdue()
    assert attempt.wait(0.05) is None, "not yet"
    far.clock.advance(1)
    far.openings.end_overdue()
    error = find_error(attempt)
    assert isinstance(error, OpeningTimeoutError)
    assert str(error) == "no answer to opening a connection for 30 s"
    assert len(far.openings) == 0


def test_one_that_is_nearly_overdue_is_ended_with_another_and_says_so(far: Far) -> None:
    """Its socket has been silent for long enough."""
    overdue = far.open()
    far.clock.advance(4)
    nearly = far.open()
    far.silent_seconds = TIMEOUT_SECONDS - 4
    far.clock.advance(TIMEOUT_SECONDS - 4)
    far.openings.end_overdue()
    assert isinstance(find_error(overdue), OpeningTimeoutError)
    assert str(find_error(nearly)) == "no answer to opening a connection for 26 s"


def test_a_connection_that_hears_something_is_not_ended_beside_one_that_hangs(far: Far) -> None:
    """An open connection of libvirt hears from its other end every five seconds."""
    attempt = far.open()
    far.silent_seconds = 6.0
    far.clock.advance(TIMEOUT_SECONDS)
    far.openings.end_overdue()
    assert attempt.wait(0.05) is None


def test_an_error_of_its_own_stays_that(far: Far) -> None:
    """What fails long after an end was tried has failed for another reason."""
    go_on = threading.Event()

    def fail() -> bytes:
        assert go_on.wait(20)
        raise PermissionError("no")

    attempt = far.start(fail)
    wait_until(lambda: len(far.openings), "the opening")
    far.clock.advance(TIMEOUT_SECONDS)
    far.openings.end_overdue()
    far.clock.advance(5)
    go_on.set()
    assert isinstance(find_error(attempt), PermissionError)


def test_room_is_made_by_those_that_have_waited_for_longest(far: Far) -> None:
    first = far.open()
    wait_until(lambda: far.list_sockets()[0].silent_seconds > 0.1, "a difference")
    second = far.open()
    far.clock.advance(0.1)
    far.openings.make_room(1, 0.0)
    assert isinstance(find_error(first), OpeningTimeoutError)
    assert second.wait(0.05) is None
    far.openings.make_room(5, 60.0)
    assert second.wait(0.05) is None, "it has not waited for so long"


def test_one_that_was_answered_anything_makes_no_room(far: Far) -> None:
    attempt = far.open(least_bytes=100)
    with far.accept() as accepted:
        accepted.sendall(b"TLS")
        wait_until(lambda: far.list_sockets()[0].has_received, "the answer")
        far.openings.make_room(1, 0.0)
        assert attempt.wait(0.05) is None


@contextmanager
def program_that_hangs() -> Iterator[Callable[[], bytes]]:
    """Yield what waits for a program, as libvirt waits for ssh."""
    started: list[subprocess.Popen[bytes]] = []

    def run() -> bytes:
        process = subprocess.Popen(["sleep", "1000"])
        started.append(process)
        process.wait()
        raise ConnectionError("end of file")

    yield run
    for each in started:
        each.kill()


def test_the_program_of_an_opening_is_ended_and_no_other(far: Far) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other, program_that_hangs() as run:
        attempt = far.start(run)
        wait_until(_has_child_of_another_thread, "the program")
        far.clock.advance(TIMEOUT_SECONDS)
        far.openings.end_overdue()
        assert isinstance(find_error(attempt), OpeningTimeoutError)
        assert other.poll() is None
        other.kill()


def _has_child_of_another_thread() -> bool:
    own = str(threading.get_native_id())
    others = [each for each in Path("/proc/self/task").iterdir() if each.name != own]
    return any((each / "children").read_text().strip() for each in others)

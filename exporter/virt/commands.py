"""Commands that may hang: each in a session of its own, with a timeout and a limit for its output.

When a command has ended, or is given up, all its processes are killed. A process that the kernel does not let
die (state D: it waits for a dead device) stays. Then its program is not started again until that process is
gone. So each program keeps at most one command, and none keeps a thread.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import ExporterError

MAX_OUTPUT_BYTES = 4 * 2**20
# A killed process is usually gone within milliseconds.
KILL_SECONDS = 2.0
_POLL_SECONDS = 0.05
_READ_BYTES = 2**16
# How long the event loop waits while another thread starts a command, which takes milliseconds.
_LOCK_SECONDS = 1.0


class CommandError(ExporterError):
    """A command gave no usable answer. The message follows the program's name: "did not answer in 30 s"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What a command printed, and its exit status; negative if a signal ended it."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """A process, as in /proc/PID/stat.

    :ivar started: in ticks since boot; tells it from a later process with the same number
    """

    number: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def is_alive(self) -> bool:
        return self.state not in ("Z", "X")


@dataclass(kw_only=True, slots=True)
class _Running:
    """A command.

    :ivar first: its first process. Its number, which is that of its session too, stays its own until it is
        waited for
    :ivar left: its processes that could not be killed
    :ivar is_stopped: whether `stop` or `close` has killed it
    """

    program: str
    first: subprocess.Popen[bytes]
    started_at: float
    left: tuple[_Process, ...] = ()
    is_stopped: bool = False


class Commands:
    """The commands of one hypervisor. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[_Running] = []
        self._unkillable: dict[str, _Running] = {}
        self._is_closed = False

    def run(self, command: Sequence[str], *, timeout: float) -> Output:
        """Run a command, without a shell. When this ends, no process of it is left that can be killed.

        :param timeout: seconds for the command; killing it may take KILL_SECONDS more
        :raises CommandError: if it does not answer in time, prints too much, is stopped, or is not to be run
        :raises OSError: if it cannot be started
        """
        # Found here: a directory that hangs keeps only this thread. Inside Popen it would keep all of Python.
        found = shutil.which(command[0]) or command[0]
        running = self._start([found, *command[1:]], program=command[0])
        try:
            stdout, stderr = _read_output(running.first, timeout)
        finally:
            status = self._end(running)
        if running.is_stopped:
            raise CommandError("was stopped")
        return Output(
            status=status, stdout=stdout.decode(errors="replace"), stderr=stderr.decode(errors="replace")
        )

    def stop(self) -> None:
        """Kill the commands that are running. Does not wait for their end."""
        with self._locked():
            for running in self._running:
                running.is_stopped = True
                _kill(running.first.pid)

    def close(self) -> None:
        """Kill the commands that are running, and start none from now on. Does not wait for their end."""
        self._is_closed = True
        self.stop()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, or go on without it if a command hangs while it is started."""
        is_mine = self._lock.acquire(timeout=_LOCK_SECONDS)
        try:
            yield
        finally:
            if is_mine:
                self._lock.release()

    def _start(self, command: Sequence[str], *, program: str) -> _Running:
        with self._lock:
            self._check_unkillable(program)
            if self._is_closed:
                raise CommandError("was stopped")
            first = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C"},
                cwd=Path("/"),
                start_new_session=True,
            )
            running = _Running(program=program, first=first, started_at=time.monotonic())
            self._running.append(running)
            return running

    def _check_unkillable(self, program: str) -> None:
        """Refuse a program of which a process is left that could not be killed."""
        running = self._unkillable.get(program)
        if running is None:
            return
        running.first.poll()
        running.left = tuple(each for each in running.left if _is_still_alive(each))
        if not running.left:
            del self._unkillable[program]
            return
        seconds = time.monotonic() - running.started_at
        numbers = ", ".join(str(each.number) for each in running.left)
        raise CommandError(f"has not answered for {seconds:.0f} s and cannot be killed (process {numbers})")

    def _end(self, running: _Running) -> int:
        """Kill what is left of a command, and return its status; 0 if it is still running."""
        left = _kill_until_gone(running.first.pid)
        for pipe in (running.first.stdout, running.first.stderr):
            if pipe is not None:
                pipe.close()
        with self._lock:
            self._running.remove(running)
            if left:
                running.left = left
                self._unkillable[running.program] = running
            return running.first.poll() or 0


def _read_output(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bytes]:
    """Return what a command prints until its first process has ended. Its children may keep the pipes open.

    :raises CommandError: if that takes too long, or is too much
    """
    deadline = time.monotonic() + timeout
    stdout, stderr = bytearray(), bytearray()
    with selectors.PollSelector() as selector:
        for pipe, output in ((process.stdout, stdout), (process.stderr, stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, output)
        while True:
            has_ended = _has_ended(process.pid)
            ready = selector.select(0 if has_ended else _POLL_SECONDS)
            if has_ended and not ready:
                return bytes(stdout), bytes(stderr)
            for key, _events in ready:
                chunk = os.read(key.fd, _READ_BYTES)
                key.data.extend(chunk)
                if len(key.data) > MAX_OUTPUT_BYTES:
                    raise CommandError(f"printed more than {MAX_OUTPUT_BYTES // 2**20} MiB")
                if not chunk:
                    selector.unregister(key.fileobj)
            if time.monotonic() > deadline:
                raise CommandError(f"did not answer in {timeout:g} s")


def _has_ended(child: int) -> bool:
    """Whether a child has ended. It is not waited for, so no other process gets its number."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # this process was started with SIGCHLD ignored
        return True


def _kill_until_gone(session: int) -> tuple[_Process, ...]:
    """Kill a command's processes. Return those that are still alive after KILL_SECONDS."""
    deadline = time.monotonic() + KILL_SECONDS
    pause = 0.001
    while (left := _kill(session)) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS)
    return left


def _kill(session: int) -> tuple[_Process, ...]:
    """Kill a command's processes, and return those that were alive.

    `timeout vgs` in a script makes a process group of its own, and `setsid --wait vgs` a session of its own.
    """
    # Listed first: the children of a process that is gone are not known as such.
    members = _stop(session)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for each in members:
        if each.is_alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each.number, signal.SIGKILL)
        elif each.number != session:
            _reap(each)
    return tuple(each for each in members if each.is_alive)


def _stop(session: int) -> list[_Process]:
    """Stop a command's processes, so that none starts another one that is not listed. Return all of them."""
    stopped: set[int] = set()
    while True:
        members = _find_members(session, list(_list_processes()))
        running = [each for each in members if each.is_alive and each.number not in stopped]
        if not running:
            return members
        for each in running:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each.number, signal.SIGSTOP)
            stopped.add(each.number)


def _reap(process: _Process) -> None:
    """Wait for a process that has ended, if it is a child: in a container, orphans become children."""
    if process.parent == os.getpid():
        with suppress(ChildProcessError):
            os.waitpid(process.number, os.WNOHANG)


def _find_members(session: int, processes: Sequence[_Process]) -> list[_Process]:
    """Return the processes of a session, and their descendants."""
    members = {each.number: each for each in processes if each.session == session}
    found = True
    while found:
        children = [each for each in processes if each.parent in members and each.number not in members]
        members |= {each.number: each for each in children}
        found = bool(children)
    return list(members.values())


def _list_processes() -> Iterator[_Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (process := _read_process(int(entry.name))) is not None:
            yield process


def _read_process(number: int) -> _Process | None:
    """Return a process; None if it is gone."""
    try:
        stat = Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may have blanks and parentheses itself.
    fields = stat[stat.rindex(b")") + 1 :].split()
    return _Process(
        number=number,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
    )


def _is_still_alive(process: _Process) -> bool:
    """Whether a process that was killed has not ended. If it has, it is not left as a zombie."""
    now = _read_process(process.number)
    if now is None or now.started != process.started:
        return False
    if not now.is_alive:
        _reap(now)
    return now.is_alive

"""Commands that hang, print for ever, or leave children: none of their processes, pipes or threads stays.

Shell scripts stand in for vgs and ceph, which do such things only on a bad day.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.virt.commands import MAX_OUTPUT_BYTES, CommandError, Commands, Output
from exporter.virt.storage.back_ends import get_volume_group_info
from exporter.virt.storage.file_system import StorageError
from tests.support.descriptors import count_descriptors
from tests.support.hung_mount import hung_mount, needs_hung_mount
from tests.support.programs import find_marked, write_program
from tests.support.waiting import wait_until

MARK = "HX_TEST_MARK"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose programs are found, and no others. Their processes are known by a variable."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(MARK, str(tmp_path))
    yield tmp_path
    for process in find_marked(MARK, str(tmp_path)):
        os.kill(process, signal.SIGKILL)


def list_left(programs: Path) -> list[int]:
    """Return the living processes of the programs: killed ones have a moment to vanish."""
    mark = str(programs)
    with suppress(TimeoutError):
        wait_until(lambda: not find_marked(MARK, mark), "the processes to end", seconds=2)
    return find_marked(MARK, mark)


def list_zombies() -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == os.getpid():
            found.append(stat.parent.name)
    return found


HANGING = {
    "itself": "exec sleep 1000",
    "child": "sleep 1000",
    "children": "sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000) & wait",
    "group": "set -m; sleep 1000 & timeout 1000 sleep 1000",
    "session": "setsid --wait sleep 1000",
    "deaf": "trap '' TERM INT HUP PIPE; while :; do sleep 1000; done",
    "stopped": "kill -STOP $$",
    "no-output": "exec >&- 2>&-; sleep 1000",
    "forking": "while :; do sleep 1000 & /bin/true; done",
}


@pytest.mark.parametrize("script", HANGING.values(), ids=HANGING.keys())
def test_a_command_that_hangs_is_given_up_with_all_its_processes(programs: Path, script: str) -> None:
    write_program(programs, "vgs", script)
    zombies, descriptors = list_zombies(), count_descriptors()
    with pytest.raises(CommandError, match=r"^did not answer in 0\.3 s$"):
        Commands().run(["vgs"], timeout=0.3)
    assert list_left(programs) == []
    assert (list_zombies(), count_descriptors()) == (zombies, descriptors)


@pytest.mark.parametrize("timeout", [0.05, 0.1, 0.15, 0.2])
def test_a_command_that_is_starting_others_is_given_up_with_all_of_them(
    programs: Path, timeout: float
) -> None:
    """None starts another one after its processes were listed and before it is killed."""
    write_program(programs, "vgs", "while :; do setsid sleep 1000 & sleep 0.001; done")
    with pytest.raises(CommandError, match="did not answer"):
        Commands().run(["vgs"], timeout=timeout)
    assert list_left(programs) == []


def test_what_a_command_leaves_running_does_not_delay_its_answer(programs: Path) -> None:
    """Its child holds the pipes, so nothing is at its end."""
    write_program(programs, "vgs", "sleep 1000 & echo answer; exit 3")
    begun = time.monotonic()
    assert Commands().run(["vgs"], timeout=600) == Output(status=3, stdout="answer\n", stderr="")
    assert time.monotonic() - begun < 60
    assert list_left(programs) == []


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_command_that_prints_for_ever_is_given_up(programs: Path, stream: str) -> None:
    write_program(programs, "vgs", f"yes >&{stream}")
    with pytest.raises(CommandError, match=f"^printed more than {MAX_OUTPUT_BYTES // 2**20} MiB$"):
        Commands().run(["vgs"], timeout=600)
    assert list_left(programs) == []


def test_a_long_answer_is_complete(programs: Path) -> None:
    """Longer than a pipe holds, and on both streams."""
    write_program(programs, "vgs", "head -c 3000000 /dev/zero >&2; head -c 4000000 /dev/zero")
    output = Commands().run(["vgs"], timeout=600)
    assert (len(output.stdout), len(output.stderr)) == (4_000_000, 3_000_000)


def run_in_thread(commands: Commands, name: str) -> tuple[threading.Thread, list[str]]:
    said: list[str] = []

    def run() -> None:
        try:
            get_volume_group_info(name, commands=commands, timeout=600)
        except StorageError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, said


@pytest.mark.parametrize("is_closed", [False, True], ids=["stopped", "closed"])
def test_a_stopped_command_is_gone_and_not_tried_again(programs: Path, is_closed: bool) -> None:
    write_program(programs, "vgs", f"echo x >> {programs}/count; setsid --wait sleep 1000")
    commands = Commands()
    thread, said = run_in_thread(commands, "vms")
    wait_until(lambda: len(find_marked(MARK, str(programs))) >= 2, "the command to run")
    if is_closed:
        commands.close()
    else:
        commands.stop()
    thread.join()
    assert said == ["images_volume_group vms: vgs was stopped"]
    assert (programs / "count").read_text() == "x\n"
    assert list_left(programs) == []


def test_after_its_end_no_command_is_started(programs: Path) -> None:
    write_program(programs, "vgs", "echo answer")
    commands = Commands()
    commands.stop()
    assert commands.run(["vgs"], timeout=600).stdout == "answer\n"
    commands.close()
    with pytest.raises(CommandError, match=r"^was stopped$"):
        commands.run(["vgs"], timeout=600)


@needs_hung_mount
@pytest.mark.parametrize("script", ["exec cat {}/x", "cat {}/x; true"], ids=["itself", "child"])
def test_a_command_that_cannot_be_killed_is_started_again_when_it_is_gone(
    programs: Path, tmp_path_factory: pytest.TempPathFactory, script: str
) -> None:
    """Shows it on a process in state D, as on a dead device: its file system has read the request."""
    commands = Commands()
    mount = tmp_path_factory.mktemp("hung")
    threads, descriptors, zombies = threading.active_count(), count_descriptors(), list_zombies()
    with hung_mount(mount, takes_requests=True):
        write_program(programs, "vgs", script.format(mount))
        write_program(programs, "ceph", "echo answer")
        with pytest.raises(CommandError, match=r"^did not answer in 0\.3 s$"):
            commands.run(["vgs"], timeout=0.3)
        (left,) = find_marked(MARK, str(programs))
        for _ in range(2):
            with pytest.raises(CommandError) as refusal:
                commands.run(["vgs"], timeout=600)
            assert str(refusal.value).startswith("has not answered for ")
            assert str(refusal.value).endswith(f" s and cannot be killed (process {left})")
        assert find_marked(MARK, str(programs)) == [left]
        assert commands.run(["ceph"], timeout=600).stdout == "answer\n"
        assert threading.active_count() == threads + 1, "the mount's"
    write_program(programs, "vgs", "echo answer")

    def answers() -> bool:
        with suppress(CommandError):
            return commands.run(["vgs"], timeout=600).stdout == "answer\n"
        return False

    wait_until(answers, "the process to be gone")
    assert list_left(programs) == []
    assert (list_zombies(), count_descriptors()) == (zombies, descriptors)


# As the first process of a container, it inherits what a killed command leaves behind.
FIRST_PROCESS = """
import ctypes, os, sys
from exporter.virt.commands import CommandError, Commands
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
try:
    Commands().run(["vgs"], timeout=0.5)
except CommandError as error:
    print(error)
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [("(sleep 1000 & sleep 1000) & sleep 1000", "did not answer in 0.5 s\nno child\n"),
     ("(sleep 1000 & sleep 1000) & true", "no child\n")],
    ids=["hangs", "answers"],
)  # fmt: skip
def test_the_first_process_of_a_container_keeps_no_zombie(programs: Path, script: str, said: str) -> None:
    write_program(programs, "vgs", script)
    result = subprocess.run(
        [sys.executable, "-c", FIRST_PROCESS], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == said


def test_who_ignores_the_end_of_children_gets_the_answer_all_the_same(programs: Path) -> None:
    """SIGCHLD may be ignored by whoever starts the exporter. The kernel then keeps no status for it."""
    write_program(programs, "vgs", "echo answer")
    code = "from exporter.virt.commands import Commands\nprint(Commands().run(['vgs'], timeout=60).stdout)"
    shell = ["/bin/sh", "-c", 'trap "" CHLD; exec "$@"', "sh", sys.executable, "-c", code]
    result = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "answer\n\n"

"""vgs and ceph df: how they are asked, what can be wrong with their answers, and how long those count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.errors import ExporterError
from exporter.model import Storage
from exporter.virt.commands import Commands
from exporter.virt.storage.back_ends import Answer, get_ceph_pool_info, get_volume_group_info
from exporter.virt.storage.command_reader import (
    KEEP_SECONDS,
    READ_INTERVAL_SECONDS,
    SILENT_SECONDS,
    CommandReader,
)
from exporter.virt.storage.file_system import StorageError
from tests.support.programs import CEPH_DF, write_program
from tests.support.records import make_storage
from tests.support.waiting import wait_until

STORAGE = Answer(storage=make_storage())
OTHER_STORAGE = Answer(storage=make_storage(used_bytes=1))
WHAT = "images_volume_group vms: vgs"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose programs are found, and no others: there is neither vgs nor ceph."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def fail_vgs(*, timeout: float = 20) -> str:
    with pytest.raises(StorageError) as failure:
        get_volume_group_info("vms", commands=Commands(), timeout=timeout)
    return str(failure.value)


def fail_ceph(pool: str = "vms") -> str:
    with pytest.raises(StorageError) as failure:
        get_ceph_pool_info(pool, user=None, ceph_conf=None, commands=Commands())
    return str(failure.value)


def test_vgs_is_asked_as_nova_asks_it(programs: Path) -> None:
    write_program(programs, "vgs", 'echo "$*" > "$(dirname "$0")/asked"; echo "  3000|1000|F2-dd"')
    answer = get_volume_group_info("vms", commands=Commands())
    storage = Storage(size_bytes=3000, used_bytes=2000, free_bytes=1000)
    assert answer == Answer(storage=storage, owner="F2dd")
    asked = "--noheadings --nosuffix --separator | --units b -o vg_size,vg_free,vg_uuid vms\n"
    assert (programs / "asked").read_text() == asked


def test_a_volume_group_without_a_uuid_has_its_size(programs: Path) -> None:
    write_program(programs, "vgs", 'echo "  3000|1000"')
    storage = Storage(size_bytes=3000, used_bytes=2000, free_bytes=1000)
    assert get_volume_group_info("vms", commands=Commands()) == Answer(storage=storage, owner=None)


def test_ceph_is_asked_as_nova_asks_it(programs: Path) -> None:
    write_program(programs, "ceph", f'echo "$*" > "$(dirname "$0")/asked"; cat <<END\n{CEPH_DF}\nEND')
    commands = Commands()
    storage = get_ceph_pool_info("vms", user="nova", ceph_conf="/etc/ceph/a.conf", commands=commands)
    assert storage == Storage(size_bytes=322122547200, used_bytes=16106127360, free_bytes=91268055040)
    assert (programs / "asked").read_text() == "df --format=json --id nova --conf /etc/ceph/a.conf\n"
    get_ceph_pool_info("vms", user=None, ceph_conf=None, commands=commands)
    assert (programs / "asked").read_text() == "df --format=json\n"


def test_a_name_is_never_read_by_a_shell(programs: Path) -> None:
    write_program(programs, "vgs", 'for each; do last=$each; done; echo "$last" >&2; exit 5')
    with pytest.raises(StorageError, match=r"vgs failed: \$\(id\);`id`$"):
        get_volume_group_info("$(id);`id`", commands=Commands())


def test_a_command_that_is_missing_is_named_with_its_package(programs: Path) -> None:
    assert fail_vgs() == "images_volume_group vms: vgs (package lvm2) is not installed"
    assert fail_ceph() == "images_rbd_pool vms: ceph (package ceph-common) is not installed"


def test_a_command_that_may_not_be_run_is_told(programs: Path) -> None:
    (programs / "vgs").mkdir()
    assert fail_vgs() == "images_volume_group vms: vgs cannot be run: Permission denied"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ('echo "  Volume group \\"vms\\" not found" >&2; echo "  Cannot process" >&2; exit 5', None),
        ("exit 3", "vgs failed: status 3"),
        ("true", "vgs answered ''"),
        ("echo '  3000'", "vgs answered '3000'"),
        ("echo '  3000|1000|x|y'", "vgs answered '3000|1000|x|y'"),
        ("echo '3.00g|1.00g|x'", "vgs answered '3.00g|1.00g|x'"),
    ],
    ids=["unknown-group", "no-word", "nothing", "one-column", "four-columns", "suffixes"],
)
def test_an_answer_of_vgs_that_is_none_is_told_in_one_line(
    programs: Path, script: str, problem: str | None
) -> None:
    write_program(programs, "vgs", script)
    expected = problem or 'vgs failed: Volume group "vms" not found'
    assert fail_vgs() == f"images_volume_group vms: {expected}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("no json", "unexpected answer of ceph df: JSONDecodeError("),
        ("[]", "unexpected answer of ceph df: TypeError("),
        ('{"pools": []}', "unexpected answer of ceph df: KeyError('stats')"),
        (CEPH_DF.replace("max_avail", "avail"), "unexpected answer of ceph df: KeyError('max_avail')"),
        ('{"pools": [], "stats": {"total_bytes": 1e999}}', "unexpected answer of ceph df: ValueError("),
        ("[" * 100_000, "unexpected answer of ceph df: RecursionError("),
        (CEPH_DF.replace('"vms"', '"images"'), "no such pool (there are: device_health_metrics, images)"),
    ],
    ids=["no-json", "a-list", "no-total", "no-free", "infinite", "deep", "another-pool"],
)
def test_an_answer_of_ceph_that_is_none_is_told_in_one_line(
    programs: Path, answer: str, problem: str
) -> None:
    write_program(programs, "ceph", f"cat <<'END'\n{answer}\nEND")
    said = fail_ceph()
    assert said.startswith(f"images_rbd_pool vms: {problem}")
    assert "\n" not in said


def test_a_command_that_hangs_is_given_up(programs: Path) -> None:
    write_program(programs, "vgs", "exec sleep 60")
    assert fail_vgs(timeout=0.2) == "images_volume_group vms: vgs did not answer in 0.2 s"


@pytest.mark.parametrize(("deaths", "is_told"), [(2, False), (3, True)])
def test_vgs_is_tried_three_times_when_a_signal_ends_it(programs: Path, deaths: int, is_told: bool) -> None:
    count = programs / "count"
    write_program(
        programs,
        "vgs",
        f'echo x >> {count}; [ "$(wc -l < {count})" -le {deaths} ] && kill -SEGV $$; echo "3|1|x"',
    )
    if is_told:
        assert fail_vgs() == "images_volume_group vms: vgs failed: status -11"
    else:
        assert get_volume_group_info("vms", commands=Commands()).storage.size_bytes == 3
    assert count.read_text().count("x") == 3


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Command:
    """A command, and what it says next."""

    answer: Answer | ExporterError = STORAGE
    may_answer: threading.Event = field(default_factory=threading.Event)
    clock: Clock = field(default_factory=Clock)
    asked: int = 0

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.reader = CommandReader(self.ask, what=WHAT, clock=self.clock, timeout=5)

    def ask(self) -> Iterator[Answer]:
        self.asked += 1
        self.may_answer.wait(20)
        if isinstance(self.answer, ExporterError):
            raise self.answer
        yield self.answer

    def get(self) -> tuple[Answer, str | None]:
        return self.reader.get(), self.reader.error


def test_the_first_answer_is_waited_for_and_then_kept() -> None:
    command = Command()
    assert not command.reader.needs_reading()
    assert command.get() == command.get() == (STORAGE, None)
    assert command.asked == 1


def test_a_first_answer_that_takes_too_long_is_not_waited_for_twice() -> None:
    command = Command()
    command.may_answer.clear()
    command.reader = CommandReader(command.ask, what=WHAT, clock=command.clock, timeout=0.05)
    for _ in range(2):
        with pytest.raises(StorageError, match="its command is still running"):
            command.get()
        wait_until(lambda: command.asked, "the command to be run")
    command.clock.now += 10 * READ_INTERVAL_SECONDS
    assert not command.reader.needs_reading()
    command.reader.read()
    assert command.asked == 1
    command.may_answer.set()
    wait_until(command.reader.needs_reading, "the command to end")
    assert command.get() == (STORAGE, None)


def test_the_command_is_asked_again_when_its_answer_is_old() -> None:
    command = Command()
    command.get()
    command.clock.now += READ_INTERVAL_SECONDS - 1
    assert not command.reader.needs_reading()
    command.clock.now += 1
    assert command.reader.needs_reading()
    command.answer = OTHER_STORAGE
    command.reader.read()
    assert command.get() == (OTHER_STORAGE, None)


def test_a_command_that_begins_to_fail_is_told_and_its_last_answer_counts_for_a_while() -> None:
    command = Command()
    command.get()
    command.answer = StorageError("no monitor")
    command.reader.read()
    command.clock.now += KEEP_SECONDS
    assert command.get() == (STORAGE, "no monitor")
    command.clock.now += 1
    with pytest.raises(StorageError, match="no monitor"):
        command.get()
    command.answer = OTHER_STORAGE
    command.reader.read()
    assert command.get() == (OTHER_STORAGE, None)


def test_a_command_that_fails_from_the_beginning_is_told_at_once() -> None:
    with pytest.raises(StorageError, match="no monitor"):
        Command(answer=StorageError("no monitor")).get()


def test_the_last_answer_of_a_command_that_never_ends_counts_for_a_while() -> None:
    """Shows it for a command that hangs before its timeout counts: while it is started."""
    command = Command()
    command.get()
    command.may_answer.clear()
    reading = threading.Thread(target=command.reader.read)
    reading.start()
    wait_until(lambda: command.asked == 2, "the command to be run again")
    command.clock.now += SILENT_SECONDS
    assert command.get() == (STORAGE, None)
    command.clock.now += 1
    assert command.get() == (STORAGE, f"{WHAT} has not answered for {SILENT_SECONDS + 1:.0f} s")
    command.clock.now = 1000 + KEEP_SECONDS + 1
    with pytest.raises(StorageError, match=f"^{WHAT} has not answered for 301 s$"):
        command.get()
    command.may_answer.set()
    reading.join()
    assert command.get() == (STORAGE, None)


def test_the_last_answer_of_a_command_that_nobody_runs_any_more_counts_for_a_while() -> None:
    command = Command()
    command.get()
    command.clock.now += KEEP_SECONDS
    assert command.get() == (STORAGE, None)
    command.clock.now += 1
    with pytest.raises(StorageError, match=f"^{WHAT} has not answered for 301 s$"):
        command.get()


def test_a_first_answer_that_never_comes_is_told() -> None:
    command = Command()
    command.may_answer.clear()
    command.reader = CommandReader(command.ask, what=WHAT, clock=command.clock, timeout=0.05)
    with pytest.raises(StorageError, match="its command is still running"):
        command.get()
    wait_until(lambda: command.asked, "the command to be run")
    command.clock.now += 60
    with pytest.raises(StorageError, match=f"^{WHAT} has not answered for 60 s$"):
        command.get()
    command.may_answer.set()


def test_a_long_message_of_a_command_is_cut(programs: Path) -> None:
    write_program(programs, "vgs", "head -c 100000 /dev/zero | tr '\\0' x >&2; exit 5")
    assert fail_vgs() == f"images_volume_group vms: vgs failed: {200 * 'x'}"

"""Reads that hang: what is given up, how long that takes, what is remembered, and what is asked again.

Time passes on a clock of the test's only: who waits for reads of which all hang has waited in vain at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exporter.recorder import FILES, Recorder
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.refresh_timeout import SHORT_SECONDS, TOTAL_SECONDS, RefreshTimeout
from tests.support.holding import Hold
from tests.support.hosts import Clock

_ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
_POLL_SECONDS = 0.002
_POLLS = 10_000


class Bench:
    """Files on "/" and on mounts /0 to /9, some of which hang or are slow, and a reader of them.

    :ivar hanging: beginnings of paths that hang until `thaw`
    :ivar slow: paths, and the seconds that a read of each takes
    :ivar reads: the paths that were read
    """

    def __init__(self, mountinfo: Path, *hanging: str) -> None:
        self.clock = Clock()
        self.hanging = set(hanging)
        self.slow: dict[str, float] = {}
        self.link = ""  # a folder that leads to the mount /1
        self.reads: list[str] = []
        self.mountinfo = mountinfo
        self.mount(*range(10))
        self.recorder = Recorder(clock=self.clock)
        self.hung = HungReads(self.recorder, mountinfo=mountinfo)
        self.reader = self.make_reader()
        self.waited = 0.0
        self._hold = Hold()
        self._delays: list[tuple[float, Hold]] = []
        self._others = {each for each in threading.enumerate() if each.name == "read files"}

    def make_reader(self) -> FileReader[str, str]:
        return FileReader(
            self._read,
            path=lambda path: path,
            hung=self.hung,
            clock=self.clock,
            wait=self._wait,
            resolve=lambda path: path.replace(self.link, "/1", 1) if self.link else path,
        )

    def mount(self, *numbers: int, generation: int = 0) -> None:
        lines = [f"{100 * (generation + 1) + each} 22 0:40 / /{each} rw - nfs4 x rw" for each in numbers]
        self.mountinfo.write_text("\n".join([_ROOT, *lines]))

    def run(self, paths: Sequence[str], refresh_timeout: RefreshTimeout | None = None) -> list[str | Hung]:
        """Read them in a refresh of their own, and take note of how long that took."""
        began_at = self.clock.now
        results = self.reader.run(paths, refresh_timeout or RefreshTimeout(clock=self.clock))
        self.waited = self.clock.now - began_at
        return results

    def take_reads(self) -> list[str]:
        reads, self.reads = sorted(self.reads), []
        return reads

    def thaw(self) -> None:
        """Let what hangs answer."""
        self.hanging.clear()
        hold, self._hold = self._hold, Hold()
        hold.let_go()
        hold.join()

    def close(self) -> None:
        self.slow.clear()
        for _, hold in self._delays:
            hold.let_go()
        self.thaw()

    def _read(self, path: str) -> str:
        hold = None
        if any(path.startswith(each) for each in self.hanging):
            hold = self._hold
        elif path in self.slow:
            hold = Hold()
            self._delays.append((self.clock.now + self.slow[path], hold))
        self.reads.append(path)
        if hold is not None:
            hold.enter()
            hold.wait()
        return f"content of {path}"

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        for _ in range(_POLLS):
            if event.wait(_POLL_SECONDS):
                return True
            if self._is_all_held() and not event.is_set():
                self._pass(seconds)
                return event.is_set()
        raise TimeoutError("a read neither ends nor hangs")

    def _is_all_held(self) -> bool:
        held = {
            thread for hold in (self._hold, *(hold for _, hold in self._delays)) for thread in hold.threads
        }
        running = {each for each in threading.enumerate() if each.name == "read files"} - self._others
        return running <= held

    def _pass(self, seconds: float) -> None:
        self.clock.now += seconds
        due = [hold for at, hold in self._delays if at <= self.clock.now]
        self._delays = [(at, hold) for at, hold in self._delays if at > self.clock.now]
        for hold in due:
            hold.let_go()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Files of which none hangs yet; in the end no thread is left."""
    bench = Bench(tmp_path / "mountinfo")
    yield bench
    bench.close()


def _contents(paths: Sequence[str]) -> list[str]:
    return [f"content of {path}" for path in paths]


def _hung(paths: Sequence[str]) -> list[Hung]:
    return [Hung(path) for path in paths]


def _on(mount: int, count: int = 5) -> list[str]:
    return [f"/{mount}/{number}" for number in range(count)]


def test_files_that_answer_are_read_in_their_order_by_one_thread(bench: Bench) -> None:
    """Shows also that as long as all is well nobody asks what is mounted where."""
    bench.mountinfo.unlink()
    threads = []

    def read(path: str) -> str:
        threads.append(threading.current_thread())
        return path.upper()

    reader = FileReader(read, path=str, hung=bench.hung, clock=bench.clock)
    assert reader.run(["/b", "/1/a", "/b"], RefreshTimeout(clock=bench.clock)) == ["/B", "/1/A", "/B"]
    assert len(set(threads)) == 1
    assert threading.current_thread() not in threads
    assert reader.run([], RefreshTimeout(clock=bench.clock)) == []


def test_one_path_that_hangs_costs_itself_only(bench: Bench) -> None:
    """Shows that a link to a dead mount takes nothing along that lies beside it, at first or later."""
    bench.hanging = {"/link"}
    for seconds in (TOTAL_SECONDS, 0, 0):
        assert bench.run(["/a", "/link", "/b", "/1/0"]) == [
            *_contents(["/a"]),
            Hung("/link"),
            *_contents(["/b", "/1/0"]),
        ]
        assert bench.waited == pytest.approx(seconds)
    assert bench.reads.count("/link") == len(bench.hung) == 1


def test_a_read_that_hangs_is_recorded_as_under_way_until_it_ends(bench: Bench) -> None:
    bench.hanging = {"/link"}
    bench.run(["/link"])
    with bench.recorder.recording() as recording:
        (entry,) = recording.get_entries()
        assert (entry.kind, entry.name, entry.subject, entry.ended_at) == (FILES, "read", "/link", None)
        assert entry.started_at == 1000, "when it began, not when it was given up"
        bench.thaw()
        bench.run(["/link"])
    (entry,) = recording.get_entries()
    assert entry.outcome == "ok"


def test_a_folder_that_is_a_link_to_a_mount_that_hangs_takes_nothing_along_that_lies_beside_it(
    bench: Bench,
) -> None:
    """Shows that where a path leads is remembered from when it was read, as nobody can ask when it hangs."""
    bench.link = "/instances"
    linked, beside = [f"/instances/{number}" for number in range(5)], ["/a", "/b"]
    assert bench.run([*linked, *beside]) == _contents([*linked, *beside])
    bench.hanging = {"/instances/"}
    for seconds in (TOTAL_SECONDS, 0, 0):
        assert bench.run([*linked, *beside]) == [*_hung(linked), *_contents(beside)]
        assert bench.waited == pytest.approx(seconds)
        assert len(bench.hung) == 2
    bench.hanging = {"/instances/", "/1/"}
    assert bench.run([*_on(1), "/c"]) == [*_hung(_on(1)), *_contents(["/c"])]
    assert bench.waited == 0, "both are one mount"


def test_all_mounts_that_hang_at_once_cost_one_second_and_nothing_that_is_well(bench: Bench) -> None:
    """Shows that it takes no longer for eight than for one, and that it happens once."""
    dead = [path for mount in range(8) for path in _on(mount)]
    well = ["/a", "/b", *_on(8), *_on(9)]
    bench.hanging = {f"/{mount}/" for mount in range(8)}
    expected = [*_contents(well[:1]), *_hung(dead), *_contents(well[1:])]
    assert bench.run([well[0], *dead, *well[1:]]) == expected
    assert bench.waited == pytest.approx(TOTAL_SECONDS)
    assert len(bench.hung) == 16, "two threads for each mount"
    bench.take_reads()
    for _ in range(5):
        assert bench.run([well[0], *dead, *well[1:]]) == expected
        assert bench.waited == 0
        assert bench.take_reads() == sorted(well), "nothing that hangs is asked again"
        assert len(bench.hung) == 16


def test_each_mount_that_begins_to_hang_later_costs_one_second_once(bench: Bench) -> None:
    paths = [path for mount in range(4) for path in _on(mount)]
    for mount in range(4):
        bench.hanging.add(f"/{mount}/")
        for seconds in (TOTAL_SECONDS, 0):
            results = bench.run(paths)
            assert results == [*_hung(paths[: 5 * (mount + 1)]), *_contents(paths[5 * (mount + 1) :])]
            assert bench.waited == pytest.approx(seconds)
    assert len(bench.hung) == 8


def test_a_mount_that_comes_back_is_read_by_the_next_run(bench: Bench) -> None:
    bench.hanging = {"/1/"}
    bench.run(_on(1))
    bench.thaw()
    assert len(bench.hung) == 0
    assert bench.run(_on(1)) == _contents(_on(1))
    assert bench.waited == 0
    bench.hanging = {"/1/"}
    bench.run(_on(1))
    assert bench.waited == pytest.approx(TOTAL_SECONDS), "it has shown that it is well"


def test_a_mount_that_hangs_again_as_soon_as_it_answers_costs_a_moment(bench: Bench) -> None:
    bench.hanging = {"/1/"}
    bench.run([*_on(1), "/a"])
    for _ in range(3):
        bench.thaw()
        bench.hanging = {"/1/"}
        assert bench.run([*_on(1), "/a"]) == [*_hung(_on(1)), *_contents(["/a"])]
        assert bench.waited == pytest.approx(SHORT_SECONDS)
        assert len(bench.hung) == 2


def test_another_path_on_a_mount_that_hangs_costs_a_moment(bench: Bench) -> None:
    bench.hanging = {"/1/"}
    bench.run(_on(1, 1))
    assert len(bench.hung) == 1
    for seconds in (SHORT_SECONDS, 0):
        assert bench.run(_on(1)) == _hung(_on(1))
        assert bench.waited == pytest.approx(seconds)
        assert len(bench.hung) == 2


def test_a_path_that_the_kernel_answers_for_does_not_make_its_mount_trusted(bench: Bench) -> None:
    """Shows that a mount costs a second once though its files hang one after the other, as caches end."""
    bench.hanging = {"/1/0"}
    bench.run(_on(1))
    bench.hanging = {"/1/"}
    bench.run(_on(1))
    assert bench.waited == pytest.approx(SHORT_SECONDS)


def test_what_is_mounted_in_place_of_a_dead_mount_is_read(bench: Bench) -> None:
    """Shows that reads that hang for ever, on a server that is gone, do not outlive their mount."""
    bench.hanging = {"/1/"}
    assert bench.run(_on(1)) == _hung(_on(1))
    bench.mount(1, generation=1)
    bench.hanging = set()
    assert bench.run(_on(1)) == _contents(_on(1))
    assert len(bench.hung) == 2, "whose threads are there still"
    bench.hanging = {"/1/"}
    assert bench.run(_on(1)) == _hung(_on(1))
    assert bench.waited == pytest.approx(TOTAL_SECONDS), "nothing was held against the new one"


def test_what_else_is_needed_is_asked_while_a_mount_hangs(bench: Bench) -> None:
    """Shows that storage pools that hang as well share the mount's second."""
    begun_at: list[float] = []
    refresh_timeout = RefreshTimeout(clock=bench.clock, begin_others=lambda: begun_at.append(bench.clock.now))
    bench.run(["/a"], refresh_timeout)
    assert begun_at == []
    bench.hanging = {"/1/"}
    began_at = bench.clock.now
    bench.run(_on(1), refresh_timeout)
    assert begun_at[0] - began_at < SHORT_SECONDS


def test_where_all_time_is_spent_what_is_well_is_read_all_the_same(bench: Bench) -> None:
    bench.hanging = {"/1/"}
    refresh_timeout = RefreshTimeout(clock=bench.clock)
    refresh_timeout.spend(TOTAL_SECONDS)
    paths = [*_on(1), "/a", *_on(2)]
    assert bench.run(paths, refresh_timeout) == [*_hung(_on(1)), *_contents(["/a", *_on(2)])]
    assert bench.waited == pytest.approx(SHORT_SECONDS)


def test_readers_that_share_what_hangs_share_the_second_and_the_threads(bench: Bench) -> None:
    """Shows that the file system of the instances path and the images on it cost no more than either."""
    bench.hanging = {"/1"}
    refresh_timeout = RefreshTimeout(clock=bench.clock)
    assert bench.run(["/1"], refresh_timeout) == _hung(["/1"])
    assert bench.waited == pytest.approx(TOTAL_SECONDS)
    bench.reader = bench.make_reader()
    assert bench.run([*_on(1), "/a"], refresh_timeout) == [*_hung(_on(1)), *_contents(["/a"])]
    assert (bench.waited, len(bench.hung)) == (0, 2)


def test_a_mount_whose_every_file_is_slow_has_no_more_time_than_one_that_hangs(bench: Bench) -> None:
    """Shows that a run with progress ends, too, and that what was read in time counts."""
    paths = _on(1, 40)
    bench.slow = dict.fromkeys(paths, 0.45)
    results = bench.run([*paths, "/a"])
    assert bench.waited <= TOTAL_SECONDS + 0.2
    assert results[0] == "content of /1/0"
    assert results[-2:] == [Hung("/1/39"), "content of /a"]


def test_a_process_that_was_stopped_takes_no_mount_for_hung(bench: Bench) -> None:
    """Shows that time in which nothing here could run says nothing about files."""
    bench.hanging = {"/1/0"}

    def stop_once(event: threading.Event, _seconds: float) -> bool:
        while len(bench._hold.threads) == 0:
            event.wait(_POLL_SECONDS)
        bench.clock.now += 60
        bench.thaw()
        return event.is_set()

    reader = FileReader(
        bench._read, path=lambda path: path, hung=bench.hung, clock=bench.clock, wait=stop_once
    )
    assert reader.run(["/1/0"], RefreshTimeout(clock=bench.clock)) == _contents(["/1/0"])


def test_what_a_read_raises_is_raised(bench: Bench) -> None:
    def fail(path: str) -> str:
        raise FileNotFoundError(path)

    reader = FileReader(fail, path=str, hung=bench.hung, clock=bench.clock)
    with pytest.raises(FileNotFoundError, match="/a"):
        reader.run(["/a"], RefreshTimeout(clock=bench.clock))


def test_a_mount_point_that_is_no_text_does_no_harm(bench: Bench) -> None:
    bench.mountinfo.write_bytes(
        b"26 22 0:43 / /\xff\xfe rw - tmpfs tmpfs rw\n" + bench.mountinfo.read_bytes()
    )
    bench.hanging = {"/1/"}
    assert bench.run([*_on(1), "/a"]) == [*_hung(_on(1)), *_contents(["/a"])]


def test_without_mountinfo_everything_is_one_mount(tmp_path: Path) -> None:
    mounts = HungReads(mountinfo=tmp_path / "mountinfo").read_mounts()
    assert mounts.find("/a") == mounts.find("/b/c")

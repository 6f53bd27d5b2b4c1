"""What Nova's image cache takes is read between scrapes, and what is not known of it is no 0."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.compute.source import Settings
from exporter.config.settings import HypervisorConfig
from exporter.model import Severity
from exporter.virt.masks import Sandbox, find_mask
from exporter.virt.sources.image_cache import ImageCache
from exporter.virt.storage import image_cache
from exporter.virt.storage.file_system import StorageError
from exporter.virt.storage.image_cache import get_image_cache_bytes
from tests.support.hosts import Clock

BLOCK = 4096


def fill(path: Path, *, blocks: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"x" * BLOCK * blocks)
        os.fsync(file.fileno())
    return path


def count_bytes(*files: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in files)


def test_it_takes_the_space_of_its_files_and_not_their_size(tmp_path: Path) -> None:
    """Sparse files, links and swap images count by what they take; folders and dangling links do not."""
    first, second = fill(tmp_path / "_base/one"), fill(tmp_path / "_base/swap_1", blocks=5)
    os.truncate(first, 2**40)
    (tmp_path / "_base/link").symlink_to(second)
    (tmp_path / "_base/dangling").symlink_to("nowhere")
    fill(tmp_path / "_base/folder/not this")
    fill(tmp_path / "instance/nor this")
    assert get_image_cache_bytes(str(tmp_path), "_base") == count_bytes(first, second, second) > 0


def test_without_a_cache_it_takes_nothing(tmp_path: Path) -> None:
    assert get_image_cache_bytes(str(tmp_path), "_base") == 0


def test_a_cache_on_another_device_takes_nothing_of_the_instances_path(tmp_path: Path) -> None:
    assert Path("/proc").stat().st_dev != tmp_path.stat().st_dev
    assert get_image_cache_bytes(str(tmp_path), "/proc") == 0


def test_a_cache_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "_base")
    with pytest.raises(StorageError, match=rf"^image cache {tmp_path}/_base: Not a directory$"):
        get_image_cache_bytes(str(tmp_path), "_base")


def test_a_cache_that_a_sandbox_hides_is_not_known_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty folder that stands there instead is on another device, so it would reserve nothing."""
    fill(tmp_path / "instances/_base/one")
    mountinfo = (
        "100 27 254:0 / / ro - ext4 /dev/vda rw\n"
        f"101 100 0:24 /systemd/inaccessible/dir {tmp_path}/instances/_base ro - tmpfs tmpfs rw\n"
    )
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mountinfo)
    sandbox = Sandbox(root=tmp_path, environment={}, pid=77)
    monkeypatch.setattr(image_cache, "find_mask", partial(find_mask, sandbox=sandbox))
    with pytest.raises(StorageError, match=rf"^image cache {tmp_path}/instances/_base: the unit of this"):
        get_image_cache_bytes(str(tmp_path / "instances"), "_base")
    assert get_image_cache_bytes(str(tmp_path / "instances"), "other") == 0


class Cache:
    """An ImageCache on a clock that is moved by hand."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = Clock()
        self.options = {"instances_path": str(path), "reserve_disk_resource_for_image_cache": True, **options}
        self.cache = ImageCache(_settings(**self.options), clock=self.clock)

    def configure(self, **options: Any) -> None:
        self.options |= options
        self.cache.configure(_settings(**self.options))

    def run_jobs(self) -> int:
        jobs = self.cache.list_jobs()
        for job in jobs:
            job.run()
        return len(jobs)

    def list_messages(self) -> list[str]:
        return [each.message for each in self.cache.get_problems()]


def _settings(**options: Any) -> Settings:
    config = HypervisorConfig(**{"uri": "qemu:///system", **options})
    return Settings(hypervisor=config, resync_interval=60, stale_grace=120)


def test_a_cache_that_does_not_count_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path / "_base/one")
    cache = Cache(tmp_path, reserve_disk_resource_for_image_cache=False)
    assert (cache.run_jobs(), cache.cache.get(), cache.list_messages()) == (0, 0, [])
    assert cache.cache.get_ages() == {}


def test_it_is_read_between_scrapes_once_a_minute(tmp_path: Path) -> None:
    file = fill(tmp_path / "_base/one")
    cache = Cache(tmp_path)
    assert (cache.cache.get(), cache.list_messages()) == (None, [])
    assert cache.run_jobs() == 1
    assert cache.cache.get() == count_bytes(file)
    assert cache.run_jobs() == 0
    other = fill(tmp_path / "_base/two", blocks=9)
    cache.clock.advance(60)
    assert cache.cache.get_ages() == {"the image cache": 60}
    assert cache.run_jobs() == 1
    assert cache.cache.get() == count_bytes(file, other)


def test_what_cannot_be_read_is_not_known_and_a_problem_until_it_can(tmp_path: Path) -> None:
    base = fill(tmp_path / "_base")
    cache = Cache(tmp_path)
    cache.run_jobs()
    assert cache.cache.get() is None
    (problem,) = cache.cache.get_problems()
    assert (problem.severity, problem.reason, problem.subject) == (Severity.ERROR, "storage", "image cache")
    assert problem.message == (
        f"image cache {base}: Not a directory; so what it reserves of DISK_GB is not known"
    )
    base.unlink()
    cache.clock.advance(60)
    cache.run_jobs()
    assert (cache.cache.get(), cache.list_messages()) == (0, [])


def test_a_last_answer_is_used_for_five_minutes_while_there_is_no_new_one(tmp_path: Path) -> None:
    """As on a mount that hangs: the job is started, and does not end."""
    cache = Cache(tmp_path)
    cache.run_jobs()
    cache.clock.advance(300)
    assert (cache.cache.get(), cache.list_messages()) == (0, [])
    cache.clock.advance(1)
    assert cache.cache.get() is None
    (message,) = cache.list_messages()
    assert message.startswith("image cache _base: no answer for 301 s")


def test_a_first_answer_that_does_not_come_is_a_problem_after_half_a_minute(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.clock.advance(30)
    assert cache.list_messages() == []
    cache.clock.advance(1)
    assert cache.cache.get() is None
    (message,) = cache.list_messages()
    assert message.startswith("image cache _base: no answer for 31 s")


def test_the_cache_of_another_machine_is_not_known(tmp_path: Path) -> None:
    cache = Cache(tmp_path, uri="qemu+tls://kvm02.invalid/system")
    assert (cache.run_jobs(), cache.cache.get()) == (0, None)
    (message,) = cache.list_messages()
    assert "of another machine cannot be read" in message


def test_other_settings_are_read_at_once_and_an_answer_by_the_old_ones_is_not_theirs(tmp_path: Path) -> None:
    file = fill(tmp_path / "other/one")
    cache = Cache(tmp_path)
    (old_job,) = cache.cache.list_jobs()
    old_job.run()
    cache.clock.advance(31)
    cache.configure(image_cache_subdirectory_name="other")
    assert (cache.cache.get(), cache.list_messages(), cache.cache.get_ages()) == (None, [], {})
    (job,) = cache.cache.list_jobs()
    assert job.key != old_job.key, "the old one may hang"
    job.run()
    assert cache.cache.get() == count_bytes(file)

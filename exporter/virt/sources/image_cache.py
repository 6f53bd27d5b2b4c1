"""Image cache, a part of the storage: what Nova's cache of images takes, where that counts as reserved.

Its folder may have many files, and its file system may hang. So it is read between scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exporter.compute.source import Job, Settings
from exporter.config.settings import HypervisorConfig
from exporter.model import Problem, Severity
from exporter.virt.storage.file_system import StorageError, find_instances_path
from exporter.virt.storage.image_cache import get_image_cache_bytes

READ_INTERVAL_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0
# While there is no new answer, the last one is used for this long.
KEEP_SECONDS = 300.0
_SUBJECT = "image cache"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a read found: bytes, or an error.

    :ivar asked: the settings by which it was read
    """

    asked: tuple[str | None, str]
    bytes: int | None
    error: str | None
    read_at: float


class ImageCache:
    """The size of the cache, if `reserve_disk_resource_for_image_cache` is set.

    Its jobs run in threads of their own; all else is for one thread.

    :param clock: monotonic seconds
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._config = settings.hypervisor
        self._clock = clock
        self._answer: _Answer | None = None
        self._asked_at = clock()

    def configure(self, settings: Settings) -> None:
        """Read the cache of these settings from now on."""
        if _what(settings.hypervisor) != _what(self._config):
            self._asked_at = self._clock()
        self._config = settings.hypervisor

    def list_jobs(self) -> Sequence[Job]:
        """Return the job that reads it, if it is due."""
        answer = self._find_answer()
        is_due = answer is None or self._clock() - answer.read_at >= READ_INTERVAL_SECONDS
        if not self._is_wanted or not self._config.is_local or not is_due:
            return ()
        # Other settings are another job: the one by the old settings may hang.
        key = f"image cache {_what(self._config)}"
        return [Job(key=key, run=self._read, timeout=TIMEOUT_SECONDS, may_hang=True)]

    def get(self) -> int | None:
        """Return its bytes; None if they are not known, and 0 if they do not count."""
        if not self._is_wanted:
            return 0
        answer = self._find_answer()
        return None if answer is None or self._is_too_old(answer) else answer.bytes

    def get_ages(self) -> Mapping[str, float]:
        """Return its age."""
        answer = self._find_answer()
        is_known = answer is not None and answer.bytes is not None and self._is_wanted
        return {"the image cache": self._clock() - answer.read_at} if answer and is_known else {}

    def get_problems(self) -> Sequence[Problem]:
        """Return why it is not known, if it should be."""
        error = self._find_error() if self._is_wanted else None
        if error is None:
            return ()
        message = f"{error}; so what it reserves of DISK_GB is not known"
        return [Problem(severity=Severity.ERROR, reason="storage", subject=_SUBJECT, message=message)]

    @property
    def _is_wanted(self) -> bool:
        return self._config.reserve_disk_resource_for_image_cache

    def _find_answer(self) -> _Answer | None:
        answer = self._answer
        return answer if answer is not None and answer.asked == _what(self._config) else None

    def _is_too_old(self, answer: _Answer) -> bool:
        return self._clock() - answer.read_at > KEEP_SECONDS

    def _find_error(self) -> str | None:
        if not self._config.is_local:
            return "reserve_disk_resource_for_image_cache: the image cache of another machine cannot be read"
        answer = self._find_answer()
        silence = self._clock() - (self._asked_at if answer is None else answer.read_at)
        if answer is not None and answer.error is not None:
            return answer.error
        if silence > (TIMEOUT_SECONDS if answer is None else KEEP_SECONDS):
            return f"image cache {self._config.image_cache_subdirectory_name}: no answer for {silence:.0f} s"
        return None

    def _read(self) -> None:
        config = self._config
        size, error = None, None
        try:
            path = find_instances_path(config.instances_path)
            size = get_image_cache_bytes(path, config.image_cache_subdirectory_name)
        except StorageError as reason:
            error = str(reason)
        self._answer = _Answer(_what(config), size, error, self._clock())


def _what(config: HypervisorConfig) -> tuple[str | None, str]:
    return config.instances_path, config.image_cache_subdirectory_name

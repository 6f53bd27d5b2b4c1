"""Files that are read on every scrape, and kept open if there are descriptors to spare.

To read an open file of a control group takes 1 to 2 µs. To open, read and close it takes 6 to 8 µs (for
memory.stat 11 and 23 µs). An open file is also safe. After its guest has ended, it fails, and never tells of
another one that has got the same path or process id.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from exporter.descriptors import get_limit
from exporter.virt.small_files import MAX_BYTES

# What the kernel says of a file whose group or thread has ended. Other errors end nothing: no descriptor is
# left, it may not be read, there is no PSI.
_ENDED = (errno.ENOENT, errno.ENODEV, errno.ESRCH)
# How often files are read without being kept, after others needed their descriptors.
_READS_OF_A_PAUSE = 60
# How often a file that is not there is not looked for, such as memory.stat where that controller is off.
_READS_WITHOUT = 10


class KeptFiles:
    """How many files may be kept open. For one thread at a time.

    The kernel gives each descriptor the lowest free number. So a file whose number is high leaves few others:
    it is closed after it was read. Files whose path another guest may get come first: half of all descriptors
    are for them, a quarter for any file.

    :param get_limit: returns how many descriptors the process may have
    """

    def __init__(self, get_limit: Callable[[], int] = get_limit) -> None:
        self._get_limit = get_limit
        self._limit = get_limit()
        self._pause = 0
        self._open: set[KeptFile] = set()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> None:
        """Prepare to read all files once. If others have few descriptors left, close all, and keep none."""
        self._limit = self._get_limit()
        self._pause = max(0, self._pause - 1)
        if self._find_lowest_free() >= self._limit * 3 // 4:
            self.close()
            self._pause = _READS_OF_A_PAUSE

    def close(self) -> None:
        """Close all files. They are opened when they are read again."""
        for file in tuple(self._open):
            file.close()

    def keeps(self, descriptor: int, *, is_first: bool) -> bool:
        """Whether a file with this number stays open."""
        return not self._pause and descriptor < self._limit // (2 if is_first else 4)

    def note_open(self, file: KeptFile) -> None:
        """Remember a file to close."""
        self._open.add(file)

    def note_closed(self, file: KeptFile) -> None:
        """Forget a file that was closed."""
        self._open.discard(file)

    def _find_lowest_free(self) -> int:
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return self._limit
        os.close(descriptor)
        return descriptor


class KeptFile:
    """One file.

    :param path: of it
    :param is_first: whether another guest may get its path later. So it is kept open rather than others, and
        not opened again when it is gone
    :ivar exists: whether the last read found it, or at least not that it is gone
    """

    __slots__ = ("_descriptor", "_files", "_is_first", "_path", "_reads_until_retry", "exists")

    def __init__(self, path: str, files: KeptFiles, *, is_first: bool = False) -> None:
        self._path = path
        self._files = files
        self._is_first = is_first
        self._descriptor = -1
        self._reads_until_retry = 0
        self.exists = True

    def read(self) -> bytes:
        """Return its content, at most MAX_BYTES; nothing if it cannot be read, as after its guest's end."""
        if not self.exists and (self._is_first or self._reads_until_retry > 0):
            self._reads_until_retry -= 1
            return b""
        try:
            if self._descriptor >= 0:
                return os.pread(self._descriptor, MAX_BYTES, 0)
            return self._open_and_read()
        except OSError as error:
            self.exists = error.errno not in _ENDED
            self._reads_until_retry = _READS_WITHOUT
            self.close()
            return b""

    def close(self) -> None:
        """Close it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._files.note_closed(self)
            with suppress(OSError):
                os.close(descriptor)

    def _open_and_read(self) -> bytes:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self.exists = True
        if self._files.keeps(descriptor, is_first=self._is_first):
            self._descriptor = descriptor
            self._files.note_open(self)
            return os.pread(descriptor, MAX_BYTES, 0)
        try:
            return os.pread(descriptor, MAX_BYTES, 0)
        finally:
            os.close(descriptor)

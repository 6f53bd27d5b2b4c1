"""A mount that never answers, like one of an NFS server that was switched off.

It is a FUSE mount without a server: no process reads the kernel's requests, so every access waits until the
mount is removed. A process that waits for a request that was read cannot even be killed (state D).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# linux/fuse.h: fuse_in_header, the beginning of fuse_init_in, and fuse_init_out after fuse_out_header.
_FUSE_INIT = 26
_IN_HEADER = struct.Struct("<IIQQIIII")
_VERSIONS = struct.Struct("<II")
_OUT_HEADER = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_DIRECTORY = 0o040000
_MNT_DETACH = 2


needs_hung_mount = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(),
    reason="only root may mount it, and only where there is /dev/fuse",
)


@contextlib.contextmanager
def hung_mount(path: Path, *, takes_requests: bool = False) -> Iterator[Path]:
    """Mount a file system on the directory that answers nothing until the block ends.

    :param takes_requests: whether to read the kernel's requests: who waits for an answer cannot be killed
    :raises OSError: where the machine has no FUSE
    """
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={descriptor},rootmode={_DIRECTORY:o},user_id=0,group_id=0,allow_other"
        _mount(path, options)
        try:
            _answer_first_request(descriptor)
            with _taking_requests(descriptor) if takes_requests else contextlib.nullcontext():
                yield path
        finally:
            # Without this, waiting accesses would wait for ever. Now each gets an error.
            os.close(descriptor)
            descriptor = -1
            if f" {path} " in Path("/proc/self/mountinfo").read_text():
                take_away(path)
    finally:
        if descriptor != -1:
            os.close(descriptor)


@contextlib.contextmanager
def _taking_requests(descriptor: int) -> Iterator[None]:
    """Read requests until the block ends."""
    os.set_blocking(descriptor, False)
    is_over = threading.Event()

    def take() -> None:
        while not is_over.wait(0.01):
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 256 * 1024)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def take_away(path: Path) -> None:
    """Unmount a file system that does not answer. Accesses that already wait keep waiting."""
    _call_libc("umount2", path, os.fsencode(path), _MNT_DETACH)


def _mount(path: Path, options: str) -> None:
    _call_libc("mount", path, b"hung", os.fsencode(path), b"fuse.hung", 0, options.encode())


def _call_libc(function: str, path: Path, *arguments: bytes | int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[function](*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def _answer_first_request(descriptor: int) -> None:
    """Answer the protocol version: the kernel makes no other request before that."""
    request = os.read(descriptor, 64 * 1024)
    _length, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
    assert opcode == _FUSE_INIT
    major, minor = _VERSIONS.unpack_from(request, _IN_HEADER.size)
    answer = _INIT_OUT.pack(major, minor, 0, 0, 16, 12, 4096, 1, 1, 0, 0)
    os.write(descriptor, _OUT_HEADER.pack(_OUT_HEADER.size + len(answer), 0, unique) + answer)

"""Standard input, output and error: present even if they were closed, and what is printed on them."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from exporter.errors import ExporterError


class OutputError(ExporterError):
    """Standard output cannot be written: it is closed, the disk is full, or the pipe has no reader."""


def open_standard_streams() -> None:
    """Open those of the descriptors 0 to 2 that are closed, so that no socket or file gets such a number.

    Libraries write their messages to descriptor 2, whatever it is. What is written to the output that was
    closed is an error as before. What is written to the error stream that was closed is lost.

    :raises OSError: if there is no /dev/null
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        if not _is_open(number):
            _open_null(number, flags)
    if sys.stdout is None:
        sys.stdout = _make_stream(1)
    if sys.stderr is None:
        sys.stderr = _make_stream(2)


def print_output(text: str) -> None:
    """Print the text to standard output, all of it at once.

    :raises OutputError: if it cannot be written
    """
    stream = sys.stdout
    # Escape characters that the terminal's encoding does not have.
    encoded = text.encode(stream.encoding, "backslashreplace")
    try:
        stream.flush()
        stream.buffer.write(encoded)
        stream.flush()
    except OSError as error:
        _drop(stream)
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def print_error(text: str) -> None:
    """Print a line to standard error, if that can be written."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Drop what is in the buffer, or Python would try to write it again at the end of the process."""
    _open_null(stream.fileno(), os.O_WRONLY)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_null(number: int, flags: int) -> None:
    descriptor = os.open(os.devnull, flags)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.set_inheritable(number, True)


def _make_stream(number: int) -> TextIO:
    return open(number, "w", errors="backslashreplace", closefd=False)

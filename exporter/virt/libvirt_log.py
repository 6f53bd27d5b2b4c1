"""libvirt's own log: what its library would print to standard error comes through this process's log.

Where the library logs to is read from the environment, once, when it is loaded; there is no call to say so
later (https://libvirt.org/logging.html). By itself it prints warnings to standard error, in its own form:

    2026-11-27 23:56:49.646+0000: 24522: warning : virGetHostnameImpl:462 : getaddrinfo failed for 'kvm01': …
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from exporter.config.libvirt_uri import redact_uri

log = logging.getLogger("libvirt")

_WARNINGS = 3  # and what is worse, as libvirt counts
_LINE = re.compile(
    r"[\d-]{10} [\d:.]{12}\+0000: \d+: (?P<level>debug|info|warning|error) : "
    r"(?:(?P<function>\w+):\d+ : )?(?P<text>.*)"
)
# Errors are raised as well, and told where they matter. As information come two lines about libvirt itself.
_LEVELS = {"warning": logging.WARNING}


@contextmanager
def take_libvirt_log(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Have libvirt, which is to be imported inside, log through this process's log.

    Who asks for libvirt's log by its own variables gets it as it would be without the exporter.
    """
    asked = any(name.startswith("LIBVIRT_LOG_") or name == "LIBVIRT_DEBUG" for name in environment)
    if asked or not os.access("/proc/self/fd", os.X_OK):
        yield
        return
    reader, writer = os.pipe()
    # Programs that this process starts are not to look for the pipe: the variable is gone again after this.
    environment["LIBVIRT_LOG_OUTPUTS"] = f"{_WARNINGS}:file:/proc/self/fd/{writer}"
    try:
        yield
    finally:
        del environment["LIBVIRT_LOG_OUTPUTS"]
        os.close(writer)  # libvirt has opened it anew; if it had been loaded before, the reader sees the end
        threading.Thread(target=_relay, args=(reader,), name="libvirt-log", daemon=True).start()


def _relay(reader: int) -> None:
    with open(reader, encoding="utf-8", errors="replace") as lines:
        level = logging.WARNING
        for line in lines:
            level = relay_line(line.rstrip("\n"), level)


def relay_line(line: str, level: int) -> int:
    """Log one line of libvirt's log, and return its level.

    :param level: that of the line before, which one without a head of its own goes on with
    """
    found = _LINE.fullmatch(line)
    if found is None:
        log.log(level, "%s", redact_uri(line))
        return level
    level = _LEVELS.get(found["level"], logging.DEBUG)
    log.log(level, "%s", redact_uri(found["text"]), extra={"function": found["function"] or ""})
    return level

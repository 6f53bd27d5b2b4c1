"""libvirt's own log: this process's log gets what the library would print to standard error.

The library reads its log destination from the environment once, when it is loaded; no call can change it
later (https://libvirt.org/logging.html). Its default is to print warnings to standard error, in its own
format:

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

_WARNINGS = 3  # libvirt's level for warnings and worse
_LINE = re.compile(
    r"[\d-]{10} [\d:.]{12}\+0000: \d+: (?P<level>debug|info|warning|error) : "
    r"(?:(?P<function>\w+):\d+ : )?(?P<text>.*)"
)
# Errors are also raised, and logged where they matter. At level info there are two lines about libvirt
# itself.
_LEVELS = {"warning": logging.WARNING}


@contextmanager
def redirect_libvirt_log(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Send libvirt's log to this process's log. libvirt must be imported inside this context.

    If libvirt's own variables are set, libvirt's log is not changed.
    """
    asked = any(name.startswith("LIBVIRT_LOG_") or name == "LIBVIRT_DEBUG" for name in environment)
    if asked or not os.access("/proc/self/fd", os.X_OK):
        yield
        return
    reader, writer = os.pipe()
    # The variable is removed afterwards: programs that this process starts must not look for the pipe.
    environment["LIBVIRT_LOG_OUTPUTS"] = f"{_WARNINGS}:file:/proc/self/fd/{writer}"
    try:
        yield
    finally:
        del environment["LIBVIRT_LOG_OUTPUTS"]
        os.close(writer)  # libvirt has opened it again; if it was already loaded, the reader sees the end
        threading.Thread(target=_relay, args=(reader,), name="libvirt-log", daemon=True).start()


def _relay(reader: int) -> None:
    with open(reader, encoding="utf-8", errors="replace") as lines:
        level = logging.WARNING
        for line in lines:
            level = relay_line(line.rstrip("\n"), level)


def relay_line(line: str, level: int) -> int:
    """Log one line of libvirt's log, and return its level.

    :param level: of the previous line; a line without a head continues it
    """
    found = _LINE.fullmatch(line)
    if found is None:
        log.log(level, "%s", redact_uri(line))
        return level
    level = _LEVELS.get(found["level"], logging.DEBUG)
    log.log(level, "%s", redact_uri(found["text"]), extra={"function": found["function"] or ""})
    return level

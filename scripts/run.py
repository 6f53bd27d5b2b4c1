"""Run the exporter as `make run` does: python -m scripts.run [FLAG...].

The URI comes from the environment and not from the Makefile. In a Makefile, a quote or a per cent sign in a
URI or in the path of this checkout needs escapes for make, for the shell and for libvirt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from exporter.config.libvirt_uri import redact_uri

DEMO = Path(__file__).resolve().parents[1] / "deploy" / "demo" / "hypervisor.xml"

_ENDS_BY_ITSELF = ("--once", "--config.check", "--version", "--help", "-h")
_SAYS_WHERE = ("--web.", "--config.file")


def make_test_uri(path: Path) -> str:
    """Return the URI of libvirt's test driver for that file.

    libvirt decodes one layer of per cent escapes, for any bytes (virURIParse, by libxml2). Characters that a
    URI may not contain, such as letters beyond ASCII, make the whole URI invalid.
    """
    return f"test://{quote(os.fsencode(path))}"


def announce(uri: str, flags: list[str]) -> str:
    """Return the line that says what runs, and where the metrics are."""
    running = f"==> Running on {redact_uri(uri)}"
    if any(flag in _ENDS_BY_ITSELF for flag in flags):
        return running
    has_other_address = any(flag.startswith(_SAYS_WHERE) for flag in flags)
    where = "the address logged below" if has_other_address else "http://localhost:9177/metrics"
    return f"{running}; metrics are at {where} (Ctrl-C stops)"


def main() -> None:
    """Replace this process with the exporter."""
    uri = os.environ.get("URI") or make_test_uri(DEMO)
    flags = sys.argv[1:]
    print(announce(uri, flags), flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "exporter", f"--libvirt.uri={uri}", *flags])


if __name__ == "__main__":
    main()

"""The exporter in the same process as its hypervisor: libvirt's test driver, or qemu:///embed.

usage: embedding_exporter.py URI [FLAG...]

Runs the exporter's command line with these flags. It also reads one JSON list per line from standard input,
such as ["suspend", "guest"], and does this to the hypervisor at URI. It answers each with one line: null, or
libvirt's error.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exporter.cli import main  # found by the line before
from tests.support.operations import perform


def obey(uri: str) -> None:
    """Execute the commands from standard input.

    The first command opens the connection: by then the exporter has started libvirt's event loop, and
    qemu:///embed needs it.
    """
    connection = None
    for line in sys.stdin:
        operation, *arguments = json.loads(line)
        answer = None
        try:
            connection = connection or libvirt.open(uri)
            perform(connection, operation, *arguments)
        except libvirt.libvirtError as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    threading.Thread(target=obey, args=(sys.argv[1],), daemon=True).start()
    sys.exit(main(sys.argv[2:]))

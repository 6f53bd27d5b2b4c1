"""The exporter in the process that its hypervisor lives in: libvirt's test driver, or qemu:///embed.

usage: embedding_exporter.py URI [FLAG...]

Runs the exporter's command line with these flags. Beside it, it reads one JSON list a line from its standard
input, ["suspend", "guest"], has the hypervisor at URI do that, and answers each with one line: null, or what
libvirt objected.
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
    """Do what standard input says.

    The connection is opened by the first line only: the exporter has started libvirt's event loop by then,
    without which qemu:///embed does nothing.
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

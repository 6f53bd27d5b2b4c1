"""A connection that was closed for good is opened by nobody any more, also if it is just being opened."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.support.libvirtd import LibvirtDaemon
from tests.support.proxy import Proxy

# In a process of its own: its sockets are counted, and libvirt's event loop stays in one for good.
_PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from exporter.errors import ConnectionLostError
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop

def count_sockets():
    return sum(is_socket(each) for each in Path("/proc/self/fd").iterdir())

def is_socket(descriptor):
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:  # closed meanwhile
        return False

def wait_for(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.01)

def open_and_watch():
    try:
        hypervisor.connect()
        hypervisor.watch(lambda uuid: None, lambda *event: None)
        hypervisor.watch_node_devices()
        hypervisor.get_hostname()
    except ConnectionLostError as error:
        refusals.append(error.__class__.__name__)

start_event_loop()
refusals = []
before = count_sockets()
hypervisor = LibvirtHypervisor(sys.argv[1])
if sys.argv[2] == "open":
    hypervisor.connect()
    hypervisor.disconnect()
    if not hypervisor.connect():
        raise SystemExit("no new connection after a disconnect")
    hypervisor.watch(lambda uuid: None, lambda *event: None)
opening = threading.Thread(target=open_and_watch)
opening.start()
if sys.argv[2] == "opening":
    wait_for(lambda: count_sockets() > before, "the opening")
    time.sleep(float(sys.argv[3]))
hypervisor.close()
opening.join(30)
open_and_watch()
wait_for(lambda: count_sockets() == before, "the socket to be closed")
print(refusals[-1])
"""


@pytest.mark.parametrize(
    ("state", "seconds"),
    [("open", "0"), ("opening", "0"), ("opening", "0.2"), ("opening", "0.5"), ("opening", "1")],
)
def test_closed_is_final(state: str, seconds: str, libvirtd: LibvirtDaemon) -> None:
    """Shows it over a slow network, where a connection takes a second, for a close at any time of that."""
    with Proxy(urlsplit(libvirtd.uri_tcp).port or 0) as proxy:
        proxy.lag(0.05)
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, f"qemu+tcp://127.0.0.1:{proxy.port}/system", state, seconds],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert process.stdout == "ConnectionLostError\n", process.stderr

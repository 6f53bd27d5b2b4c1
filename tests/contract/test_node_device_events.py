"""libvirt tells of node devices that come and go, and the exporter's connection listens."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: libvirt's event loop stays in one for good. Both connections are to the one test
# driver that a process has; it makes no other devices than virtual host adapters.
_PROGRAM = """
import time
import libvirt
from exporter.virt.hypervisor import LibvirtHypervisor, start_event_loop

HOST_ADAPTER = '''<device><parent>scsi_host1</parent><capability type='scsi_host'>
  <capability type='fc_host'><wwnn>2000000000000001</wwnn><wwpn>2000000000000002</wwpn></capability>
</capability></device>'''

def wait_for_event():
    deadline = time.monotonic() + 20
    while not hypervisor.pop_node_devices_changed():
        if time.monotonic() > deadline:
            raise SystemExit("no event came")
        time.sleep(0.01)

start_event_loop()
hypervisor = LibvirtHypervisor("test:///default")
hypervisor.connect()
hypervisor.watch_node_devices()
if hypervisor.pop_node_devices_changed():
    raise SystemExit("an event came of nothing")
device = libvirt.open("test:///default").nodeDeviceCreateXML(HOST_ADAPTER, 0)
wait_for_event()
device.destroy()
wait_for_event()
hypervisor.close()
print("told of both")
"""


def test_a_node_device_that_comes_or_goes_is_an_event() -> None:
    """Shows that each makes the devices due for another reading, once."""
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.stdout == "told of both\n", process.stderr

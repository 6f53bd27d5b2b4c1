"""Guests: their XML, what is kept of each, what each one adds to its hypervisor's numbers, and what it uses.

A guest as it is configured:
cache.py              guests, kept in step with the list of domains
guest_xml.py          a domain's XML; parts of it: numa.py, devices.py, interfaces.py, nova_metadata.py
disks.py              images' headers: how large each may grow
contribution.py       what one guest adds

Calls about one guest, which may be frozen:
calls.py              made one after the other, each with its own timeout
liveness.py           which guests are seen to run, and may be asked
processes.py          which guests' processes the kernel says are stopped

What happens to it:
events.py             what libvirt tells once, such as an I/O error
arriving.py           guests that migrate in, which another hypervisor claims too

What it uses (beside ../cgroups/):
statistics.py         what QEMU tells of its disks and memory
traffic.py            its interfaces, by the kernel's counters
other_devices.py      its disks and interfaces beyond the first ones, together
lasting_sum.py        a sum of counters that does not step back when one of them ends
"""

"""Reading one hypervisor through libvirt, and Nova's arithmetic on what was read.

driver.py             LibvirtDriver: a connection, and a list of sources
sources/              what is read, a file for each source
resources.py          what was read becomes Nova's resource dictionary

Connections and calls:
hypervisor.py         one connection to libvirt; the only module that imports it
calls.py              which calls are made over which kind of connection
opening.py            connections that are being opened, and the end of those that get no answer
silent_sockets.py     this process' connections on which nothing arrives
connections.py        lends connections to calls that may wait
slow_calls.py         calls that each refresh makes, and whose last answer counts while there is no new one
failed_calls.py       calls that fail: what they cost, and the problem
call_source.py        a source of one such call: a new number is often one
refresh_timeout.py    the second that one refresh has for all that hangs
files.py, mounts.py   reads of files on mounts that may hang; masks.py: paths that a sandbox hides
commands.py           runs commands that may hang

What the sources are made of:
guests                guests/: their XML, what they add to the host's numbers, calls about them, what they use
                      cgroups/: what the kernel counts of them
storage               storage/: how large it is, and which storage it is
capabilities, NUMA    capabilities.py: the host's capabilities; numa.py: Nova's NUMA topology
                      cpu_cells.py: the cells of offline CPUs
node devices          node_devices.py; vital_product_data.py: a part of it that libvirt may write wrongly
all                   libvirt_xml.py: what all parsers of libvirt's XML share; memory_units.py

The host itself:
host_ip.py            its address
identity.py           which hypervisor it is

Messages:
connecting.py, daemons.py, missing.py   what to do when libvirt, or a daemon of it, is not there
libvirt_log.py        libvirt's own log
"""

"""The sources of a hypervisor's numbers, one file each (exporter.compute.source.Source).

guests.py        the list of domains, and each guest's XML
images.py        how large the guests' images can grow
storage.py       what holds them: the instances path, storage pools, `vgs`, `ceph df`
node_devices.py  PCI devices and mediated devices
numa.py          what is free in each NUMA cell
capabilities.py  the CPU, NUMA cells and UUID of the host
online_cpus.py   the numbers of its online CPUs
"""

"""The storage for guests' images: how large it is, and which storage it is.

file_system.py            the size of the file system of the instances path
pools.py                  libvirt's storage pools: their XML, which of them count, their sum
back_ends.py              `vgs` and `ceph df`; command_reader.py: their last answer
ceph_pools.py             `ceph df`, shared by the hypervisors that ask the same
image_cache.py            the space that Nova's cache of images takes
volumes.py                sizes of storage volumes, for images that cannot be read here

Which storage it is:
identity.py               one id, equal on all hypervisors that see the same storage
mounted.py                the file system that a path lies on
network_file_systems.py   its id, by type; servers.py: names of servers in one form
pool_identity.py          the id of a pool, by its source; pool_places.py: by where it lies on this machine
"""

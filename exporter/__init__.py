"""Prometheus exporter of a libvirt hypervisor's capacity, as OpenStack Nova's compute service sees it."""

__version__ = "1.0.0"

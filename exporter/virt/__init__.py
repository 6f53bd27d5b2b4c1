"""One hypervisor: read over libvirt and from its files, and turned into Nova's resource dictionary."""

"""Faults provoked for real: frozen guests, dead daemons, hung mounts, cut connections, hostile clients."""

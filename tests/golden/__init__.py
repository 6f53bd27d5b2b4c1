"""The whole of /metrics for one known hypervisor, as it is to be, byte for byte."""

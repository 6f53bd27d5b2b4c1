"""Measurements beside others on the same hypervisor: `make bench`. docs/performance.md says what they say."""

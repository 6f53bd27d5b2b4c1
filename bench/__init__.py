"""Measure this exporter beside others on the same hypervisor: `make bench`. Results: docs/performance.md."""

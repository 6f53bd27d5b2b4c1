"""Nova's own driver and the exporter look at the same hypervisor."""

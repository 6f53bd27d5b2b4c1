"""The exporter as part of a fleet: real exporters, a real Prometheus with its rules, a real Alertmanager."""

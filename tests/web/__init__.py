"""Real clients ask the exporter over TLS: curl, Python and Prometheus itself."""

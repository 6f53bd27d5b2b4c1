"""The rules under every Prometheus that Debian has, and VictoriaMetrics; scripts/fetch-engines gets them."""

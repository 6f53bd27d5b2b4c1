"""The rules and alerts for Prometheus, checked by Prometheus' own tool."""

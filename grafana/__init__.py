"""The Grafana dashboards' source, needed for development only: `make dashboards` writes the JSON from it."""

"""The Grafana boards: their form, the rules that boards are held to, and whether their queries answer."""

"""The configuration: file, flags and nova.conf, checked strictly and merged into one immutable Config."""

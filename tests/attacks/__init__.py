"""Attacks that once worked, each against an exporter as its users run it."""

"""The command as its users run it: what it prints, how it exits, when it listens."""

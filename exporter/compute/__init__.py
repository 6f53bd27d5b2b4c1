"""Which hypervisors there are, and each one's state: brief cache, single refresh, deadline, maintenance."""

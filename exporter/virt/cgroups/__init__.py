"""Control groups (cgroups) of Linux: what the kernel counts of each guest, and of all guests together."""

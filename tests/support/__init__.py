"""What the tests share: a private libvirtd, guests, Nova's own answers, and the exporter as a process."""

"""HTTP: the server, its routes, and the targets of `/probe`."""

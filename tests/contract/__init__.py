"""One contract, whatever is at the other end: these tests run alike on every kind of hypervisor."""

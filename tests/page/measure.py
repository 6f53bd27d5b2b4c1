"""How long the page of a large fleet takes, how large it is: python -m tests.page.measure [HYPERVISORS]."""

from __future__ import annotations

import gzip
import statistics
import sys
import time

from tests.support.served_fleet import serve_fleet
from tests.support.simulated_hypervisors import many_hypervisors


def main(count: int) -> None:
    """Print the median and the worst of 20 requests, each of which reads every hypervisor anew."""
    seconds = []
    with serve_fleet(many_hypervisors(count), cache_ttl=0.0) as served:
        served.get()
        for _ in range(20):
            started = time.perf_counter()
            body, _ = served.get()
            seconds.append(time.perf_counter() - started)
    print(
        f"{count} hypervisors: median {statistics.median(seconds) * 1000:.0f} ms,"
        f" worst {max(seconds) * 1000:.0f} ms, {len(body) / 1e6:.2f} MB,"
        f" {len(gzip.compress(body, compresslevel=1)) / 1e3:.0f} kB compressed"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)

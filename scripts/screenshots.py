"""Take screenshots of the pages at `/` and `/guests` for docs/images/. `make screenshots` runs it.

Chromium opens the exporter's own server, tracker and page. The hypervisors behind them are simulated.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.browser import open_browser, visit
from tests.support.served_fleet import serve_fleet
from tests.support.simulated_hypervisors import mixed_fleet

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
GUESTS = "guests?target=kvm01"
# File, path, width, height and scheme.
PICTURES = (
    ("page-light.png", "", 1280, 1420, "light"),
    ("page-dark.png", "", 1280, 1420, "dark"),
    ("page-phone.png", "", 360, 1420, "dark"),
    ("guests-light.png", GUESTS, 1280, 900, "light"),
)
SIZES = tuple((width, scheme) for width in (360, 768, 1280, 1600) for scheme in ("light", "dark"))


def main(folder: str | None = None) -> None:
    """Write the pictures. With a folder, write one of each size and scheme into it."""
    pictures = PICTURES
    if folder is not None:
        pictures = tuple(
            (f"{name}-{width}-{scheme}.png", path, width, 1420, scheme)
            for name, path in (("page", ""), ("guests", GUESTS))
            for width, scheme in SIZES
        )
    with open_browser() as browser, serve_fleet(mixed_fleet()) as fleet:
        for name, address, width, height, scheme in pictures:
            path = Path(folder or IMAGES, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            # The pictures in the documents show the top of the page. docs/page.md has the texts below.
            is_whole = folder is not None
            with visit(browser, fleet.url + address, width=width, height=height, scheme=scheme) as visited:
                visited.page.screenshot(path=path, full_page=is_whole)
            print(f"    {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])

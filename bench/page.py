"""A measurement's text on a page: between two marks, so that the next run replaces it."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, text: str, *, begin: str, end: str, heading: str) -> None:
    """Put the text between the page's marks, or under a heading at its end. Make a page that is not there."""
    before = page.read_text() if page.exists() else ""
    if begin in before:
        head, _, rest = before.partition(begin)
        tail = rest.partition(end)[2]
    else:
        head, tail = f"{before.rstrip()}\n\n## {heading}\n\n".lstrip(), "\n"
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")

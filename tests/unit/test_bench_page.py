"""A measurement's text takes the place of the last one's, and nothing else changes on its page."""

from __future__ import annotations

from pathlib import Path

from bench.page import write_between

BEGIN, END = "<!-- begin -->", "<!-- end -->"


def write(page: Path, text: str) -> str:
    write_between(page, text, begin=BEGIN, end=END, heading="Guests")
    return page.read_text()


def test_a_text_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Performance\n\n{BEGIN}\n\nold\n\n{END}\n\n## More\n")
    assert write(page, "new") == f"# Performance\n\n{BEGIN}\n\nnew\n\n{END}\n\n## More\n"


def test_the_first_text_stands_at_the_end_under_its_heading(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n")
    assert write(page, "new") == f"# Performance\n\n## Guests\n\n{BEGIN}\n\nnew\n\n{END}\n"


def test_a_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    """Or else minutes of measuring would end in a traceback."""
    assert write(tmp_path / "new.md", "new") == f"## Guests\n\n{BEGIN}\n\nnew\n\n{END}\n"

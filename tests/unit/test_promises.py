"""Each promise of README.md, SECURITY.md and docs/ names the tests that hold it, in docs/promises.md."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "promises.md"
HEADING = re.compile(r"## \[(?P<document>[^\]]+)\]\([^)]*\): (?P<section>.+)")
NO_PROMISE = "no promise: "


def split_blocks(text: str) -> Iterator[str]:
    """Yield each row of a table, each item of a list and each sentence, on one line."""
    for paragraph in re.split(r"\n{2,}", text.strip()):
        if paragraph.startswith("|"):
            yield from paragraph.splitlines()[2:]
        elif paragraph.startswith(("- ", "1. ")):
            for item in re.split(r"\n(?=- |\d+\. )", paragraph):
                yield " ".join(re.sub(r"^(- |\d+\. )", "", item).split())
        elif not paragraph.startswith(("#", "```")):
            yield from re.split(r"(?<=\.) ", " ".join(paragraph.split()))


def read_section(document: str, section: str) -> list[str]:
    """Return what a section says, down to the next heading; a row of a table begins with its first cell."""
    text = (CHECKOUT / document).read_text()
    found = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{document} has no section {section!r}"
    return [block.removeprefix("| ") for block in split_blocks(found[1])]


def read_page() -> dict[tuple[str, str], dict[str, str]]:
    """Return what the page says of each section: the tests by the promise's beginning."""
    sections: dict[tuple[str, str], dict[str, str]] = {}
    for line in PAGE.read_text().splitlines():
        if heading := HEADING.fullmatch(line):
            rows = sections.setdefault((heading["document"], heading["section"]), {})
        elif line.startswith("| ") and not line.startswith("| promise |"):
            beginning, tests = line.removeprefix("| ").removesuffix(" |").rsplit(" | ", 1)
            assert beginning not in rows, line
            rows[beginning] = tests
    return sections


SECTIONS = read_page()


@functools.cache
def list_tests(file: Path) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, functions) and node.name.startswith("test_")
    )


def find_missing_tests(cell: str) -> list[str]:
    """Return the tests that a cell names and that are not there."""
    if cell.startswith(NO_PROMISE):
        return []
    names = re.findall(r"`([^`]+)`", cell)
    assert names, f"no test and no reason: {cell}"
    missing, file = [], ""
    for name in names:
        file, function = name.split("::") if not name.startswith("::") else (file, name[2:])
        path = CHECKOUT / "tests" / file
        if not path.exists() or function not in list_tests(path):
            missing.append(f"{file}::{function}")
    return missing


def test_it_has_the_sections_that_promise_something() -> None:
    assert set(SECTIONS) >= {
        ("docs/design.md", "Failing"),
        ("docs/stability.md", "What is stable"),
        ("docs/stability.md", "How something stable is removed"),
        ("README.md", "hypervisor-exporter"),
        ("README.md", "How each number is defined"),
        ("README.md", "Limits"),
        *(
            ("SECURITY.md", section)
            for section in re.findall("^## (.+)", (CHECKOUT / "SECURITY.md").read_text(), re.MULTILINE)
        ),
    }


@pytest.mark.parametrize(("document", "section"), sorted(SECTIONS))
def test_every_promise_is_on_the_page_and_nothing_else(document: str, section: str) -> None:
    """A promise that is new, or whose beginning was changed, has to be looked at: which tests hold it?"""
    promises, rows = read_section(document, section), SECTIONS[document, section]
    assert promises
    assert [each for each in promises if sum(map(each.startswith, rows)) != 1] == []
    assert [row for row in rows if not any(each.startswith(row) for each in promises)] == []


@pytest.mark.parametrize(
    ("document", "beginning", "tests"),
    [(document, row, tests) for (document, _), rows in SECTIONS.items() for row, tests in rows.items()],
)
def test_the_tests_that_hold_a_promise_are_there(document: str, beginning: str, tests: str) -> None:
    assert find_missing_tests(tests) == [], f"{document}: {beginning}"


def test_a_test_that_is_not_there_is_found() -> None:
    here = "unit/test_promises.py"
    cell = f"`{here}::test_a_test_that_is_not_there_is_found`, `::test_nothing`, `unit/no_file.py::test_x`"
    assert find_missing_tests(cell) == [f"{here}::test_nothing", "unit/no_file.py::test_x"]

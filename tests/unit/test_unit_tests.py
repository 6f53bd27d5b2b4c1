"""The unit tests import no more than scripts/test-pythons installs: else they run under one Python only."""

from __future__ import annotations

import ast
import functools
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = packages_distributions()
OWN = {"bench", "exporter", "grafana", "scripts", "tests"}


@functools.cache
def find_file(module: str) -> Path | None:
    """Return the file of one of the checkout's own modules."""
    path = CHECKOUT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def find_imports(source: str) -> set[str]:
    """Return what a module imports when it is loaded, as far as the first `pytest.importorskip`."""
    names = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Expr) and "importorskip" in ast.unparse(statement):
            break
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        if isinstance(statement, ast.ImportFrom):
            names |= {
                str(statement.module),
                *(f"{statement.module}.{alias.name}" for alias in statement.names),
            }
    return names


@functools.cache
def read_imports(file: Path) -> set[str]:
    return find_imports(file.read_text())


def find_foreign(file: Path) -> set[str]:
    """Return the packages of others that a file imports, by way of own modules, too."""
    foreign, seen, waiting = set(), {file}, [file]
    while waiting:
        for name in read_imports(waiting.pop()):
            if (top := name.split(".")[0]) not in OWN:
                foreign.add(top)
            elif (own := find_file(name)) is not None and own not in seen:
                seen.add(own)
                waiting.append(own)
    return foreign


def normalise(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def list_installed() -> set[str]:
    """Return the distributions that scripts/test-pythons installs: those it names, and the exporter's own."""
    (line,) = re.findall(r"--editable \. (.*)", (CHECKOUT / "scripts" / "test-pythons").read_text())
    (block,) = re.findall(
        r"^dependencies = \[\n(.*?)^\]", (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    return {*line.split(), *(normalise(name) for name in re.findall(r'"([\w-]+)', block))}


@pytest.mark.parametrize(
    "file", sorted((CHECKOUT / "tests" / "unit").glob("*.py")), ids=lambda file: file.stem
)
def test_what_a_unit_test_imports_is_installed_for_every_python(file: Path) -> None:
    foreign = find_foreign(file) - set(sys.stdlib_module_names)
    installed = list_installed()
    wanted = {name: {normalise(each) for each in DISTRIBUTIONS.get(name, [name])} for name in foreign}
    assert {name: names for name, names in wanted.items() if not names & installed} == {}


def test_an_import_by_way_of_others_is_seen() -> None:
    """The test before this one would otherwise pass by being blind."""
    assert "playwright" in find_foreign(CHECKOUT / "tests" / "page" / "test_hostile_names.py")
    assert "playwright" in find_foreign(CHECKOUT / "tests" / "support" / "browser.py")
    assert find_imports("import pytest\npytest.importorskip('a')\nimport a") == {"pytest"}

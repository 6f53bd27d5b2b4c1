"""Imports point downwards only, as docs/design.md has it; libvirt and broad excepts have one place each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "exporter"
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "_revision.py"  # made by hatch_build.py, and not always there
}
BROAD = {"Exception", "BaseException"}


def read_layers() -> list[set[str]]:
    """Return the names that stand in each row of the design page's table, the highest row first."""
    text = (CHECKOUT / "docs" / "design.md").read_text()
    table = (
        text.partition("\nImports point downwards only")[2]
        .partition("|---|---|---|\n")[2]
        .partition("\n\n")[0]
    )
    rows = [re.findall(r"`([\w/.]+)`", row.split("|")[1]) for row in table.splitlines()]
    return [{"exporter." + name.strip("/").removesuffix(".py") for name in row} for row in rows]


LAYERS = read_layers()


def layer_of(module: str) -> int:
    """Return the row of a module, or of its package."""
    name = ".".join(module.split(".")[:2])
    (row,) = (index for index, layer in enumerate(LAYERS) if name in layer)
    return row


def list_imports(module: str) -> Iterator[str]:
    """Yield the full names of what a module imports, those for type checkers among them."""
    yield from find_imports(MODULES[module])


def find_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def list_own_imports(module: str) -> set[str]:
    return {name for name in list_imports(module) if name in MODULES} - {"exporter"}


def catches_everything(node: ast.AST) -> bool:
    """Tell `except:`, `except Exception`, a tuple with it, and `suppress(Exception)`."""
    if isinstance(node, ast.ExceptHandler):
        caught = node.type
        return caught is None or any(getattr(each, "id", None) in BROAD for each in ast.walk(caught))
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(getattr(each, "id", None) in BROAD for each in node.args)
    return False


def test_every_module_has_its_row() -> None:
    """A new module goes into the table, and one that is gone goes out of it."""
    names = {".".join(module.split(".")[:2]) for module in MODULES} - {"exporter"}
    assert set.union(*LAYERS) == names
    assert sum(map(len, LAYERS)) == len(names)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"exporter"}))
def test_imports_point_downwards_only(module: str) -> None:
    upwards = [name for name in list_own_imports(module) if layer_of(name) < layer_of(module)]
    assert upwards == []


@pytest.mark.parametrize(
    "source",
    [
        "import exporter.web.server",
        "from exporter.web import server",
        "from exporter.web.server import Server",
        "def f():\n    from exporter.web.server import Server",
        "if TYPE_CHECKING:\n    from exporter.web.server import Server",
    ],
)
def test_imports_are_seen(source: str) -> None:
    """The test before this one would otherwise pass by being blind, as it would to an import by a text."""
    assert list(find_imports(ast.parse(source))) == ["exporter.web.server"]
    by_text = ("import_module", "__import__", "runpy", "exec_module")
    sources = {module: ast.dump(tree) for module, tree in MODULES.items()}
    assert [module for module, source in sources.items() if any(map(source.__contains__, by_text))] == []


@pytest.mark.parametrize("layer", ["collectors", "page", "placement"])
def test_what_asks_nobody_anything_could_not(layer: str) -> None:
    """It is given what was read, and imports nothing that reads, waits or looks at a clock."""
    asking = {
        "asyncio",
        "http",
        "os",
        "pathlib",
        "select",
        "socket",
        "subprocess",
        "threading",
        "time",
        "urllib",
    }
    modules = [module for module in MODULES if f"{module}.".startswith(f"exporter.{layer}.")]
    assert modules
    assert [
        module for module in modules if asking & {name.split(".")[0] for name in list_imports(module)}
    ] == []


def test_only_what_wires_the_parts_knows_the_reading_of_hypervisors() -> None:
    """All others are given a driver, so that a test gives them one of its own."""
    readers = {module for module in MODULES if any(map(is_reading, list_own_imports(module)))}
    assert {module for module in readers if not is_reading(module)} == {"exporter.cli"}


def is_reading(module: str) -> bool:
    return f"{module}.".startswith("exporter.virt.")


def test_nothing_imports_itself_by_way_of_others() -> None:
    """In one row, too, there is an order: prepare() raises CycleError and names the circle."""
    TopologicalSorter({module: list_own_imports(module) for module in MODULES}).prepare()


def test_no_folders_of_the_reading_of_hypervisors_import_each_other() -> None:
    """There is an order of folders, too: prepare() raises CycleError and names the circle."""
    folders: dict[str, set[str]] = {}
    for module in filter(is_reading, MODULES):
        imported = {folder_of(name) for name in list_own_imports(module) if is_reading(name)}
        folders.setdefault(folder_of(module), set()).update(imported - {folder_of(module)})
    TopologicalSorter(folders).prepare()


def folder_of(module: str) -> str:
    """Return the folder of a module in exporter/virt; the module itself if it is in none."""
    parts = module.split(".")
    return ".".join(parts[: 3 if len(parts) > 3 else None])


def test_one_module_imports_libvirt() -> None:
    """Its errors are translated there."""
    importers = {module for module in MODULES if {"libvirt", "libvirtmod"} & set(list_imports(module))}
    assert importers == {"exporter.virt.hypervisor"}


def test_one_module_catches_every_exception() -> None:
    catchers = {module for module, tree in MODULES.items() if any(map(catches_everything, ast.walk(tree)))}
    assert catchers == {"exporter.attempt"}


def test_one_module_starts_programs() -> None:
    """Only what asks `vgs` and `ceph`, which SECURITY.md names, has it start any."""
    starters = {"subprocess", "multiprocessing", "pty"}
    assert {module for module in MODULES if starters & set(list_imports(module))} == {
        "exporter.virt.commands"
    }
    callers = {module for module in MODULES if "exporter.virt.commands" in list_imports(module)}
    assert callers == {
        "exporter.virt.storage.ceph_pools",
        "exporter.virt.storage.command_reader",
        "exporter.virt.sources.storage",
        "exporter.virt.storage.back_ends",
    }


def test_every_connection_is_read_only() -> None:
    """libvirt itself then refuses whatever would change something."""
    calls = [node for node in ast.walk(MODULES["exporter.virt.hypervisor"]) if isinstance(node, ast.Call)]
    opened = [ast.unparse(call) for call in calls if ast.unparse(call.func).startswith("libvirt.open")]
    assert opened
    assert [call for call in opened if "libvirt.VIR_CONNECT_RO" not in call] == []


@pytest.mark.parametrize(
    "source",
    [
        "try: f()\nexcept: pass",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept (OSError, BaseException) as error: pass",
        "with contextlib.suppress(Exception): f()",
    ],
)
def test_broad_excepts_are_seen(source: str) -> None:
    """The test before this one would otherwise pass by being blind."""
    assert any(map(catches_everything, ast.walk(ast.parse(source))))

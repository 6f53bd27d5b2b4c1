"""mutmut, with two more kinds of mutants: a call that is taken out, and an `if` that is turned round.

`scripts/mutants.py` runs it, in a copy of the checkout. mutmut changes what a call is given, but never takes
the call out. Yet the absence of calls that act over time, as `backoff.reset()`, is what tests notice last.

It is a plugin of pytest, too: of each mutant's tests the quick ones come first, as one that fails is enough.

usage: python scripts/mutate.py MUTANT...      names as mutmut has them, for example 'exporter.placement.*'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
import pytest
from mutmut.__main__ import _run
from mutmut.mutation import mutators
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

STATISTICS = Path("mutmut-stats.json")
RESULT = Path("result.json")
SURVIVORS = Path("survivors.diff")
NOTICED = {"killed", "timeout"}  # one that never ends is noticed by everybody


def take_out_call(node: cst.Expr) -> Iterator[cst.Expr]:
    """Leave out a call that is made for what it does, except of the log."""
    call = node.value.expression if isinstance(node.value, cst.Await) else node.value
    if isinstance(call, cst.Call) and not _is_of_the_log(call.func):
        yield node.with_changes(value=cst.Name("None"))


def turn_round(node: cst.If) -> Iterator[cst.If]:
    """Turn a condition round that mutmut leaves as it is: one without an operator."""
    if isinstance(node.test, cst.Name | cst.Attribute | cst.Call | cst.NamedExpr):
        inner = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        operator = cst.Not(whitespace_after=cst.SimpleWhitespace(" "))
        yield node.with_changes(test=cst.UnaryOperation(operator=operator, expression=inner))


def _is_of_the_log(function: cst.BaseExpression) -> bool:
    is_method = isinstance(function, cst.Attribute) and isinstance(function.value, cst.Name)
    return is_method and function.value.value == "log"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests first that took the least time when mutmut tried all of them."""
    if STATISTICS.exists():
        durations = json.loads(STATISTICS.read_text(encoding="utf-8"))["duration_by_test"]
        items.sort(key=lambda item: durations.get(item.nodeid, 0.0))


def write_result() -> None:
    """Write each file's mutants by what became of them, and how those differ that nobody noticed."""
    result, survivors = {}, []
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        tried = {name: code for name, code in data.exit_code_by_key.items() if code is not None}
        states = {name: status_by_exit_code[code] for name, code in tried.items()}
        if states:
            result[str(path)] = states
        survivors += [
            f"# {name}: {state}\n{get_diff_for_mutant(name, path=path)}\n"
            for name, state in states.items()
            if state not in NOTICED
        ]
    RESULT.write_text(json.dumps(result, indent=1), encoding="utf-8")
    SURVIVORS.write_text("\n".join(survivors), encoding="utf-8")


def main() -> None:
    """Make the mutants, try each, and write down what became of them."""
    mutators.mutation_operators.extend([(cst.Expr, take_out_call), (cst.If, turn_round)])
    _run(sys.argv[1:], max_children=2)
    write_result()


if __name__ == "__main__":
    main()

"""Change the code in many small ways, one at a time, and count the changes that no unit test notices.

`make mutants` runs it, with mutmut. It changes a copy in `.cache/mutants/PART`, never the checkout. There,
`survivors.diff` shows what no test noticed. The score goes into docs/mutants.md.

usage: python -m scripts.mutants [TENTHS] [PART...]      for example: python -m scripts.mutants 2 exporter/web
TENTHS, 1 to 10, is for less patience: so many tenths of the mutants are tried, those whose numbers end so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

FOLDER = Path(__file__).resolve().parent.parent
CACHE = FOLDER / ".cache" / "mutants"
PAGE = FOLDER / "docs" / "mutants.md"

# What is changed, and how many percent of the mutants have to be noticed.
GOALS = {
    "exporter/placement": 90,
    "exporter/virt/guests/contribution.py": 90,
    "exporter/virt/resources.py": 90,
    "exporter/compute": 90,
    "exporter/config": 90,
    "exporter/web": 80,
}

# Tests of the tools: they do not call the code in this process, or need what the copy lacks (git's history).
LEFT_OUT = (
    "compatibility",
    "docs",
    "find_undone",
    "heartbeat",
    "install_packages",
    "layers",
    "make_venv",
    "parallel",
    "promises",
    "run",
)

# Each mutant's tests run in a new process that has run none before. Random examples are the same each time,
# and fewer. What only the log says is not changed.
_SETTINGS = """
[tool.mutmut]
source_paths = ["exporter/"]
only_mutate = [{only!r}]
also_copy = {others!r}
pytest_add_cli_args = [
    "-p", "no:cacheprovider", "-p", "scripts.mutate",
    "--hypothesis-seed=0", "--hypothesis-profile=mutants",
]
pytest_add_cli_args_test_selection = {tests!r}
do_not_mutate_patterns = ['^\\s*log\\.\\w+\\(']
process_isolation = "forkserver"
timeout_constant = 4.0
timeout_multiplier = 8.0
"""

# In this order, last digits of mutants' numbers: each small set of them is spread over a function.
_DIGITS = "3716284950"

_MARK = "<!-- scores -->"
_HEAD = (
    "| file | mutants | noticed | not noticed | score | measured |",
    "|---|---:|---:|---:|---:|---|",
)


def measure(part: str, tenths: int) -> None:
    """Try so many tenths of the part's mutants, and put its score on the page."""
    copy = CACHE / part.replace("/", "-").removesuffix(".py")
    commit = _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else "")
    _copy_checkout(copy)
    _write_settings(copy, part)
    started = monotonic()
    names = part.removesuffix(".py").replace("/", ".") + f".*[{_DIGITS[:tenths]}]"
    subprocess.run([sys.executable, "scripts/mutate.py", names], cwd=copy, check=True)
    result = json.loads((copy / "result.json").read_text(encoding="utf-8"))
    seen = f"{datetime.now(timezone.utc):%Y-%m-%d}, {commit}" + (f", {tenths}/10" if tenths < 10 else "")
    lines = PAGE.read_text(encoding="utf-8").split(_MARK)
    rows = {row.split("|")[1].strip(): row for row in lines[1].splitlines() if row.startswith("| `")}
    rows = {file: row for file, row in rows.items() if not file.strip("`").startswith(part)}
    rows |= {f"`{file}`": _row(f"`{file}`", states.values(), seen) for file, states in result.items()}
    table = "\n".join((*_HEAD, *(rows[file] for file in sorted(rows)), *_sum_up(rows)))
    PAGE.write_text(_MARK.join((lines[0], f"\n{table}\n", lines[2])), encoding="utf-8")
    total = _row(part, (state for states in result.values() for state in states.values()), seen)
    print(f"{total} in {monotonic() - started:.0f} s, goal {_goal(part)} %; {copy / 'survivors.diff'}")


def _copy_checkout(copy: Path) -> None:
    """Copy what git has, and what it would have, but nothing that only lies about."""
    shutil.rmtree(copy, ignore_errors=True)
    files = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for file in filter(None, files):
        if (FOLDER / file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(FOLDER / file, copy / file)


def _write_settings(copy: Path, part: str) -> None:
    settings = _SETTINGS.format(
        only=part if part.endswith(".py") else f"{part}/*",
        others=[each.name for each in copy.iterdir() if each.name not in ("exporter", "tests")],
        tests=["tests/unit", *(f"--ignore=tests/unit/test_{name}.py" for name in LEFT_OUT)],
    )
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write(settings)


def _row(name: str, states: Iterable[str], seen: str) -> str:
    count: Mapping[str, int] = Counter(states)
    total, noticed = sum(count.values()), count["killed"] + count["timeout"]
    return f"| {name} | {total} | {noticed} | {total - noticed} | {100 * noticed / total:.0f} % | {seen} |"


def _sum_up(rows: Mapping[str, str]) -> Iterator[str]:
    """Yield a row for each part: the sums of its files, and the goal."""
    for part, goal in GOALS.items():
        cells = [row.split("|") for file, row in rows.items() if file.strip("`").startswith(part)]
        total, noticed = (sum(int(each[column]) for each in cells) for column in (2, 3))
        if total:
            score = f"**{100 * noticed / total:.0f} %**"
            yield f"| **{part}** | {total} | {noticed} | {total - noticed} | {score} | goal: {goal} % |"


def _goal(part: str) -> int:
    return next((goal for whole, goal in GOALS.items() if part.startswith(whole)), 90)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=FOLDER, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    tenths = int(arguments.pop(0)) if arguments and arguments[0].isdecimal() else 10
    for each in arguments or GOALS:
        print(f"==> Mutants of {each} (mutmut)", flush=True)
        measure(each.rstrip("/"), tenths)

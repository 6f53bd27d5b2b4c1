"""Write grafana/dashboards/*.json. `make dashboards` runs it; a test compares the result.

usage: python -m grafana.generate [RUNBOOKS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana import guests, hypervisor, overview, right_sizing
from grafana.board import RUNBOOKS
from grafana.panels import Json

DIRECTORY = Path(__file__).resolve().parent / "dashboards"


def render_boards() -> dict[str, str]:
    """Return the text of each file, by its name."""
    boards = [overview.make(), hypervisor.make(), guests.make(), right_sizing.make()]
    return {f"{board['uid']}.json": _render(board) for board in boards}


def _render(board: Json) -> str:
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    runbooks = sys.argv[1] if len(sys.argv) > 1 else RUNBOOKS
    for name, text in render_boards().items():
        (DIRECTORY / name).write_text(text.replace(RUNBOOKS, runbooks), encoding="utf-8")

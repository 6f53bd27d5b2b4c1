"""Programs of the tests' own that run where Nova is, under Debian's Python: python3-nova is made for that."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

PYTHON = "/usr/bin/python3"

# As nova-compute starts: Nova 26 imports eventlet, Nova 34 is set to use threads.
_START = """
import nova.monkey_patch
if hasattr(nova.monkey_patch, "patch"):
    nova.monkey_patch.patch(backend="threading")
"""


def ask_program(program: str, *arguments: str, request: str = "") -> Any:
    """Return what the program prints, which is JSON; it is given the arguments, and reads the request.

    Fails the test where there is no Nova, or where the program fails.
    """
    process = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", _START + program, *arguments],
        input=request,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "No module named 'nova'" in process.stderr:
        pytest.fail(f"{PYTHON} has no Nova, `make test` installs it: {process.stderr}", pytrace=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)

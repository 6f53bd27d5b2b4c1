"""Somebody who is not root: what root may do tells nothing of what the exporter may."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_somebody_else() -> Iterator[Path]:
    """Act as a user who may look into the folder but own nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)


@contextmanager
def as_root_if_root() -> Iterator[None]:
    """Be root again for a moment, where that is who runs the tests."""
    is_root = os.getuid() == 0
    if is_root:
        os.seteuid(0)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(65534)

"""What is deprecated: it still works, and a later major version removes it (docs/stability.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deprecation:
    """A deprecated key, flag or metric says this wherever it is used or described.

    :ivar since: the minor version that announced it, as in "1.3"
    :ivar instead: what to use in its place, by its name
    """

    since: str
    instead: str

    def __str__(self) -> str:
        return f"Deprecated since {self.since}, use {self.instead} instead"

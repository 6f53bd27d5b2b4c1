"""The mistakes of a configuration, collected so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.errors import ConfigError


class Mistakes:
    """Collects mistakes while a configuration is read.

    A function that reads one value raises ConfigError. A function that reads several is given this object.
    It reads each value inside `with mistakes.collected():`, so it goes on after a mistake. At the
    end, `raise_if_any` is called.

    :ivar warnings: what is valid but should be changed, one line each
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.warnings: list[str] = []

    def add(self, place: object, mistake: str) -> None:
        """Add a mistake: where it is, and what was found and expected there."""
        self._lines.append(f"{place}: {mistake}")

    def warn(self, place: object, warning: str) -> None:
        """Add a warning: where it is, and what to do about it."""
        self.warnings.append(f"{place}: {warning}")

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect a ConfigError that is raised in the block. The code after the block is executed."""
        try:
            yield
        except ConfigError as error:
            self._lines += error.mistakes

    def raise_if_any(self) -> None:
        """End the reading if there was a mistake.

        :raises ConfigError: with all of them
        """
        if self._lines:
            raise ConfigError(self._lines)

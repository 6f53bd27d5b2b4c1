"""The words for libvirt's reasons of a guest's state: virDomainRunningReason, virDomainPausedReason, …."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.model import DomainState

# By libvirt's numbers, which begin at 0. A newer libvirt may have more.
_REASONS: Mapping[DomainState, tuple[str, ...]] = {
    DomainState.RUNNING: (
        "unknown",
        "booted",
        "migrated",
        "restored",
        "from_snapshot",
        "unpaused",
        "migration_canceled",
        "save_canceled",
        "wakeup",
        "crashed",
        "postcopy",
        "postcopy_failed",
    ),
    DomainState.PAUSED: (
        "unknown",
        "user",
        "migration",
        "save",
        "dump",
        "ioerror",
        "watchdog",
        "from_snapshot",
        "shutting_down",
        "snapshot",
        "crashed",
        "starting_up",
        "postcopy",
        "postcopy_failed",
        "api_error",
    ),
    DomainState.SHUTDOWN: ("unknown", "user"),
    DomainState.SHUTOFF: (
        "unknown",
        "shutdown",
        "destroyed",
        "crashed",
        "migrated",
        "saved",
        "failed",
        "from_snapshot",
        "daemon",
    ),
    DomainState.CRASHED: ("unknown", "panicked"),
}


def get_reason(state: DomainState, number: int) -> str:
    """Return the word for a reason; its number if this version has no word for it."""
    words = _REASONS.get(state, ("unknown",))
    return words[number] if 0 <= number < len(words) else str(number)

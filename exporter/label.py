"""Label values out of what others chose: guests' owners, and whoever answers as a hypervisor."""

from __future__ import annotations

MAX_LABEL_LENGTH = 128
MAX_HOSTNAME_LENGTH = 255  # what Nova's database holds of one, and DNS of a name


def fit_label(text: str, *, length: int = MAX_LABEL_LENGTH) -> str:
    """Return the text as a label value: cut to a length, and with U+FFFD for what cannot be printed."""
    printable = "".join(char if char.isprintable() else "\ufffd" for char in text[: length + 1])
    return printable if len(printable) <= length else printable[: length - 1] + "…"

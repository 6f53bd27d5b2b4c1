"""Label values from texts that others choose: owners of guests, and remote hypervisors."""

from __future__ import annotations

MAX_LABEL_LENGTH = 128
MAX_HOSTNAME_LENGTH = 255  # the limit of Nova's database, and of DNS


def make_label_value(text: str, *, length: int = MAX_LABEL_LENGTH) -> str:
    """Return the text as a label value: cut, and with U+FFFD for characters that cannot be printed."""
    if len(text) <= length and text.isprintable():
        return text
    printable = "".join(char if char.isprintable() else "\ufffd" for char in text[: length + 1])
    return printable if len(printable) <= length else printable[: length - 1] + "…"

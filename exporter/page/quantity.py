"""Numbers and names for people: 1.5 TiB, 37 %, 4 min, and only printable characters."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_ELLIPSIS = "…"
_MULTIPLE = 2  # from this share on, show a multiple instead of per cent

UNKNOWN = "\N{EN DASH}"  # stands for what is not known

# Longer names and messages are cut: others choose their length.
NAME_CHARACTERS = 120
MESSAGE_CHARACTERS = 400


def format_bytes(count: float | None) -> str:
    """Return bytes with three digits: "1.5 TiB", "-12 GiB"; a dash for None."""
    if count is None:
        return UNKNOWN
    size, unit = float(count), 0
    # 999.5 is where three digits would round to 1000.
    while abs(size) >= 999.5 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    digits = 0 if abs(size) >= 99.95 or unit == 0 else 1
    number = f"{size:.{digits}f}"
    return f"{number.removesuffix('.0')} {_UNITS[unit]}"


def format_count(count: float | None) -> str:
    """Return a count with spaces between thousands: "12 345"; a dash for None."""
    return UNKNOWN if count is None else f"{count:,.0f}".replace(",", "\N{NO-BREAK SPACE}")


def format_cpus(count: float | None) -> str:
    """Return how many CPUs are busy: "0.04", "1.7", "12"; a dash for None."""
    if count is None:
        return UNKNOWN
    digits = 2 if count < 1 else 1 if count < 9.95 else 0
    return f"{count:.{digits}f}"


def format_of(part: str, whole: str) -> str:
    """Return two amounts as one phrase, the unit once if both have it: "23.4 of 64 GiB", "0 of 3 GiB"."""
    number, _, unit = part.partition(" ")
    has_own_unit = bool(unit) and number != "0" and not whole.endswith(f" {unit}")
    return f"{part if has_own_unit else number} of {whole}"


def format_share(share: float | None) -> str:
    """Return a share in per cent, rounded down, so that only a full resource shows 100 %: "37 %".

    From 200 % on it is a multiple, also rounded down: "2.5x", "10x".
    """
    if share is None:
        return UNKNOWN
    return f"{int(share * 100)} %" if share < _MULTIPLE else f"{_multiple(share)}x"


def format_share_of(share: float | None) -> tuple[str, str]:
    """Return a share and the word that follows it: "37 %", "of"; or "10 times", ""."""
    if share is None or share < _MULTIPLE:
        return format_share(share), "of"
    return f"{_multiple(share)} times", ""


def format_left(text: str, count: float | None) -> str:
    """Return the formatted amount, or "none" if it is negative: the missing amount is shown separately."""
    return "none" if count is not None and count < 0 else text


def _multiple(share: float) -> str:
    return str(int(share)) if share >= 10 else f"{int(share * 10) / 10:g}"


def format_age(seconds: float | None) -> str:
    """Return an age in one unit: "4 s", "3 min", "2 h", "5 d"."""
    if seconds is None:
        return UNKNOWN
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(0, seconds))} s"


def printable(text: str, limit: int | None = None) -> str:
    r"""Return a text with visible characters only. Others become escapes such as \n and \x1b.

    Names of guests and hosts, and libvirt's messages, may contain anything. Control characters could control
    the terminal. Characters that change the writing direction could make a name look like another.

    :param limit: the maximum length; a longer text is cut and ends with …
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + _ELLIPSIS
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

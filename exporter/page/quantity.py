"""Numbers and names as people read them: 1.5 TiB, 37 %, 4 min, and no character that is none."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_ELLIPSIS = "…"
_MULTIPLE = 2  # from here on people count in times, and no longer in per cent

UNKNOWN = "\N{EN DASH}"  # stands for what could not be told

# So much is shown of what others chose the length of.
NAME_CHARACTERS = 120
MESSAGE_CHARACTERS = 400


def format_bytes(count: float | None) -> str:
    """Return bytes with three digits: "1.5 TiB", "-12 GiB"; a dash for what could not be told."""
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
    """Return a number of things, with thousands set apart: "12 345"; a dash for what could not be told."""
    return UNKNOWN if count is None else f"{count:,.0f}".replace(",", "\N{NO-BREAK SPACE}")


def format_of(part: str, whole: str) -> str:
    """Return two amounts as one phrase, the unit once if that will do: "23.4 of 64 GiB", "0 of 3 GiB"."""
    number, _, unit = part.partition(" ")
    has_own_unit = bool(unit) and number != "0" and not whole.endswith(f" {unit}")
    return f"{part if has_own_unit else number} of {whole}"


def format_share(share: float | None) -> str:
    """Return a share as per cent, rounded down, so that only what is full is called so: "37 %".

    From twice on it is a multiple, rounded down as well: "2.5x", "10x".
    """
    if share is None:
        return UNKNOWN
    return f"{int(share * 100)} %" if share < _MULTIPLE else f"{_multiple(share)}x"


def format_share_of(share: float | None) -> tuple[str, str]:
    """Return a share, and how it goes on before what it is a share of: "37 %", "of"; or "10 times", ""."""
    if share is None or share < _MULTIPLE:
        return format_share(share), "of"
    return f"{_multiple(share)} times", ""


def format_left(text: str, count: float | None) -> str:
    """Return the formatted amount; "none" where it is negative: what is missing is told by itself."""
    return "none" if count is not None and count < 0 else text


def _multiple(share: float) -> str:
    return str(int(share)) if share >= 10 else f"{int(share * 10) / 10:g}"


def format_age(seconds: float | None) -> str:
    """Return how long ago something was in one unit: "4 s", "3 min", "2 h", "5 d"."""
    if seconds is None:
        return UNKNOWN
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(0, seconds))} s"


def printable(text: str, limit: int | None = None) -> str:
    r"""Return a text whose every character can be seen: others become escapes such as \n and \x1b.

    Names of guests and hosts, and libvirt's messages, may hold anything: control characters would command a
    terminal, and those that turn the direction of writing would make a name look like another.

    :param limit: so many characters at most; a longer text is cut and ends in …
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + _ELLIPSIS
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

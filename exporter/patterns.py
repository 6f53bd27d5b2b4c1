"""Regular expressions out of a configuration."""

from __future__ import annotations

import re

# An escaped character, a class of characters, the begin of a group, its end, or how often something is
# repeated; "*", "+" and "{2,}" are repeats of any number. A class may begin with "]".
_TOKEN = re.compile(
    r"(?P<skip>\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<begin>\()|(?P<end>\))|(?P<repeat>[*+]|\{\d*,\d*\})",
    re.DOTALL,
)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression.

    :raises ValueError: saying why it is none
    """
    try:
        return re.compile(pattern)
    except RecursionError:
        raise ValueError("too many groups inside one another") from None
    except (re.error, OverflowError) as error:
        raise ValueError(str(error)) from error


def find_nested_repeat(pattern: str) -> str:
    """Return a group that is repeated and has a repeat in it: "(a+)+"; empty if there is none.

    To see that it does not match takes Python twice as long with each character of some texts: hours.

    :param pattern: can be compiled
    """
    begins: list[int] = []
    repeats: list[bool] = [False]  # whether there is a repeat in the group so far, from the outermost one on
    ended = None  # the end of the group that ended just before, if there is a repeat in it
    begin = 0
    for token in _TOKEN.finditer(pattern):
        if token["repeat"]:
            if ended == token.start():
                return pattern[begin : token.end()]
            repeats[-1] = True
        if token["begin"]:
            begins.append(token.start())
            repeats.append(False)
        if token["end"] and begins:  # a comment may have an end alone
            begin, has_repeat = begins.pop(), repeats.pop()
            repeats[-1] = repeats[-1] or has_repeat
            ended = token.end() if has_repeat else None
    return ""

"""Regular expressions out of a configuration."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# An escaped character, a class of characters, the begin of a group, its end, or how often something is
# repeated. A class may begin with "]".
_TOKEN = re.compile(
    r"(?P<skip>\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<begin>\()|(?P<end>\))|(?P<repeat>[*+]|\{\d*,?\d*\})",
    re.DOTALL,
)
_FOLDED = re.compile(r"\(\?[a-zA-Z]*i")  # "(?i:"
# A few repeats take no time, whatever they are of.
_FEW = 4
_MAX_PLACES = 2000
_ASCII = 128
_OTHERS = frozenset([_ASCII])  # stands for all characters beyond
_ALL = frozenset(range(_ASCII)) | _OTHERS
_CATEGORIES: Mapping[str, frozenset[int]] = {
    f"CATEGORY_{name}": frozenset(code for code in range(_ASCII) if re.match(escape, chr(code))) | _OTHERS
    for name, escape in (
        ("DIGIT", r"\d"),
        ("NOT_DIGIT", r"\D"),
        ("SPACE", r"\s"),
        ("NOT_SPACE", r"\S"),
        ("WORD", r"\w"),
        ("NOT_WORD", r"\W"),
    )
}


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


def find_ambiguous_repeat(pattern: str) -> str:
    """Return a group that is repeated and can match some text in several ways; empty if there is none.

    To see that it does not match takes Python about twice as long with each character of such a text: hours.
    "(a+)+" has "aa" in one repeat or in two, and so has "(a|aa)+". A group is fine if each next character
    leaves only one way to go on: "(web|db)+". Not all others are slow, but nobody needs them.

    :param pattern: can be compiled
    """
    flags = re.compile(pattern).flags
    is_folded = bool(flags & re.IGNORECASE or _FOLDED.search(pattern))
    for group, body in _list_repeated_groups(pattern):
        try:
            ways = _Ways()
            ways.repeat(ways.add(_parse(body, flags), is_folded=is_folded))
        except (re.error, RecursionError):  # it refers to another group, or has hundreds inside one another
            return group
        if ways.are_ambiguous:
            return group
    return ""


def _list_repeated_groups(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield each group that is repeated more than a few times, with its repeat and without: "(a)+", "(a)"."""
    begins: list[int] = []
    begin, ended = 0, None  # the group that ended just before
    for token in _TOKEN.finditer(pattern):
        if token["repeat"] and ended == token.start() and _is_many(token["repeat"]):
            yield pattern[begin : token.end()], pattern[begin:ended]
        if token["begin"]:
            begins.append(token.start())
        if token["end"] and begins:  # a comment may have an end alone
            begin, ended = begins.pop(), token.end()


def _is_many(repeat: str) -> bool:
    """Whether it repeats more than a few times, or not always the same number. "{}" is no repeat."""
    times = repeat.strip("{}")
    return int(times) > _FEW if times.isdigit() else times != ""


def _parse(pattern: str, flags: int) -> Sequence[tuple[Any, Any]]:
    """Return what Python makes of a pattern: [(LITERAL, 97), (MAX_REPEAT, (0, 1, […])), …]."""
    # It has no public name. So it is loaded only where a group is repeated.
    if sys.version_info >= (3, 11):
        from re import _parser as parser  # type: ignore[attr-defined]
    else:
        import sre_parse as parser
    parsed: Any = parser.parse(pattern, flags & ~re.DEBUG)
    items: Sequence[tuple[Any, Any]] = parsed
    return items


class _Part(NamedTuple):
    """A part of a pattern: the places of characters at which it may begin and end."""

    first: frozenset[int]
    last: frozenset[int]
    may_be_empty: bool


_EMPTY = _Part(frozenset(), frozenset(), may_be_empty=True)


class _Ways:
    """Which character of a pattern may follow which: Glushkov's automaton.

    :ivar are_ambiguous: whether one text may take two ways
    """

    def __init__(self) -> None:
        self._characters: list[frozenset[int]] = []  # that may be at each place
        self._next: list[set[int]] = []  # the places that may follow each place
        self._is_twice = False  # two repeats or steps lead from one place to the same place

    @property
    def are_ambiguous(self) -> bool:
        return self._is_twice or any(self._overlap(sorted(places)) for places in self._next)

    def add(self, items: Sequence[tuple[Any, Any]], *, is_folded: bool) -> _Part:
        """Add a sequence.

        :param is_folded: whether upper and lower case are the same
        """
        whole = _EMPTY
        for operator, argument in items:
            whole = self._join(whole, self._add_one(str(operator), argument, is_folded=is_folded))
        return whole

    def repeat(self, part: _Part) -> _Part:
        """Let a part follow itself."""
        self._lead(part.last, part.first)
        return part

    def _add_one(self, operator: str, argument: Any, *, is_folded: bool) -> _Part:
        if operator in ("AT", "ASSERT", "ASSERT_NOT"):
            return _EMPTY
        if operator == "SUBPATTERN":
            _, more, less, items = argument
            is_folded = (is_folded or bool(more & re.IGNORECASE)) and not less & re.IGNORECASE
            return self.add(items, is_folded=is_folded)
        if operator == "ATOMIC_GROUP":
            return self.add(argument, is_folded=is_folded)
        if operator == "BRANCH":
            return self._choose([self.add(each, is_folded=is_folded) for each in argument[1]])
        if operator.endswith("_REPEAT"):
            return self._add_repeat(*argument, is_folded=is_folded)
        self._characters.append(_list_characters(operator, argument, is_folded=is_folded))
        self._next.append(set())
        place = frozenset([len(self._next) - 1])
        return _Part(place, place, may_be_empty=operator.startswith("GROUPREF"))

    def _add_repeat(
        self, least: int, most: int, items: Sequence[tuple[Any, Any]], *, is_folded: bool
    ) -> _Part:
        part = self.add(items, is_folded=is_folded)
        if least == most > 1 and len(self._next) < _MAX_PLACES:  # two in a row show as much as a hundred
            return self._join(part, self.add(items, is_folded=is_folded))
        if most > 1:
            part = self.repeat(part)
        return part._replace(may_be_empty=part.may_be_empty or least == 0)

    def _join(self, one: _Part, other: _Part) -> _Part:
        self._lead(one.last, other.first)
        return _Part(
            one.first | other.first if one.may_be_empty else one.first,
            one.last | other.last if other.may_be_empty else other.last,
            may_be_empty=one.may_be_empty and other.may_be_empty,
        )

    def _choose(self, parts: Sequence[_Part]) -> _Part:
        # Python takes "(a|aa)" apart, into "a(|a)", and "(a|a)" into "a(|)".
        self._is_twice = self._is_twice or sum(part.may_be_empty for part in parts) > 1
        return _Part(
            frozenset().union(*(part.first for part in parts)),
            frozenset().union(*(part.last for part in parts)),
            may_be_empty=any(part.may_be_empty for part in parts),
        )

    def _lead(self, places: frozenset[int], following: frozenset[int]) -> None:
        for place in places:
            self._is_twice = self._is_twice or not following.isdisjoint(self._next[place])
            self._next[place] |= following

    def _overlap(self, places: Sequence[int]) -> bool:
        """Whether one character may be at two of these places."""
        seen: set[int] = set()
        for place in places:
            if not seen.isdisjoint(self._characters[place]):
                return True
            seen |= self._characters[place]
        return False


def _list_characters(operator: str, argument: Any, *, is_folded: bool) -> frozenset[int]:
    """Return what one place may have: at least the characters that it does have."""
    if operator == "LITERAL":
        codes = _list_range(argument, argument)
    elif operator == "RANGE":
        codes = _list_range(*argument)
    elif operator == "NOT_LITERAL":
        return _ALL - _list_range(argument, argument) | _OTHERS
    elif operator == "CATEGORY":
        return _CATEGORIES.get(str(argument), _ALL)
    elif operator == "IN":
        is_negated = str(argument[0][0]) == "NEGATE"
        listed = [
            _list_characters(str(each), more, is_folded=is_folded) for each, more in argument[is_negated:]
        ]
        codes = frozenset().union(*listed)
        return _ALL - codes | _OTHERS if is_negated else codes
    else:
        return _ALL
    return _fold(codes) if is_folded else codes


def _fold(codes: frozenset[int]) -> frozenset[int]:
    """Add upper case to lower case, and the other way round. Beyond ASCII are another s and k."""
    others = _OTHERS if codes & frozenset(map(ord, "skSK")) else frozenset()
    return codes | {ord(chr(code).swapcase()) for code in codes - _OTHERS} | others


def _list_range(first: int, last: int) -> frozenset[int]:
    return frozenset(range(first, min(last + 1, _ASCII))) | (_OTHERS if last >= _ASCII else frozenset())

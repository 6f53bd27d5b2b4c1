"""Regular expressions out of a configuration: none of them is a traceback, or takes hours."""

from __future__ import annotations

import pytest

from exporter.patterns import compile_pattern, find_ambiguous_repeat


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing ), unterminated subpattern at position 0"),
        ("a{99999999999999999999}", "the repetition number is too large"),
        ("(" * 2000 + ")" * 2000, "too many groups inside one another"),
    ],
    ids=["no pattern", "too many repeats", "too deep"],
)
def test_what_cannot_be_compiled_is_one_line(pattern: str, why: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 # its text is compared
        compile_pattern(pattern)
    assert str(raised.value) == why


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        ("(a+)+$", "(a+)+"),
        (r"x(\w+-?)*prod", r"(\w+-?)*"),
        ("((a*)b?){2,}", "((a*)b?){2,}"),
        ("(?:(?:a{1,9}|b))+c", "(?:(?:a{1,9}|b))+"),
        ("([)]+)+", "([)]+)+"),
        (r"(\(+)+", r"(\(+)+"),
        ("(a|aa)+b?c?[0-9]", "(a|aa)+"),
        ("x((?:a|a)b?)*y", "((?:a|a)b?)*"),
        ("(aa?)+b", "(aa?)+"),
        ("(a?b?)*c", "(a?b?)*"),
        ("(a{2}|a{3})+b", "(a{2}|a{3})+"),
        ("([ab]|ac)*", "([ab]|ac)*"),
        ("(.|a-)*", "(.|a-)*"),
        (r"(\w|-|[x-z]1)+", r"(\w|-|[x-z]1)+"),
        ("([^b]|ac)+", "([^b]|ac)+"),
        ("(é|ü1)+", "(é|ü1)+"),
        ("(?i)(a|Ab|b)+", "(a|Ab|b)+"),
        ("(?i:(\u017f|sb)+)", "(\u017f|sb)+"),  # the long s
        ("(?=(a|aa)+b)a", "(a|aa)+"),
        ("(a+){5}", "(a+){5}"),
        (r"(a)(\1)+", r"(\1)+"),
    ],
)
def test_a_group_that_can_match_a_text_in_several_ways_is_found(pattern: str, group: str) -> None:
    compile_pattern(pattern)
    assert find_ambiguous_repeat(pattern) == group


@pytest.mark.parametrize(
    "pattern",
    [
        "web[0-9]+",
        "(web|db)-[0-9]+",
        "^(prod|test)-.*",
        "(a|b)*",
        "(web|db)+-[0-9]*",
        "(a|aa)b?c?[0-9]",
        "(prod|preprod)+",
        "([a-z0-9]+-)*[a-z0-9]+",
        r"(\w+\.)+example\.com",
        "([0-9a-f]{2}:){5}[0-9a-f]{2}",
        "([0-9a-f]{4})+",
        "(ab?c)*",
        "(a|[^a])+",
        r"(\d|-1)+",
        "(a|Ab|b)+",
        "(?i)((?-i:a|Ac)|b)+",
        "(foo|)+",
        "(a+)?b",
        "(a+){3}",
        "(a+)(b)+",
        "([+*])+",
        "([]+])*",
        r"(\+)+",
        "(?i)test-.*|.*-tmp",
        "(a+) +",
        "(a{}b)+",
        "(?x)a # ) and )+",
        "(-[0-9]+|$)+",
    ],
)
def test_other_patterns_are_fine(pattern: str) -> None:
    compile_pattern(pattern)
    assert not find_ambiguous_repeat(pattern)


def test_groups_inside_many_others_are_looked_at_soon() -> None:
    pattern = "(" * 61 + "a" + "){2}" * 60 + ")+"
    assert find_ambiguous_repeat(pattern) == pattern


def test_groups_inside_hundreds_of_others_are_no_traceback() -> None:
    """Python can compile them, with fewer calls inside one another."""
    pattern = "(" * 400 + "a" + ")?" * 399 + ")+"
    compile_pattern(pattern)
    assert find_ambiguous_repeat(pattern) == pattern

"""Regular expressions out of a configuration: none of them is a traceback, or takes hours."""

from __future__ import annotations

import pytest

from exporter.patterns import compile_pattern, find_nested_repeat


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
    ("pattern", "nested"),
    [
        ("(a+)+$", "(a+)+"),
        (r"x(\w+-?)*prod", r"(\w+-?)*"),
        ("((a*)b?){2,}", "((a*)b?){2,}"),
        ("(?:(?:a{1,9}|b))+c", "(?:(?:a{1,9}|b))+"),
        ("([)]+)+", "([)]+)+"),
        (r"(\(+)+", r"(\(+)+"),
    ],
)
def test_a_repeat_inside_a_repeat_is_found(pattern: str, nested: str) -> None:
    compile_pattern(pattern)
    assert find_nested_repeat(pattern) == nested


@pytest.mark.parametrize(
    "pattern",
    [
        "web[0-9]+",
        "(web|db)+-[0-9]*",
        "(a+)?b",
        "(a+){3}",
        "(a+)(b)+",
        "([+*])+",
        "([]+])*",
        r"(\+)+",
        "(?i)test-.*|.*-tmp",
        "(a+) +",
        "(?x)a # ) and )+",
    ],
)
def test_other_patterns_are_fine(pattern: str) -> None:
    compile_pattern(pattern)
    assert not find_nested_repeat(pattern)

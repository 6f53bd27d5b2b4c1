"""CPU sets mean what they mean to Nova, and what is none is refused with the offending item."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cpu_spec import (
    HIGHEST_CPU,
    MAX_CPUS_IN_SETS,
    CpuSpecError,
    CpuSpecs,
    format_cpu_spec,
    parse_cpu_spec,
)
from exporter.errors import ExporterError

cpu_numbers = st.integers(min_value=0, max_value=200)


@pytest.mark.parametrize(
    ("spec", "cpus"),
    [
        ("0", {0}),
        ("4-12,^8,15", {4, 5, 6, 7, 9, 10, 11, 12, 15}),
        ("1-3,5,^2", {1, 3, 5}),
        ("1,^1,2", {2}),
        ("^2,1-3", {1, 3}),  # An exclusion counts wherever it stands.
        ("0-9,^3-7", {0, 1, 2, 8, 9}),
        (" 1 , 2 - 3 ,, ^ 2 ,", {1, 3}),
        ("0-3,\n8", {0, 1, 2, 3, 8}),  # As nova.conf's continuation lines leave it.
        ("5-5", {5}),
        ("007", {7}),
        ("0000000007", {7}),
        (f"{HIGHEST_CPU}", {HIGHEST_CPU}),
    ],
)
def test_a_set_has_the_cpus_that_nova_reads_from_it(spec: str, cpus: set[int]) -> None:
    assert parse_cpu_spec(spec) == cpus


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "'' leaves no CPU"),
        (" , ,", "' , ,' leaves no CPU"),
        ("0-3,^0-3", "'0-3,^0-3' leaves no CPU"),
        ("^1", "'^1' leaves no CPU"),
        ("0-3,8-4", "'8-4' starts past its end"),
        ("5,2-1", "'2-1' starts past its end"),
        ("^8-4,1", "'^8-4' starts past its end"),
        ("0,x", "'x' is neither a CPU number nor a range of them"),
        ("1-", "'1-' is neither a CPU number nor a range of them"),
        ("-1", "'-1' is neither a CPU number nor a range of them"),
        ("1--5", "'1--5' is neither a CPU number nor a range of them"),
        ("1-2-3", "'1-2-3' is neither a CPU number nor a range of them"),
        ("^^1", "'^^1' is neither a CPU number nor a range of them"),
        ("^", "'^' is neither a CPU number nor a range of them"),
        ("1 2", "'1 2' is neither a CPU number nor a range of them"),
        ("4.0", "'4.0' is neither a CPU number nor a range of them"),
        ("65536", "'65536' is out of bounds, the highest CPU number is 65535"),
        ("0-99999999999", "'0-99999999999' is out of bounds, the highest CPU number is 65535"),
        ("^65536-65537,1", "'^65536-65537' is out of bounds, the highest CPU number is 65535"),
        ("x" * 100, f"'{'x' * 40}…' is neither a CPU number nor a range of them"),
    ],
)
def test_a_mistake_is_named_with_the_item_that_has_it(spec: str, message: str) -> None:
    with pytest.raises(CpuSpecError, match=f"^{re.escape(message)}$"):
        parse_cpu_spec(spec)


@pytest.mark.parametrize("spec", ["+4", "1_0", "٣", "1-٣", "²", "1\xa0"])
def test_what_only_int_would_take_for_a_number_is_refused(spec: str) -> None:
    with pytest.raises(CpuSpecError, match="neither a CPU number"):
        parse_cpu_spec(spec)


def test_a_number_too_long_for_int_is_out_of_bounds_like_any_other() -> None:
    with pytest.raises(CpuSpecError, match="is out of bounds"):
        parse_cpu_spec("9" * 10_000)


def test_the_error_is_both_the_exporters_and_a_value_error() -> None:
    assert issubclass(CpuSpecError, ExporterError)
    assert issubclass(CpuSpecError, ValueError)


@pytest.mark.parametrize(
    ("cpus", "spec"),
    [
        ([], ""),
        ([3], "3"),
        ([0, 1], "0-1"),
        ([8, 3, 2, 1, 0], "0-3,8"),
        ([1, 3, 5], "1,3,5"),
        ([1, 1, 2], "1-2"),
    ],
)
def test_cpus_are_written_in_ranges(cpus: list[int], spec: str) -> None:
    assert format_cpu_spec(cpus) == spec


@given(st.frozensets(cpu_numbers, min_size=1))
def test_what_is_written_reads_back(cpus: frozenset[int]) -> None:
    assert parse_cpu_spec(format_cpu_spec(cpus)) == cpus


@given(st.frozensets(cpu_numbers, min_size=1))
def test_no_two_ranges_that_are_written_touch(cpus: frozenset[int]) -> None:
    ends = [tuple(map(int, part.split("-"))) for part in format_cpu_spec(cpus).split(",")]
    assert all(before[-1] + 1 < after[0] for before, after in itertools.pairwise(ends))


@given(st.lists(st.tuples(st.booleans(), cpu_numbers, cpu_numbers), min_size=1))
def test_ranges_and_exclusions_add_up_as_a_plain_walk_over_the_cpus_says(
    items: list[tuple[bool, int, int]],
) -> None:
    ordered = [(excluded, min(ends), max(ends)) for excluded, *ends in items]
    spec = ",".join(f"{'^' if excluded else ''}{start}-{end}" for excluded, start, end in ordered)
    expected = {
        cpu
        for cpu in range(201)
        if any(start <= cpu <= end for excluded, start, end in ordered if not excluded)
        and not any(start <= cpu <= end for excluded, start, end in ordered if excluded)
    }
    if expected:
        assert parse_cpu_spec(spec) == expected
    else:
        with pytest.raises(CpuSpecError, match="leaves no CPU"):
            parse_cpu_spec(spec)


@given(st.text() | st.text(alphabet="0123456789-^, \t+_x٣"))
def test_any_text_is_a_set_of_cpus_or_a_cpu_spec_error(text: str) -> None:
    try:
        cpus = parse_cpu_spec(text)
    except CpuSpecError:
        return
    assert cpus
    assert all(0 <= cpu <= HIGHEST_CPU for cpu in cpus)


def test_after_too_many_cpus_a_documents_sets_are_refused_unread() -> None:
    """Or else thousands of large sets would take minutes. Sets that were read before are there still."""
    specs = CpuSpecs()
    largest = [f"0-{HIGHEST_CPU}" + "," * number for number in range(MAX_CPUS_IN_SETS // (HIGHEST_CPU + 1))]
    for spec in largest:
        specs.parse(spec)
    for spec in ("1", "no set at all"):
        with pytest.raises(CpuSpecError, match=f"more than {MAX_CPUS_IN_SETS} CPUs"):
            specs.parse(spec)
    assert len(specs.parse(largest[0])) == HIGHEST_CPU + 1


def test_what_is_excluded_counts_too() -> None:
    specs = CpuSpecs()
    for number in range(2):
        assert specs.parse(f"0-{HIGHEST_CPU},^1-{HIGHEST_CPU - number}") >= {0}
    with pytest.raises(CpuSpecError, match=f"more than {MAX_CPUS_IN_SETS} CPUs"):
        specs.parse(f"0-{HIGHEST_CPU}")

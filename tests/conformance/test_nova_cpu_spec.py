"""A CPU set means the same to this exporter as to Nova's own parser, but for what only int() takes.

Nova (Debian's python3-nova) runs in a process of its own under the system's Python, one for all sets.
"""

from __future__ import annotations

import json
import random
import re

from exporter.cpu_spec import CpuSpecError, format_cpu_spec, parse_cpu_spec
from tests.support.nova_programs import ask_program

# Reads a list of sets; prints for each its CPUs and how Nova writes them, or null for one that it refuses.
NOVA = """
import json, sys
import nova.conf
from nova import exception
from nova.virt import hardware

def parse(spec):
    try:
        cpus = hardware.parse_cpu_spec(spec)
    except exception.Invalid:
        return None
    return [sorted(cpus), hardware.format_cpu_spec(cpus)] if cpus else None

json.dump([parse(spec) for spec in json.load(sys.stdin)], sys.stdout)
"""

WRITTEN_BY_HAND = (
    "4-12,^8,15",
    "^8,4-12",
    "0-9,^3-7",
    " 1 , 2 - 3 ,, ^ 2 ,",
    "^ 2 - 3, 1-4",
    "0-3,\n8\t",
    "5-5",
    "007",
    "",
    ",",
    "^1",
    "0-3,^0-3",
    "3-1",
    "-1",
    "1-",
    "1--5",
    "1-2-3",
    "^^1",
    "1 2",
    "4.0",
    "0x4",
    "all",
)


def ask_nova(specs: list[str]) -> list[tuple[list[int], str] | None]:
    answers = ask_program(NOVA, request=json.dumps(specs))
    return [answer and (answer[0], answer[1]) for answer in answers]


def draw_specs(count: int) -> list[str]:
    """Draw sets that are mostly well-formed and texts that mostly are not, the same in every run."""
    choice = random.Random(3)
    items = ["0", "3", "12", "2-5", "4-4", "9-20", "^3", "^4-6", " 7 ", "", "5-2", "1 - 3", "^ 9"]
    sets = [",".join(choice.choices(items, k=choice.randint(1, 5))) for _ in range(count)]
    texts = ["".join(choice.choices("0123-^, +", k=choice.randint(1, 5))) for _ in range(count)]
    return [*WRITTEN_BY_HAND, *sets, *texts]


def parse(spec: str) -> tuple[list[int], str] | None:
    try:
        cpus = parse_cpu_spec(spec)
    except CpuSpecError:
        return None
    return sorted(cpus), format_cpu_spec(cpus)


def test_every_set_means_the_same_to_nova_and_is_written_the_same() -> None:
    specs = draw_specs(2000)
    answers = ask_nova(specs)
    assert answers.count(None) < len(specs) * 0.8
    for spec, answer in zip(specs, answers, strict=True):
        if re.search(r"\+\d", spec):
            assert parse(spec) is None, spec
        else:
            assert parse(spec) == answer, spec

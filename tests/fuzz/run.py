"""Fuzzes one target, guided by coverage (atheris), from the committed corpus on.

usage: python -m tests.fuzz.run TARGET SECONDS [FINDINGS]
A finding's input is left in FINDINGS (.cache/fuzz/findings by default); the exit status is then not 0. Inputs
that reach new code are kept in .cache/fuzz/TARGET for the next run; what is worth it for good goes into
corpus/.
"""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["exporter"]):
    from tests.fuzz.targets import TARGETS

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".cache" / "fuzz"
_MORE_MEMORY_MIB = 64
_ONE_INPUT_SECONDS = 5


def main(name: str, seconds: int, findings: Path) -> None:
    """Fuzz until the time is over or something is found."""
    logging.disable(logging.CRITICAL)
    target = TARGETS[name]
    corpus = _HERE / "corpus" / name
    for seed in sorted(corpus.iterdir()):
        target(seed.read_bytes())
    kept = _CACHE / name
    kept.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    used_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_ONE_INPUT_SECONDS}",
        f"-rss_limit_mb={used_mib + _MORE_MEMORY_MIB}",
        "-max_len=16384",
        f"-artifact_prefix={findings}/{name}-",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(kept), str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    where = Path(sys.argv[3]) if len(sys.argv) > 3 else _CACHE / "findings"
    main(sys.argv[1], int(sys.argv[2]), where)

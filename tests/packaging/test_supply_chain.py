"""What runs on a hypervisor is known: pinned, hashed, licensed, listed, and built twice the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

from exporter import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = CHECKOUT / "deploy/requirements.lock"
# How the licences' names that packages gave before there was one list of them (SPDX) are called in it.
SPDX = {
    "LGPL-v2.0-or-later": "LGPL-2.0-or-later",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",  # Jinja2's, by its LICENSE.txt
}


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock() -> dict[str, str]:
    """Return the locked packages' versions."""
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK.read_text(), re.MULTILINE))


def find_closure(name: str) -> set[str]:
    """Return the package and all that it needs here at run time, by what the installed packages say."""
    needed = [
        line for line in requires(name) or () if "extra ==" not in line and "python_version <" not in line
    ]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed}
    return {normalize(name)}.union(*(find_closure(each) for each in names))


def test_everything_that_is_needed_is_pinned_and_hashed() -> None:
    """The lock holds the dependencies, theirs, and nothing else; none without a hash."""
    assert set(read_lock()) | {"hypervisor-exporter"} == find_closure("hypervisor-exporter")
    for entry in re.split(r"\n(?=[a-z])", LOCK.read_text())[1:]:
        assert "--hash=sha256:" in entry, entry


def test_each_licence_is_what_the_package_itself_says() -> None:
    """docs/decisions.md names the licence of every direct dependency."""
    decisions = (CHECKOUT / "docs/decisions.md").read_text()
    section = decisions.partition("## Runtime dependencies\n")[2].partition("\n\n**")[0]
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| \w", section, re.MULTILINE)
    assert rows
    listed = {name: licence for name, licence in rows if name != "package"}
    assert {normalize(name) for name in listed} <= set(read_lock())
    for name, licence in listed.items():
        told = metadata(name)
        classifiers = [each for each in told.get_all("Classifier") or () if each.startswith("License")]
        said = told.get("License-Expression") or told.get("License") or classifiers[0]
        assert licence == SPDX.get(said, said), name


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    """CycloneDX, of this version, each component with its package URL."""
    made = subprocess.run(
        [CHECKOUT / "scripts/sbom"], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    bill = json.loads((CHECKOUT / f"dist/hypervisor-exporter-{__version__}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == __version__
    listed = {component["purl"] for component in bill["components"]}
    assert listed == {f"pkg:pypi/{name}@{version}" for name, version in read_lock().items()}


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_two_builds_have_one_hash(kind: str, tmp_path: Path) -> None:
    """Whoever builds the same revision gets the same file, whenever and wherever."""
    # A build walks through .cache, too, where other tests come and go.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    hashes = set()
    for folder in (tmp_path / "one", tmp_path / "other"):
        command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", f"--outdir={folder}", "."]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        built = subprocess.run(
            command, cwd=clone, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert built.returncode == 0, built.stdout + built.stderr
        (file,) = folder.iterdir()
        hashes.add(hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(hashes) == 1

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

# The versions that corrected the known vulnerabilities: CVE-2025-43859, CVE-2025-27516, CVE-2020-14343.
CORRECTED = {"h11": "0.16.0", "jinja2": "3.1.6", "pyyaml": "5.4"}


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


def test_pip_gets_no_version_with_a_known_vulnerability() -> None:
    """The lowest version that is allowed has the correction, and so has the locked one."""
    dependencies = (
        (CHECKOUT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("]")[0]
    )
    allowed = re.findall(r'"([\w-]+)>=([\d.]+)"', dependencies)
    lowest = {normalize(name): version for name, version in allowed}
    locked = read_lock()
    for name, corrected in CORRECTED.items():
        assert as_numbers(lowest[name]) >= as_numbers(corrected)
        assert as_numbers(locked[name]) >= as_numbers(corrected)


def as_numbers(version: str) -> tuple[int, ...]:
    """Return "0.16" as (0, 16, 0), so that it is not below 0.16.0."""
    numbers = [*map(int, version.split(".")), 0, 0]
    return tuple(numbers[:3])


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


# What the registries would say, which cannot be reached from here.
SKOPEO = """#!/bin/sh
eval name=\\${$#}
case $name in *absent*) echo "no such tag" >&2; exit 1 ;; esac
printf 'sha256:%s\\n' "$(echo "$name" | sha256sum | cut -c -64)"
"""


def pin(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/pin-images with a stand-in for skopeo."""
    skopeo = folder / "skopeo"
    skopeo.write_text(SKOPEO)
    skopeo.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [CHECKOUT / "scripts/pin-images", *files]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_images_are_pinned_to_what_the_registry_says_and_nothing_else_changes(tmp_path: Path) -> None:
    """Pinned or not before: each gets the digest of its tag."""
    files = [tmp_path / "Dockerfile", tmp_path / "compose.yaml"]
    before = [(CHECKOUT / name).read_text() for name in ("Dockerfile", "deploy/compose/compose.yaml")]
    for file, text in zip(files, before, strict=True):
        file.write_text(text)
    assert pin(tmp_path, *files).returncode == 0
    pinned = [file.read_text() for file in files]
    for image in ("debian:13-slim", "prom/prometheus:v3.5.0", "grafana/grafana:11.6.0"):
        digest = hashlib.sha256(f"docker://{image}\n".encode()).hexdigest()
        assert f"{image}@sha256:{digest}\n" in "".join(pinned)
    unpinned = [re.sub(r"@sha256:[0-9a-f]{64}$", "", text, flags=re.MULTILINE) for text in (*before, *pinned)]
    assert unpinned[:2] == unpinned[2:]


def test_one_tag_that_is_not_found_leaves_all_files_as_they_are(tmp_path: Path) -> None:
    """Which one, and where it stands, is said."""
    files = [tmp_path / "Dockerfile", tmp_path / "compose.yaml"]
    files[0].write_text("ARG BASE=debian:13-slim\n")
    files[1].write_text("    image: absent/absent:1\n")
    result = pin(tmp_path, *files)
    assert (result.returncode, files[0].read_text()) == (1, "ARG BASE=debian:13-slim\n")
    assert f"Cannot pin absent/absent:1 of {files[1]}" in result.stderr


def test_the_images_of_the_compose_file_have_digests() -> None:
    """A tag of somebody else may be moved to another image."""
    compose = (CHECKOUT / "deploy/compose/compose.yaml").read_text()
    images = re.findall(r"^ +image: (.*)$", compose, re.MULTILINE)
    assert images
    assert [image for image in images if not re.search(r":[\w.]+@sha256:[0-9a-f]{64}$", image)] == []

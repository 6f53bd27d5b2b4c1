"""The Debian package: how it is built and installed in a fresh Debian, a container of buildah."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.packaging.buildah import Container

# apt inside has its own release's sources, and this machine's settings and certificates; these do not stay.
APT = (
    "/etc/apt/apt.conf.d:/etc/apt/apt.conf.d:ro",
    "/etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro",
)


def build(tree: Path, directory: Path) -> Path:
    built = subprocess.run(
        [tree / "scripts/build-deb"], capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return shutil.copy(tree / built.stdout.split()[-1], directory / "hypervisor-exporter.deb")


def install(container: Container, package: Path, *others: str) -> None:
    """Install the package, and others by their names."""
    command = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends"
    command = " ".join((command, "/new.deb", *others))
    volumes = (*APT, f"{package}:/new.deb:ro")
    result = container.run("sh", "-c", command, volumes=volumes, seconds=300)
    assert result.returncode == 0, result.stdout + result.stderr


def must(container: Container, *command: str) -> str:
    result = container.run(*command, volumes=APT, seconds=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

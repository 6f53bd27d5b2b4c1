"""Containers without a container engine: buildah runs commands in a chroot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BASES = {
    "bookworm": "docker.io/library/debian:12-slim",
    "trixie": "docker.io/library/debian:13-slim",
}


@dataclass(frozen=True)
class Container:
    """A container, which commands run in."""

    name: str

    def command(self, *arguments: str, volumes: Sequence[str] = ()) -> list[str]:
        options = [f"--volume={volume}" for volume in volumes]
        return ["buildah", "run", *options, self.name, "--", *arguments]

    def run(
        self, *arguments: str, volumes: Sequence[str] = (), seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, volumes=volumes)
        return subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=seconds, check=False
        )


@contextmanager
def make_container(image: str) -> Iterator[Container]:
    """Make a container of an image until the block ends."""
    name = buildah("from", "--pull=never", image)
    try:
        yield Container(name)
    finally:
        buildah("rm", name)


def buildah(*arguments: str) -> str:
    """Run buildah on the store of scripts/build-image, and return what it printed."""
    result = subprocess.run(
        ["buildah", *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def environment() -> dict[str, str]:
    """Return the environment in which buildah finds that store."""
    folder = CHECKOUT / ".cache/image"
    return {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }

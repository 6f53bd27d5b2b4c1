"""The images, built once for all tests of packages."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.packaging.buildah import CHECKOUT


@pytest.fixture(scope="session")
def images() -> None:
    """The exporter's image and its base, a fresh Debian, in the store of scripts/build-image."""
    if os.geteuid() != 0:
        pytest.skip("only root can build the image without a container engine (debootstrap, chroot)")
    built = subprocess.run(
        [CHECKOUT / "scripts/build-image"], capture_output=True, text=True, timeout=600, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr

"""The images, built once for all tests of packages."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.packaging.buildah import CHECKOUT


@pytest.fixture(scope="session")
def build_image() -> Callable[..., None]:
    """Run scripts/build-image, once for each choice of arguments."""

    @functools.cache
    def build(*arguments: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can build the image without a container engine (debootstrap, chroot)")
        built = subprocess.run(
            [CHECKOUT / "scripts/build-image", *arguments],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert built.returncode == 0, built.stdout + built.stderr

    return build

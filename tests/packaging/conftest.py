"""The images and the package, built once for all tests of packages; and where packages are built at all."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.packaging.buildah import CHECKOUT
from tests.packaging.fresh_debian import build

# What is built, and on which releases of Debian.
_BUILDING = ("test_ansible.py", "test_deb.py", "test_image.py", "test_rpm.py", "test_ssh.py")
_RELEASES = ("bookworm", "trixie")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Leave out what is built, on a Debian that it is not built on."""
    system = platform.freedesktop_os_release()
    if system["ID"] != "debian" or system.get("VERSION_CODENAME") in _RELEASES:
        return
    left_out = pytest.mark.skip(reason="the packages and the image are built on Debian 12 and 13")
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name in _BUILDING:
            item.add_marker(left_out)


@pytest.fixture(scope="session")
def build_image() -> Callable[..., None]:
    """Run scripts/build-image, once for each choice of arguments."""

    @functools.cache
    def build_once(*arguments: str) -> None:
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

    return build_once


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this checkout."""
    return build(CHECKOUT, tmp_path_factory.mktemp("package"))

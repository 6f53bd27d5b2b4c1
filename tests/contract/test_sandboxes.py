"""Sandboxes of several workers do not get into each other's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.sandbox import Sandbox, SandboxError


def test_the_end_of_one_is_not_that_of_another() -> None:
    """Shows that a namespace that has the number of one that has just ended is left alone."""

    def make_and_end(_number: int) -> None:
        Sandbox(images_bytes=2**20).close()

    try:
        with ThreadPoolExecutor(4) as workers:
            list(workers.map(make_and_end, range(60)))
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)

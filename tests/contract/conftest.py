"""The world that a contract test looks at: all tests of the suite run in each, and each is made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.worlds import (
    World,
    on_a_read_only_socket,
    on_embedded_qemu,
    on_tcp,
    on_the_test_driver,
)
from tests.support.libvirtd import LibvirtDaemon
from tests.support.sandbox import SandboxError


@pytest.fixture(scope="module", params=["test driver", "embedded QEMU", "read-only socket", "TCP"])
def world(request: pytest.FixtureRequest, libvirt_cache: Path) -> Iterator[World]:
    """A hypervisor with three guests, and an exporter before it."""
    with ExitStack() as stack:
        if request.param == "test driver":
            yield stack.enter_context(on_the_test_driver())
        elif request.param == "embedded QEMU":
            try:
                yield stack.enter_context(on_embedded_qemu(libvirt_cache))
            except SandboxError as error:
                pytest.fail(str(error), pytrace=False)
        else:
            daemon: LibvirtDaemon = request.getfixturevalue("shared_libvirtd")
            stack.callback(daemon.clear)
            kinds = {"read-only socket": on_a_read_only_socket, "TCP": on_tcp}
            yield stack.enter_context(kinds[request.param](daemon))

"""Fixtures that several kinds of tests share: one libvirtd for the whole session (of a worker, if any)."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.heartbeat import Heartbeat
from tests.support.libvirtd import LibvirtDaemon
from tests.support.recording import Recorder
from tests.support.sandbox import SandboxError

# An example that takes long on a busy machine is no defect.
settings.register_profile("project", deadline=None)
settings.register_profile("mutants", deadline=None, max_examples=20, database=None)  # scripts/mutants.py
settings.load_profile("project")

# Nothing that a test waits for in an event loop takes longer, but what never comes.
ASYNC_TEST_SECONDS = 60

# What libvirt found out about QEMU, which takes it 8 s; it knows by itself when that has become stale. Each
# worker has its own.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "libvirt" / _WORKER


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the project's own switches."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
    parser.addoption("--record", type=Path, metavar="FILE", help="write down what ran, and on what")


def pytest_configure(config: pytest.Config) -> None:
    """Have the run recorded that shall be, give signs of life, and spread the tests over workers, if any.

    Of these, none records or says anything: the process that hands out the tests is told of all they do.
    """
    is_worker = hasattr(config, "workerinput")
    if is_worker or config.getoption("dist", "no") != "no":
        from tests.support import parallel  # needs xdist, which is not there in every environment

        config.pluginmanager.register(parallel.Worker() if is_worker else parallel.Spreading())
    if is_worker:
        return
    config.pluginmanager.register(Heartbeat())
    path = config.getoption("record")
    if path is not None:
        config.pluginmanager.register(Recorder(path))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is written with `async def` in an event loop of its own."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    asyncio.run(asyncio.wait_for(test(**arguments), ASYNC_TEST_SECONDS))
    return True


@pytest.fixture(scope="session")
def libvirt_cache() -> Path:
    """A directory in which libvirt finds what it once found out about QEMU."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    return _CACHE


@pytest.fixture(scope="session")
def shared_libvirtd(libvirt_cache: Path) -> Iterator[LibvirtDaemon]:
    """The session's libvirtd; tests ask for `libvirtd`, which finds it empty."""
    try:
        with LibvirtDaemon(cache=libvirt_cache) as daemon:
            yield daemon
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def libvirtd(shared_libvirtd: LibvirtDaemon) -> Iterator[LibvirtDaemon]:
    """A real libvirtd without any guest, which is left without any guest."""
    yield shared_libvirtd
    shared_libvirtd.clear()

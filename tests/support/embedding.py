"""Hypervisors in the exporter's own process. Only that process can change them, so it gets commands."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.exporter_process import RunningExporter, serve
from tests.support.sandbox import Sandbox

_PROGRAM = Path(__file__).with_name("embedding_exporter.py")


class Embedding:
    """A serving exporter with the hypervisor in it.

    :ivar exporter: to be scraped
    """

    def __init__(self, exporter: RunningExporter) -> None:
        self.exporter = exporter

    def perform(self, operation: str, *arguments: str) -> None:
        """Do one of tests.support.operations to the hypervisor.

        :raises RuntimeError: when libvirt objects
        """
        process = self.exporter.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([operation, *arguments]).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{operation}: the exporter ended: {self.exporter.log}")
        if json.loads(line) is not None:
            raise RuntimeError(f"{operation}: {json.loads(line)}")


@contextlib.contextmanager
def serve_test_driver(settings: Mapping[str, Any], *, flags: Sequence[str] = ()) -> Iterator[Embedding]:
    """Run an exporter with libvirt's test driver in it, test:///default, without any domain or pool.

    :param flags: more flags for the exporter
    """
    command = [sys.executable, str(_PROGRAM), "test:///default"]
    with serve(settings, command=command, flags=flags) as exporter:
        embedding = Embedding(exporter)
        embedding.perform("remove_domains")
        embedding.perform("remove_pools")
        yield embedding


@contextlib.contextmanager
def serve_embedded_qemu(sandbox: Sandbox, settings: Mapping[str, Any]) -> Iterator[Embedding]:
    """Run an exporter with libvirt's QEMU driver in it. Its guests end with the sandbox, unless destroyed."""
    command = sandbox.command(sys.executable, _PROGRAM, embedded_uri(sandbox))
    with serve(settings, command=command) as exporter:
        yield Embedding(exporter)


def embedded_uri(sandbox: Sandbox) -> str:
    """Return the URI of the QEMU driver whose everything is in the sandbox."""
    return f"qemu:///embed?root={sandbox.root}"

"""Nova's answers for the tests: the process that nova_oracle.py is, and what it says."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.nova_programs import PYTHON

_PROGRAM = Path(__file__).with_name("nova_oracle.py")
_START_SECONDS = 60
_ANSWER_SECONDS = 30


class OracleError(Exception):
    """Nova cannot be asked on this machine; the message is one line that says what to do."""


class NovaError(Exception):
    """What Nova's driver raised instead of an answer.

    :ivar kind: the name of the exception's class
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class NovaOracle:
    """A process with Nova's LibvirtDriver in it.

    :param answer_seconds: how long it may take over an answer; 0.1 s for each image is usual
    """

    def __init__(self, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 # open as long as the process
        self._process = subprocess.Popen(
            [PYTHON, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> NovaOracle:
        try:
            self._read(_START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get_available_resource(
        self,
        uri: str,
        instances_path: Path,
        *,
        options: Mapping[str, Any] | None = None,
        volumes: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Any]:
        """Return what Nova's LibvirtDriver.get_available_resource returns.

        :param options: of nova.conf, by "group.name" or, in its DEFAULT group, "name"
        :param volumes: by domain's UUID, the devices ("vdb") that its block device mappings call volumes
        :raises NovaError: what it raises
        """
        answer = self._ask("resources", uri, instances_path, options, volumes=dict(volumes or {}))
        resources: dict[str, Any] = answer
        return resources

    def get_inventories(
        self, uri: str, instances_path: Path, *, options: Mapping[str, Any] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the inventory of each resource class that update_provider_tree reports to Placement."""
        inventories: dict[str, dict[str, Any]] = self._ask("inventories", uri, instances_path, options)
        return inventories

    def get_claims(self, flavors: Sequence[tuple[Mapping[str, Any], bool]]) -> list[dict[str, int]]:
        """Return what a guest of each flavor asks Placement for, by resource class.

        :param flavors: the fields of Nova's object, and whether the guest boots from a volume
        """
        claims: list[dict[str, int]] = self._ask("claims", "", Path(), None, flavors=list(flavors))
        return claims

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def count_fitting(self, hosts: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return how many guests of its flavor Nova puts into the NUMA cells of each host, one by one.

        :param hosts: `cells` and `flavor` with the fields of Nova's objects, and `limits`, the ratios
        """
        counts: list[int] = self._ask("fitting", "", Path(), None, hosts=list(hosts))
        return counts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _ask(
        self,
        what: str,
        uri: str,
        instances_path: Path,
        options: Mapping[str, Any] | None,
        **more: Any,
    ) -> Any:
        request = {
            "ask": what,
            "uri": uri,
            "instances_path": str(instances_path),
            "options": dict(options or {}),
            "volumes": {},
            **more,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read(self._answer_seconds)
        if "error" in answer:
            raise NovaError(answer["error"], answer["message"])
        return answer["answer"]

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if readable else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._log.seek(0)
        last = self._log.read().strip().rpartition("\n")[2] or f"no answer in {seconds} s"
        raise OracleError(f"Nova's driver cannot be asked ({last}): `make test` installs python3-nova")

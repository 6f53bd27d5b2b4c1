"""Alerts on their way: the rules with shorter waits, a real Alertmanager, and a webhook at its end."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.support.loopback import answers, find_free_port
from tests.support.prometheus_server import CHECKOUT, RULES
from tests.support.waiting import wait_until

_DURATION = re.compile(r"(\d+)([smh])")
_LOOKING_BACK = re.compile(r"\[\w+\]|offset \w+")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def write_faster_rules(directory: Path, *, times: int) -> list[Path]:
    """Copy the rules with all that they wait for and look back over so many times shorter."""

    def shorten(duration: re.Match[str]) -> str:
        return f"{max(1, int(duration[1]) * _SECONDS[duration[2]] // times)}s"

    paths = []
    for path in sorted(RULES.glob("*.yaml")):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            for waiting in (group, *group["rules"]):
                for key in {"interval", "for", "keep_firing_for"} & waiting.keys():
                    waiting[key] = _DURATION.sub(shorten, waiting[key])
            for rule in group["rules"]:
                rule["expr"] = _LOOKING_BACK.sub(
                    lambda found: _DURATION.sub(shorten, found[0]), str(rule["expr"])
                )
        paths.append(directory / path.name)
        paths[-1].write_text(yaml.safe_dump(rules))
    return paths


class Webhook:
    """Takes what Alertmanager sends. As a context manager it listens until the block ends.

    :ivar notifications: every alert that came, as it came, the latest last
    """

    def __init__(self) -> None:
        self.notifications: list[Mapping[str, Any]] = []
        notifications = self.notifications

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                notifications.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Webhook:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    def wait_for(self, name: str, status: str, *, seconds: float = 90, **labels: str) -> Mapping[str, Any]:
        """Return the latest notification of this alert, once it has this status (firing, resolved)."""

        def find() -> Mapping[str, Any] | None:
            wanted = {"alertname": name, **labels}
            matching = [each for each in self.notifications if wanted.items() <= each["labels"].items()]
            return matching[-1] if matching and matching[-1]["status"] == status else None

        found = wait_until(find, f"{name} {labels} to be {status}", seconds=seconds)
        assert found is not None
        return found


@contextlib.contextmanager
def serve_alertmanager(webhook: Webhook) -> Iterator[str]:
    """Run Alertmanager with this project's example of a configuration, but at once; yield its address."""
    settings = yaml.safe_load((CHECKOUT / "prometheus" / "alertmanager.yaml").read_text())
    settings["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    settings["receivers"][0]["webhook_configs"][0]["url"] = webhook.url
    address = f"127.0.0.1:{find_free_port()}"
    with tempfile.TemporaryDirectory(prefix="hx-alertmanager-", dir="/tmp") as directory:
        root = Path(directory)
        (root / "alertmanager.yml").write_text(yaml.safe_dump(settings))
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    "prometheus-alertmanager",
                    f"--config.file={root / 'alertmanager.yml'}",
                    f"--storage.path={root / 'storage'}",
                    f"--web.listen-address={address}",
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(lambda: answers(f"http://{address}/-/ready"), "Alertmanager to answer")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)

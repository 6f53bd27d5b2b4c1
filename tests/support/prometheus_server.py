"""A real Prometheus with this project's rules: over scraped exporters, or over a past that is made up."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.support.loopback import answers, find_free_port
from tests.support.prometheus_api import PrometheusApi
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = CHECKOUT / "prometheus" / "rules"


class PrometheusServer(PrometheusApi):
    """A Prometheus on a loopback port, as a context manager; what it stored is gone in the end.

    :param scrape_configs: as in prometheus.yml
    :param interval: of scrapes and of rules
    :param rule_files: which rules it evaluates as time goes by
    :param alertmanager: the address of one that is sent the alerts
    :param program: which Prometheus
    """

    def __init__(
        self,
        *,
        scrape_configs: Sequence[Mapping[str, Any]] = (),
        interval: str = "1s",
        rule_files: Sequence[Path] = (),
        alertmanager: str | None = None,
        port: int | None = None,
        program: str | Path = "prometheus",
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hx-prometheus-", dir="/tmp")
        self.root = Path(self._directory.name)
        self._storage = self.root / "storage"
        self._storage.mkdir()
        self._port = port or find_free_port()
        super().__init__(f"http://127.0.0.1:{self._port}")
        self._alertmanagers = [] if alertmanager is None else [alertmanager]
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(scrape_configs, interval=interval, rule_files=rule_files)

    def configure(
        self, scrape_configs: Sequence[Mapping[str, Any]], *, interval: str, rule_files: Sequence[Path] = ()
    ) -> None:
        """Write its configuration, for its next start."""
        settings = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(path) for path in rule_files],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": self._alertmanagers}]}]},
            "scrape_configs": list(scrape_configs),
        }
        (self.root / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def __enter__(self) -> PrometheusServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._directory.cleanup()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self.root / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._storage}",
                    "--storage.tsdb.retention.time=10y",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._is_ready, "Prometheus to answer")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; what it stored stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def fill(self, openmetrics: Path) -> None:
        """Store these samples as if they had been scraped; it has to be stopped."""
        self._promtool("tsdb", "create-blocks-from", "openmetrics", openmetrics, self._storage)

    def fill_rules(
        self, *, start: float, end: float, interval: str, read_by: Sequence[str] | None = None
    ) -> None:
        """Evaluate the recording rules over a past; it has to run, and is restarted.

        They are evaluated in levels. A rule sees what those of lower levels found. So none sees its own past.

        :param read_by: queries: only the rules that they need, one through the other; None for all rules
        """
        number = -1
        while rules := _recording_rules(self.root, number := number + 1, read_by):
            found = self.root / f"rules-{number}"
            self._promtool(
                "tsdb",
                "create-blocks-from",
                "rules",
                f"--start={start:.0f}",
                f"--end={end:.0f}",
                f"--url={self.url}",
                f"--eval-interval={interval}",
                f"--output-dir={found}",
                *rules,
            )
            self.stop()
            for block in found.iterdir():
                block.rename(self._storage / block.name)
            self.start()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.root / "log").read_text()
        return answers(f"{self.url}/-/ready")

    def _promtool(self, *arguments: str | Path) -> None:
        result = subprocess.run(
            ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=1800, check=False
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def _recording_rules(directory: Path, level: int, read_by: Sequence[str] | None) -> list[Path]:
    """Return a file with the recording rules of that level: those that need only what lower levels found."""
    texts = [
        (RULES / name).read_text()
        for name in ("thresholds.yaml", "hypervisor.yaml", "guests.yaml", "cluster.yaml")
    ]
    rules = {"groups": [group for text in texts for group in yaml.safe_load(text)["groups"]]}
    levels: dict[str, int] = {}
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    names = {rule["record"] for rule in every}
    if read_by is not None:
        read, wanted = [*read_by], set[str]()
        while more := {name for name in names - wanted if any(name in text for text in read)}:
            wanted |= more
            read = [str(rule["expr"]) for rule in every if rule["record"] in more]
        names = wanted
        every = [rule for rule in every if rule["record"] in wanted]
    for rule in every:  # each stands after those that it needs
        needs = {name for name in names if name in str(rule["expr"]) and name != rule["record"]}
        own = 1 + max((levels[name] for name in needs), default=-1)
        levels[rule["record"]] = max(own, levels.get(rule["record"], 0))
    chosen = [rule for rule in every if levels[rule["record"]] == level]
    path = directory / f"level-{level}.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": f"level-{level}", "rules": chosen}]}))
    return [path] if chosen else []

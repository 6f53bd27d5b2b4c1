"""A real VictoriaMetrics with vmalert, and what scrapes and sends to it: a Prometheus agent, or vmagent."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.loopback import answers, find_free_port
from tests.support.prometheus_api import PrometheusApi
from tests.support.prometheus_server import CHECKOUT
from tests.support.waiting import wait_until

_AGENT_EXAMPLE = CHECKOUT / "prometheus" / "scrape" / "agent.yaml"
_MEMORY = "-memory.allowedBytes=100MB"


@contextlib.contextmanager
def _serve(command: Sequence[str | Path], *, ready: str, root: Path) -> Iterator[None]:
    """Run a server until the block ends, which begins once it answers at `ready`."""
    log = root / f"{Path(command[0]).name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=root)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        return answers(ready)

    try:
        wait_until(is_ready, f"{command[0]} to answer", seconds=60)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextlib.contextmanager
def serve_victoria(programs: Path, root: Path) -> Iterator[PrometheusApi]:
    """Run VictoriaMetrics.

    It remembers for 10 s which series there are; here it hardly does, so that new ones are found within 2 s.
    """
    address = f"127.0.0.1:{find_free_port()}"
    command = [
        programs / "victoria-metrics",
        f"-httpListenAddr={address}",
        f"-storageDataPath={root / 'storage'}",
        "-search.latencyOffset=0s",
        "-storage.cacheSizeIndexDBTagFilters=1",
        _MEMORY,
    ]
    with _serve(command, ready=f"http://{address}/health", root=root):
        yield PrometheusApi(f"http://{address}")


@contextlib.contextmanager
def serve_vmalert(
    programs: Path, root: Path, storage: PrometheusApi, *, rules: Sequence[Path], interval: str
) -> Iterator[PrometheusApi]:
    """Run vmalert over these rules, beside a VictoriaMetrics that it reads and writes."""
    address = f"127.0.0.1:{find_free_port()}"
    command = [
        programs / "vmalert",
        f"-httpListenAddr={address}",
        *(f"-rule={path}" for path in rules),
        f"-datasource.url={storage.url}",
        f"-remoteWrite.url={storage.url}",
        f"-remoteRead.url={storage.url}",
        "-remoteWrite.flushInterval=200ms",
        f"-evaluationInterval={interval}",
        "-rule.evalDelay=0s",
        "-notifier.blackhole",
        _MEMORY,
    ]
    with _serve(command, ready=f"http://{address}/health", root=root):
        yield PrometheusApi(f"http://{address}")


def _write_scraping(
    path: Path, discovery: Mapping[str, Any], *, interval: str, remote_write: str | None = None
) -> None:
    """Write the example of an agent's configuration for this fleet, and for a receiver here."""
    settings = yaml.safe_load(_AGENT_EXAMPLE.read_text())
    settings["global"]["scrape_interval"] = interval
    (scraping,) = settings["scrape_configs"]
    scraping["file_sd_configs"] = discovery["file_sd_configs"]
    (sending,) = settings.pop("remote_write")
    if remote_write is not None:
        sending["url"] = remote_write
        sending["queue_config"]["batch_send_deadline"] = "200ms"
        settings["remote_write"] = [sending]
    path.write_text(yaml.safe_dump(settings))


@contextlib.contextmanager
def serve_agent(
    prometheus: Path,
    root: Path,
    storage: PrometheusApi,
    *,
    mode: str,
    discovery: Mapping[str, Any],
    interval: str,
) -> Iterator[None]:
    """Run a Prometheus agent that scrapes and sends on.

    :param mode: the flag that makes it one, which is another in Prometheus 3 than in 2
    """
    address = f"127.0.0.1:{find_free_port()}"
    config = root / "agent.yml"
    _write_scraping(config, discovery, interval=interval, remote_write=f"{storage.url}/api/v1/write")
    command = [
        prometheus,
        mode,
        f"--config.file={config}",
        f"--storage.agent.path={root / 'agent'}",
        f"--web.listen-address={address}",
    ]
    with _serve(command, ready=f"http://{address}/-/ready", root=root):
        yield


@contextlib.contextmanager
def serve_vmagent(
    programs: Path, root: Path, storage: PrometheusApi, *, discovery: Mapping[str, Any], interval: str
) -> Iterator[None]:
    """Run a vmagent that scrapes and sends on."""
    address = f"127.0.0.1:{find_free_port()}"
    config = root / "vmagent.yml"
    _write_scraping(config, discovery, interval=interval)
    command = [
        programs / "vmagent",
        f"-httpListenAddr={address}",
        f"-promscrape.config={config}",
        "-promscrape.config.strictParse=false",
        "-promscrape.fileSDCheckInterval=1s",
        f"-remoteWrite.url={storage.url}/api/v1/write",
        f"-remoteWrite.tmpDataPath={root / 'vmagent'}",
        "-remoteWrite.flushInterval=200ms",
        _MEMORY,
    ]
    with _serve(command, ready=f"http://{address}/health", root=root):
        yield

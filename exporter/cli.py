"""The command: flags and file become a Config, and the parts are wired together. Nothing else does either."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence

from prometheus_client.exposition import generate_latest

from exporter import __version__
from exporter.collectors import COLLECTORS
from exporter.config import Config, HypervisorConfig, load_config
from exporter.driver import LibvirtDriver
from exporter.errors import ConfigError
from exporter.flags import parse_flags
from exporter.host_state import HostState, Limits
from exporter.hypervisor import LibvirtHypervisor, start_event_loop
from exporter.log import configure_logging
from exporter.metric import Collector
from exporter.own import make_own_registry
from exporter.scrape import make_registry
from exporter.server import Server, ServerLimits
from exporter.service import Service
from exporter.tracker import ResourceTracker
from exporter.web import Web

log = logging.getLogger(__name__)

MAX_CONCURRENT_REFRESHES = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit status."""
    command = parse_flags(argv, collectors=[c.name for c in COLLECTORS], version=__version__)
    try:
        config = load_config(command.config_file, command.flags)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    configure_logging(level=config.log.level, form=config.log.format, stream=sys.stderr)
    for warning in config.warnings:
        log.warning(warning)
    if command.check:
        print(f"{command.config_file or 'built-in configuration'}: no mistakes found")
        return 0
    start_event_loop()
    return asyncio.run(_once(config) if command.once else _serve(config))


async def _serve(config: Config) -> int:
    """Serve until told to stop."""
    log.info("starting hypervisor-exporter", extra={"version": __version__, "pid": os.getpid()})
    tracker = _make_tracker(config)
    web = Web(
        tracker,
        collectors=_enabled_collectors(config),
        own=make_own_registry(),
        telemetry_path=config.web.telemetry_path,
        scrape_timeout=config.scrape_timeout,
        version=__version__,
        clock=time.monotonic,
    )
    service = Service(
        tracker,
        Server(web.handle, limits=ServerLimits()),
        listen_addresses=config.web.listen_address,
        first_audit_timeout=config.scrape_timeout,
        clock=time.monotonic,
    )
    try:
        await service.run()
    except OSError as error:
        log.error("cannot listen: %s", error.strerror, extra={"addresses": config.web.listen_address})
        return 1
    return 0


async def _once(config: Config) -> int:
    """Print one scrape; 0 if every hypervisor answered."""
    tracker = _make_tracker(config)
    deadline = time.monotonic() + config.scrape_timeout
    views = await tracker.update_available_resource(deadline=deadline)
    registry = make_registry(views, _enabled_collectors(config), make_own_registry())
    sys.stdout.write(generate_latest(registry).decode())
    sys.stdout.flush()
    return 0 if all(view.is_up for view in views) else 1


def _make_tracker(config: Config) -> ResourceTracker:
    slots = asyncio.Semaphore(MAX_CONCURRENT_REFRESHES)
    return ResourceTracker([_make_host(config, hypervisor, slots) for hypervisor in config.hypervisors])


def _make_host(config: Config, hypervisor: HypervisorConfig, slots: asyncio.Semaphore) -> HostState:
    driver = LibvirtDriver(
        LibvirtHypervisor(hypervisor.uri),
        hypervisor,
        resync_interval=config.resync_interval,
        clock=time.monotonic,
    )
    return HostState(
        target=hypervisor.target,
        driver=driver,
        limits=Limits(
            cache_ttl=config.cache_ttl,
            scrape_timeout=config.scrape_timeout,
            stale_grace=config.stale_grace,
        ),
        slots=slots,
        clock=time.monotonic,
        wall_clock=time.time,
    )


def _enabled_collectors(config: Config) -> list[Collector]:
    return [collector for collector in COLLECTORS if collector.name not in config.disabled_collectors]

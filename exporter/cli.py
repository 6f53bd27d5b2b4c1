"""The command line: make a Config from flags and file, and wire the parts together. Only done here."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.collectors import COLLECTORS, guests, libvirt_names
from exporter.compute.backoff import Backoff
from exporter.compute.host_state import HostState
from exporter.compute.places import RefreshPlaces
from exporter.compute.tracker import MakeHost, ResourceTracker
from exporter.config.kinds import LibvirtNames
from exporter.config.libvirt_uri import quote
from exporter.config.load import load_config
from exporter.config.mistakes import Mistakes
from exporter.config.settings import Config, HypervisorConfig
from exporter.descriptors import (
    OPENING_DESCRIPTORS,
    Descriptors,
    DescriptorsError,
    check_limit,
    count_needed,
    get_limit,
    raise_limit,
)
from exporter.errors import ConfigError, LibvirtMissingError
from exporter.flags import CommandLine, parse_flags
from exporter.log import configure_logging
from exporter.metric import Collector
from exporter.model import HostView
from exporter.own import OwnMetrics
from exporter.page.fleet import NEEDS as PAGE_NEEDS
from exporter.page.fleet import make_fleet
from exporter.recorder import Recorder
from exporter.reload import Loaded, Reloader
from exporter.scrape import collect_families, list_labels
from exporter.service import Service, end_by_signals
from exporter.standard_streams import (
    OutputError,
    open_standard_streams,
    print_error,
    print_output,
)
from exporter.systemd import Notifier, get_passed_sockets
from exporter.virt.driver import LibvirtDriver
from exporter.virt.opening import OPENINGS
from exporter.virt.sources.guest_statistics import MIN_INTERVAL_SECONDS
from exporter.virt.storage.ceph_pools import CephPools
from exporter.web.access import Access, AccessSettings, load_access
from exporter.web.connection import ServerLimits
from exporter.web.exposition import render_text
from exporter.web.probe import ProbeTargets
from exporter.web.routes import Web
from exporter.web.server import Server
from exporter.web.sockets import bind

if TYPE_CHECKING:
    from exporter.page.guest_rates import GuestRate
    from exporter.page.text_table import Medium

log = logging.getLogger(__name__)

TARGETS_NAMED = 5  # in an error
USE_SECONDS = 1.0  # over which --guests measures what guests use

RECONNECT_FIRST_SECONDS = 0.5
RECONNECT_MAX_SECONDS = 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit status."""
    open_standard_streams()
    try:
        return _run(argv)
    except OutputError as error:
        print_error(str(error))
        return 1


def _run(argv: Sequence[str] | None) -> int:
    command = parse_flags(
        argv, collectors={each.name: each.is_default for each in COLLECTORS}, version=__version__
    )
    try:
        loaded = _load(command)
        _check_guests(command, loaded.config)
    except ConfigError as error:
        print_error(str(error))
        return 1
    _apply_logging(loaded)
    if command.check:
        files = [str(path) for path in (command.config_file, command.web_config_file) if path is not None]
        print_output(f"{', '.join(files) or 'built-in configuration'}: no mistakes found\n")
        return 0
    try:
        limit = _raise_limit(loaded.config, is_serving=not command.once)
        # Imported only here: --help, --version and --config.check work without libvirt.
        from exporter.virt.hypervisor import start_event_loop
    except (DescriptorsError, LibvirtMissingError) as error:
        log.error("%s", error)
        return 1
    start_event_loop()
    if command.once:
        if command.guests is None:
            return asyncio.run(end_by_signals(_once(loaded.config, command)))
        return asyncio.run(end_by_signals(_once_guests(loaded.config, command, command.guests)))
    return asyncio.run(_serve(loaded, command, max_open_files=limit))


def _load(command: CommandLine) -> Loaded:
    """Read the whole configuration.

    :raises ConfigError: with every mistake in both files
    """
    mistakes = Mistakes()
    config, access = Config(), AccessSettings()
    with mistakes.collected():
        config = load_config(command.config_file, command.flags, list_reserved_labels=_list_labels)
    with mistakes.collected():
        access = load_access(command.web_config_file)
    mistakes.raise_if_any()
    return Loaded(config=config, access=access)


def _list_labels(names: LibvirtNames | None) -> frozenset[str]:
    """Return the names of all labels that a scrape may show, with those of the chosen `libvirt_names`."""
    return list_labels(_list_all(names))


def _check_guests(command: CommandLine, config: Config) -> None:
    """Check that the hypervisor is configured whose guests are asked for.

    :raises ConfigError: if it is not, with the names of some that are
    """
    targets = [each.target for each in config.hypervisors]
    if command.guests is None or command.guests in targets:
        return
    more = "" if len(targets) <= TARGETS_NAMED else f" and {len(targets) - TARGETS_NAMED} more"
    named = ", ".join(quote(each) for each in targets[:TARGETS_NAMED])
    raise ConfigError([f"--guests: found {quote(command.guests)}, expected one of {named}{more}"])


async def _serve(loaded: Loaded, command: CommandLine, *, max_open_files: int) -> int:
    """Serve until a signal to stop."""
    config = loaded.config
    log.info("starting hypervisor-exporter", extra={"version": __version__, "pid": os.getpid()})
    own = OwnMetrics()
    access = Access(command.web_config_file, loaded.access, clock=time.monotonic)
    own.watch_web(
        is_up_to_date=lambda: access.is_up_to_date, read_expiry=lambda: access.settings.certificate_expiry
    )
    # The page is always served, so what it shows is always read.
    # Only missing numbers that are exported set `hypervisor_up` to 0.
    needs = _list_needs(config)
    make_host = _host_maker(own, needs=needs, reads=needs | PAGE_NEEDS)
    tracker = ResourceTracker(config, make_host)
    probe_targets = ProbeTargets(config, make_host, clock=time.monotonic)

    def apply(new: Loaded) -> None:
        _apply_logging(new)
        if new.config.web.listen_address != config.web.listen_address:
            log.warning(
                "a change of listen_address needs a restart", extra={"still": config.web.listen_address}
            )
        if new.config.libvirt_names != config.libvirt_names:
            log.warning("a change of libvirt_names needs a restart", extra={"still": config.libvirt_names})
        access.apply(new.access)
        tracker.configure(new.config)
        probe_targets.configure(new.config)
        web.configure(new.config)

    reloader = Reloader(lambda: _load(command), apply, own, wall_clock=time.time)
    web = Web(
        config,
        tracker=tracker,
        probe_targets=probe_targets,
        collectors=_list_all(config.libvirt_names),
        own=own,
        reload=reloader.reload,
        access=access,
        clock=time.monotonic,
    )
    service = Service(
        tracker,
        probe_targets,
        Server(
            web.handle,
            limits=make_limits(config, max_open_files),
            get_access=lambda: access.settings,
        ),
        access,
        own,
        notifier=Notifier(os.environ),
        clock=time.monotonic,
        wall_clock=time.time,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.reload)
    try:
        await service.run(
            open_sockets=partial(_open_sockets, config, command), first_audit_timeout=config.scrape_timeout
        )
    except OSError as error:
        log.error("cannot listen: %s", error.strerror)
        return 1
    return 0


def _raise_limit(config: Config, *, is_serving: bool) -> int:
    """Raise the limit of file descriptors, and return it.

    :raises DescriptorsError: if it is too low for the configuration
    """
    limit = raise_limit()
    warning = check_limit(limit, hypervisors=_count_daemons(config), is_serving=is_serving)
    if warning:
        log.warning("%s", warning)
    return limit


def _count_daemons(config: Config) -> int:
    """Return how many hypervisors have a daemon to connect to."""
    return sum(not each.is_embedded for each in config.hypervisors)


def make_limits(config: Config, max_open_files: int) -> ServerLimits:
    """Return the limits for clients. They leave file descriptors for connections to hypervisors."""
    limits = ServerLimits()
    free = max_open_files - count_needed(_count_daemons(config)) - OPENING_DESCRIPTORS
    # Half of what is left: listening sockets need some, and connections that are being opened. Hypervisors
    # may need more than there are, if all are connected at once. Then clients still have an eighth.
    return replace(limits, connections=min(limits.connections, max(free // 2, max_open_files // 8)))


def _open_sockets(config: Config, command: CommandLine) -> list[socket.socket]:
    if command.systemd_socket:
        return get_passed_sockets(os.environ)
    return [_bind(address) for address in config.web.listen_address]


def _bind(address: str) -> socket.socket:
    """Return a socket bound to the address.

    :raises OSError: the message names the address
    """
    try:
        return bind(address)
    except OSError as error:
        way_out = ""
        if error.errno == errno.EADDRINUSE:
            way_out = (
                ". Listen elsewhere: --web.listen-address=:PORT, or web.listen_address in the configuration"
            )
        raise OSError(error.errno, f"{address}: {error.strerror}{way_out}") from error


async def _once(config: Config, command: CommandLine) -> int:
    """Print one scrape in one of flags.FORMATS; 0 if every hypervisor answered."""
    own = OwnMetrics()
    needs = _list_needs(config) if command.form == "metrics" else PAGE_NEEDS
    tracker = ResourceTracker(config, _host_maker(own, needs=needs, reads=needs))
    *_, views = await _read_again(tracker, config)
    own.record_load(now=time.time())
    print_output(_render(views, config, own, command.form))
    return 0 if all(view.is_up for view in views) else 1


async def _once_guests(config: Config, command: CommandLine, target: str) -> int:
    """Print the guests of one hypervisor; 0 if it answered. The collector `guests` adds what they use."""
    from exporter.page.guest_rates import GuestRates

    (hypervisor,) = (each for each in config.hypervisors if each.target == target)
    has_use = guests.COLLECTOR in _list_enabled(config)
    reads = PAGE_NEEDS | guests.COLLECTOR.needs if has_use else PAGE_NEEDS
    tracker = ResourceTracker(config, _host_maker(OwnMetrics(), needs=PAGE_NEEDS, reads=reads))
    pauses = _list_pauses(hypervisor) if has_use else [0.0]
    rates = GuestRates()
    use = None
    for (view,) in await _read_again(tracker, config, target=target, pauses=pauses):
        use = None if view.snapshot is None else rates.get(view.snapshot)
    print_output(_render_guests(view, use, config, command.form))
    return 0 if view.is_up else 1


def _list_pauses(hypervisor: HypervisorConfig) -> Sequence[float]:
    """Return after which pauses to read a hypervisor again, so that it is known what its guests use.

    Files have newer counters at once. libvirt is asked for them in rounds, and the last look shows the second
    one.
    """
    return [MIN_INTERVAL_SECONDS, 0.0] if hypervisor.tells_use else [USE_SECONDS]


async def _read_again(
    tracker: ResourceTracker, config: Config, *, target: str | None = None, pauses: Sequence[float] = (0.0,)
) -> Sequence[Sequence[HostView]]:
    """Read what a scrape reads. Then, for each pause, read what scrapes do not wait for, and that again.

    :param target: the only hypervisor to read
    :param pauses: seconds before each further time
    """
    timeout = config.scrape_timeout
    try:
        looks = [await tracker.update_available_resource(deadline=time.monotonic() + timeout, target=target)]
        for pause in pauses:
            await tracker.finish_maintenance(timeout=timeout)
            await asyncio.sleep(pause)
            looks.append(
                await tracker.update_available_resource(
                    deadline=time.monotonic() + timeout, refresh=True, target=target
                )
            )
    finally:
        tracker.stop_commands()
    return looks


def _render(views: Sequence[HostView], config: Config, own: OwnMetrics, form: str) -> str:
    # What is for people is not loaded where the exporter serves: it takes 1 MiB.
    if form == "table":
        from exporter.page.table import render_table

        return render_table(make_fleet(views), _find_medium())
    if form == "json":
        from exporter.page.document import render_json

        return render_json(make_fleet(views), now=time.time())
    return render_text(collect_families(views, _list_enabled(config), own)).decode()


def _render_guests(view: HostView, use: Mapping[str, GuestRate] | None, config: Config, form: str) -> str:
    from exporter.page.document import render_guests_json
    from exporter.page.guest_table import render_guest_table
    from exporter.page.guests import make_guest_list

    (hypervisor,) = (each for each in config.hypervisors if each.target == view.target)
    show_owner_names = hypervisor.guests.show_owner_names
    listed = make_guest_list(view, rates=use, show_owner_names=show_owner_names)
    if form == "json":
        return render_guests_json(listed, now=time.time())
    return render_guest_table(listed, _find_medium())


def _find_medium() -> Medium:
    from exporter.page.text_table import find_medium

    return find_medium(sys.stdout, os.environ, columns=shutil.get_terminal_size().columns)


def _list_all(names: LibvirtNames | None) -> list[Collector]:
    """Return the collectors there are: `libvirt_names` adds one."""
    return [*COLLECTORS, *([libvirt_names.COLLECTORS[names]] if names else [])]


def _list_enabled(config: Config) -> list[Collector]:
    return [each for each in _list_all(config.libvirt_names) if each.name not in config.disabled_collectors]


def _list_needs(config: Config) -> frozenset[str]:
    """Return the sources that the enabled collectors need: no other is read."""
    return frozenset().union(*(each.needs for each in _list_enabled(config)))


def _host_maker(own: OwnMetrics, *, needs: frozenset[str], reads: frozenset[str]) -> MakeHost:
    """Return the function that makes a HostState and all its parts. libvirt must be loaded.

    :param needs: the names of the sources without which a hypervisor counts as down
    :param reads: the names of the sources to read
    """
    from exporter.virt.hypervisor import LibvirtHypervisor

    places = RefreshPlaces(make_room=OPENINGS.make_room, max_files=get_limit())
    descriptors = Descriptors()
    ceph = CephPools(clock=time.monotonic)

    def make_host(hypervisor: HypervisorConfig, config: Config) -> HostState:
        recorder = Recorder(clock=time.monotonic)
        make_connection = partial(LibvirtHypervisor, hypervisor.uri, recorder, descriptors)
        driver = LibvirtDriver(
            make_connection(),
            make_connection,
            make_connection(),
            hypervisor,
            needs=reads,
            resync_interval=config.resync_interval,
            stale_grace=config.stale_grace,
            clock=time.monotonic,
            recorder=recorder,
            ceph=ceph,
        )
        # To try a local socket without a listener takes a millisecond, so every scrape may try.
        wait = RECONNECT_MAX_SECONDS if hypervisor.is_remote else 0
        return HostState(
            target=hypervisor.target,
            labels=hypervisor.labels,
            ignored=hypervisor.ignored,
            driver=driver,
            config=config,
            places=places,
            backoff=Backoff(first=RECONNECT_FIRST_SECONDS, maximum=wait),
            observe_duration=own.observe_refresh,
            clock=time.monotonic,
            wall_clock=time.time,
            recorder=recorder,
            needs=needs,
        )

    return make_host


def _apply_logging(loaded: Loaded) -> None:
    config = loaded.config
    configure_logging(level=config.log.level, form=config.log.format, stream=sys.stderr)
    for warning in (*config.warnings, *loaded.access.file.notes):
        log.warning(warning)

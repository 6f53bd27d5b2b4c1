"""The command line, with the names of the Prometheus family."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from exporter.config.kinds import LOG_FORMAT, LOG_LEVEL
from exporter.config.libvirt_uri import quote
from exporter.config.settings import DEFAULT_URI, Flags, LogConfig, WebConfig
from exporter.standard_streams import print_error, print_output

PROGRAM = "hypervisor-exporter"
FORMATS_FOR_PEOPLE = ("table", "json")
FORMATS = ("metrics", *FORMATS_FOR_PEOPLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """What to do, and with which configuration."""

    flags: Flags
    config_file: Path | None
    web_config_file: Path | None
    systemd_socket: bool  # listen on the sockets that systemd hands over
    check: bool  # validate the configuration and exit
    once: bool  # print one scrape and exit
    form: str  # what `once` prints: one of FORMATS
    guests: str | None  # the hypervisor whose guests `once` prints, as a table or as JSON


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with 2, without argparse's usage lines."""
        print_error(f"{self.prog}: {message}")
        self.exit(2)


class _Print(argparse.Action):
    """Print a text and exit. argparse's own actions exit with 0 also if it could not be written."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        render: Callable[[argparse.ArgumentParser], str],
        help: str,
    ) -> None:
        super().__init__(
            option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help
        )
        self._render = render

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it.

        :raises OutputError: if it cannot be written
        """
        print_output(self._render(parser))
        parser.exit()


def make_parser(
    collectors: Mapping[str, bool], version: str
) -> tuple[argparse.ArgumentParser, list[argparse.Action]]:
    """Return the parser of the command line, and its flags. --help, man page and completion use these.

    :param collectors: by the NAME of --collector.NAME and --no-collector.NAME: whether it is on by default
    """
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [flags]",
        description="Export the capacity of libvirt hypervisors, counted as in OpenStack Nova.",
        epilog="A flag overrides the configuration file.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    return parser, [
        *_add_configuration_flags(parser),
        *_add_web_flags(parser),
        *_add_log_flags(parser),
        *_add_collector_flags(parser, collectors),
        *_add_other_flags(parser, version),
    ]


def parse_flags(argv: Sequence[str] | None, collectors: Mapping[str, bool], version: str) -> CommandLine:
    """Parse the command line; None means that of this process. load_config checks the values.

    :param collectors: by the NAME of --collector.NAME and --no-collector.NAME: whether it is on by default
    :raises OutputError: if what --help and --version print cannot be written
    :raises SystemExit: with 0 after --help and --version; with 2 after one line about an unknown flag
    """
    parser, actions = make_parser(collectors, version)
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [flag for action in actions for flag in action.option_strings]
        parser.error(_describe_unknown(unknown[0], known))
    if given.form and not given.once:
        parser.error("--format says what --once prints: give both")
    if given.guests is not None and given.form not in FORMATS_FOR_PEOPLE:
        parser.error(f"--guests needs --once and --format {' or '.join(FORMATS_FOR_PEOPLE)}")
    off = {name: False for name, is_default in collectors.items() if not is_default}
    return _make_command_line(given, collectors={**off, **dict(given.collectors)})


def _make_command_line(given: argparse.Namespace, *, collectors: Mapping[str, bool]) -> CommandLine:
    return CommandLine(
        flags=Flags(
            libvirt_uri=tuple(given.libvirt_uri),
            instances_path=given.instances_path,
            listen_address=tuple(given.listen_address),
            telemetry_path=given.telemetry_path,
            log_level=given.log_level,
            log_format=given.log_format,
            collectors=collectors,
        ),
        config_file=given.config_file,
        web_config_file=given.web_config_file,
        systemd_socket=given.systemd_socket,
        check=given.check,
        once=given.once,
        form=given.form or FORMATS[0],
        guests=given.guests,
    )


def _describe_unknown(argument: str, known: Sequence[str]) -> str:
    """Name the nearest flag. A value after = is left out."""
    if not argument.startswith("-"):
        return f"found the argument {quote(argument)}, expected flags only"
    flag = argument.partition("=")[0]
    begun = [each for each in known if each.startswith(flag)]
    nearest = begun or difflib.get_close_matches(flag, known, n=1)
    suggestion = f"did you mean {nearest[0]}?" if nearest else "--help lists those there are"
    return f"unknown flag {quote(flag)[1:-1]}, {suggestion}"


class _HelpFormatter(argparse.HelpFormatter):
    """Help with room for the longest flag beside its text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)


def _add_configuration_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    group = parser.add_argument_group("Configuration")
    return [
        group.add_argument(
            "--config.file",
            dest="config_file",
            metavar="FILE",
            type=Path,
            help="Read this configuration file (default: none, every setting has its own default).",
        ),
        group.add_argument(
            "--config.check",
            dest="check",
            action="store_true",
            help="Check the configuration, report every mistake, and exit with 0 or 1.",
        ),
        group.add_argument(
            "--libvirt.uri",
            dest="libvirt_uri",
            metavar="URI",
            action="append",
            default=[],
            help="Read this hypervisor instead of those in the file; can be repeated "
            f"(default: nova.conf's connection_uri, else {DEFAULT_URI}).",
        ),
        group.add_argument(
            "--instances-path",
            dest="instances_path",
            metavar="PATH",
            help="The directory whose file system holds the guests' disks (default: /var/lib/nova/instances, "
            "or /var/lib/libvirt/images if that is missing).",
        ),
    ]


def _add_web_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    defaults = WebConfig()
    group = parser.add_argument_group("Web")
    return [
        group.add_argument(
            "--web.listen-address",
            dest="listen_address",
            metavar="ADDRESS",
            action="append",
            default=[],
            help="Listen on HOST:PORT, on :PORT for every address, or on unix:/PATH; can be repeated "
            f"(default: {' '.join(defaults.listen_address)}).",
        ),
        group.add_argument(
            "--web.telemetry-path",
            dest="telemetry_path",
            metavar="PATH",
            help=f"Serve the metrics under this path (default: {defaults.telemetry_path}).",
        ),
        group.add_argument(
            "--web.config.file",
            dest="web_config_file",
            metavar="FILE",
            type=Path,
            help="Read TLS, users and headers from this file, in the format of the Prometheus family "
            "(default: none, plain HTTP).",
        ),
        group.add_argument(
            "--web.systemd-socket",
            dest="systemd_socket",
            action="store_true",
            help="Listen on the sockets of the systemd socket unit instead of --web.listen-address.",
        ),
    ]


def _add_log_flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    defaults = LogConfig()
    group = parser.add_argument_group("Log")
    return [
        group.add_argument(
            "--log.level",
            dest="log_level",
            metavar="LEVEL",
            help=f"Write messages of this level and above, {LOG_LEVEL.expected} (default: {defaults.level}).",
        ),
        group.add_argument(
            "--log.format",
            dest="log_format",
            metavar="FORMAT",
            help=f"Write messages as {LOG_FORMAT.expected} (default: {defaults.format}).",
        ),
    ]


def _add_collector_flags(
    parser: argparse.ArgumentParser, collectors: Mapping[str, bool]
) -> Iterator[argparse.Action]:
    parser.set_defaults(collectors=[])
    group = parser.add_argument_group("Collectors")
    for name, is_default in collectors.items():
        for flag, enabled in ((f"--collector.{name}", True), (f"--no-collector.{name}", False)):
            yield group.add_argument(
                flag,
                dest="collectors",
                action="append_const",
                const=(name, enabled),
                help=f"{'Export' if enabled else 'Leave out'} the metrics of the collector {name}"
                f"{' (default)' if enabled == is_default else ''}.",
            )


def _add_other_flags(parser: argparse.ArgumentParser, version: str) -> list[argparse.Action]:
    group = parser.add_argument_group("Other")
    return [
        group.add_argument(
            "--once",
            action="store_true",
            help="Print one scrape and exit: with 0 if every hypervisor answered, else with 1.",
        ),
        group.add_argument(
            "--format",
            dest="form",
            choices=FORMATS,
            metavar="FORMAT",
            help=f"What --once prints, {', '.join(FORMATS[:-1])} or {FORMATS[-1]} (default: {FORMATS[0]}).",
        ),
        group.add_argument(
            "--guests",
            metavar="TARGET",
            help="Print the guests of this hypervisor, with --once and --format "
            f"{' or '.join(FORMATS_FOR_PEOPLE)}. TARGET is its name in the configuration.",
        ),
        group.add_argument(
            "--version",
            action=_Print,
            render=lambda _parser: f"{PROGRAM} {version}\n",
            help="Print the version and exit.",
        ),
        group.add_argument(
            "-h",
            "--help",
            action=_Print,
            render=argparse.ArgumentParser.format_help,
            help="Print this and exit.",
        ),
    ]

"""The command line is parsed as declared; what is no flag is answered in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.load import load_config
from exporter.config.settings import Flags
from exporter.flags import CommandLine, parse_flags

COLLECTORS = {"capacity": True, "domains": True}


def parse(*argv: str) -> CommandLine:
    return parse_flags(argv, collectors=COLLECTORS, version="1.2.3")


def refuse(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Parse what is wrong; return the one line about it."""
    with pytest.raises(SystemExit) as caught:
        parse(*argv)
    assert caught.value.code == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    return error.rstrip("\n")


def test_without_flags_nothing_is_said() -> None:
    assert parse() == CommandLine(
        flags=Flags(),
        config_file=None,
        web_config_file=None,
        systemd_socket=False,
        check=False,
        once=False,
        form="metrics",
        guests=None,
    )


def test_every_flag_reaches_its_field() -> None:
    command = parse(
        "--config.file=a.yaml",
        "--web.config.file=web.yaml",
        "--web.systemd-socket",
        "--config.check",
        "--once",
        "--format=json",
        "--guests=kvm01",
        "--libvirt.uri=qemu:///system",
        "--libvirt.uri=test:///default",
        "--instances-path=/srv",
        "--web.listen-address=:1",
        "--web.listen-address=:2",
        "--web.telemetry-path=/m",
        "--log.level=debug",
        "--log.format=json",
        "--collector.capacity",
        "--no-collector.domains",
    )
    assert command == CommandLine(
        flags=Flags(
            libvirt_uri=("qemu:///system", "test:///default"),
            instances_path="/srv",
            listen_address=(":1", ":2"),
            telemetry_path="/m",
            log_level="debug",
            log_format="json",
            collectors={"capacity": True, "domains": False},
        ),
        config_file=Path("a.yaml"),
        web_config_file=Path("web.yaml"),
        systemd_socket=True,
        check=True,
        once=True,
        form="json",
        guests="kvm01",
    )


@pytest.mark.parametrize("flags", [[], ["--once"], ["--once", "--format=metrics"]])
def test_guests_are_printed_for_people(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = "--guests needs --once and --format table or json"
    assert refuse(capsys, "--guests=kvm01", *flags) == f"hypervisor-exporter: {message}"


def test_a_format_is_that_of_one_scrape(capsys: pytest.CaptureFixture[str]) -> None:
    message = "--format says what --once prints: give both"
    assert refuse(capsys, "--format=json") == f"hypervisor-exporter: {message}"


def test_a_value_may_also_follow_its_flag() -> None:
    assert parse("--libvirt.uri", "test:///default").flags.libvirt_uri == ("test:///default",)


def test_of_a_collectors_two_flags_the_last_one_counts() -> None:
    flags = parse("--no-collector.domains", "--collector.domains").flags
    assert flags.collectors == {"domains": True}


def test_a_value_is_left_for_the_configuration_to_check() -> None:
    assert parse("--log.level=loud").flags.log_level == "loud"


def test_without_collectors_there_are_no_flags_for_them() -> None:
    assert parse_flags([], collectors={}, version="1").flags.collectors == {}


def test_the_parsed_flags_are_what_a_configuration_takes() -> None:
    config = load_config(None, parse("--libvirt.uri=test:///default", "--no-collector.domains").flags)
    assert [h.uri for h in config.hypervisors] == ["test:///default"]
    assert config.disabled_collectors == {"domains"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--log.levle=debug", "unknown flag --log.levle, did you mean --log.level?"),
        ("--log.lev", "unknown flag --log.lev, did you mean --log.level?"),
        ("--web", "unknown flag --web, did you mean --web.listen-address?"),
        ("-log.level", "unknown flag -log.level, did you mean --log.level?"),
        ("--collector.domain", "unknown flag --collector.domain, did you mean --collector.domains?"),
        ("--web.configfile=x", "unknown flag --web.configfile, did you mean --web.config.file?"),
        ("--zzz", "unknown flag --zzz, --help lists those there are"),
        ("start", "found the argument 'start', expected flags only"),
        ("qemu+tcp://a:secret@b/", "found the argument 'qemu+tcp://a:***@b/', expected flags only"),
        ("--libvirt.url=qemu+tcp://a:secret@b/", "unknown flag --libvirt.url, did you mean --libvirt.uri?"),
        ("--log.level", "argument --log.level: expected one argument"),
    ],
)
def test_what_is_no_flag_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    assert refuse(capsys, "--once", argument) == f"hypervisor-exporter: {message}"


def test_a_flag_that_takes_no_value_refuses_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert refuse(capsys, "--once=yes").startswith("hypervisor-exporter: argument --once: ")


def test_the_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == "hypervisor-exporter 1.2.3\n"


def test_the_help_has_every_flag_and_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in (
        "--config.file FILE",
        "--config.check",
        "--libvirt.uri URI",
        "--instances-path PATH",
        "--web.listen-address ADDRESS",
        "--web.telemetry-path PATH",
        "--log.level LEVEL",
        "--log.format FORMAT",
        "--collector.capacity",
        "--no-collector.capacity",
        "--collector.domains",
        "--no-collector.domains",
        "--once",
        "--version",
        "--help",
    ):
        assert f" {flag} " in text
    for default in (":9177", "/metrics", "qemu:///system", "info", "logfmt"):
        assert f"{default})." in text


def test_a_collector_that_is_off_by_default_is_on_only_where_somebody_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    collectors = {"capacity": True, "guests": False}

    def disabled(*argv: str) -> frozenset[str]:
        flags = parse_flags(argv, collectors=collectors, version="1").flags
        return load_config(None, flags).disabled_collectors

    assert disabled() == {"guests"}
    assert disabled("--collector.guests") == frozenset()
    assert disabled("--no-collector.capacity", "--no-collector.guests") == {"capacity", "guests"}
    with pytest.raises(SystemExit):
        disabled("--help")
    said = " ".join(capsys.readouterr().out.split())
    for name, on, off in (("capacity", " (default).", "."), ("guests", ".", " (default).")):
        assert f"Export the metrics of the collector {name}{on}" in said
        assert f"Leave out the metrics of the collector {name}{off}" in said

"""What ends by itself: --once, --config.check, --version, and whatever is wrong from the start."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__
from tests.support.exporter_process import Scrape

CHECKOUT = Path(__file__).resolve().parents[2]
UNREACHABLE = "test:///nonexistent/hypervisor.xml"


def run(*flags: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; whatever was written wrong, it never answers with a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "exporter", *map(str, flags)],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """The path of a configuration file, yet to be written."""
    return tmp_path / "config.yaml"


def test_once_prints_one_scrape_and_exits_with_0() -> None:
    """To standard output, complete with the exporter's own metrics; the log goes elsewhere."""
    result = run("--once", "--libvirt.uri", "test:///default")
    assert result.returncode == 0
    scrape = Scrape(text=result.stdout)
    assert scrape.value("hypervisor_up", target="test:///default") == 1
    assert scrape.value("hypervisor_vcpus") == 3  # online, of 16
    assert scrape.value("hypervisor_exporter_build_info", version=__version__) == 1
    assert "hypervisor resource view" in result.stderr


def test_once_exits_with_1_if_one_of_several_did_not_answer() -> None:
    """The numbers of all the others are there all the same."""
    result = run("--once", "--libvirt.uri", "test:///default", "--libvirt.uri", UNREACHABLE)
    assert result.returncode == 1
    scrape = Scrape(text=result.stdout)
    assert scrape.value("hypervisor_up", target="test:///default") == 1
    assert scrape.value("hypervisor_up", target=UNREACHABLE) == 0
    assert scrape.value("hypervisor_refresh_errors_total", target=UNREACHABLE, reason="connect") >= 1
    assert len(scrape.series("hypervisor_vcpus")) == 1


def test_once_refuses_the_second_of_one_host_name(write: Path) -> None:
    """Two ways to one hypervisor: the scrape stays valid, the exit status says that something is wrong."""
    write.write_text("hypervisors: [{name: a, uri: test:///default}, {name: b, uri: test:///default}]")
    result = run("--once", "--config.file", write)
    assert result.returncode == 1
    scrape = Scrape(text=result.stdout)  # which fails on two samples of one series
    assert scrape.value("hypervisor_up", target="a") == 1
    assert scrape.value("hypervisor_up", target="b") == 0
    assert scrape.value("hypervisor_refresh_errors_total", target="b", reason="duplicate") >= 1
    assert len(re.findall("this target is not shown", result.stderr)) == 1


def test_once_leaves_out_what_a_flag_says() -> None:
    result = run("--once", "--libvirt.uri", "test:///default", "--no-collector.cpu")
    scrape = Scrape(text=result.stdout)
    assert "hypervisor_vcpus" not in scrape.names
    assert "hypervisor_memory_mb" in scrape.names


def test_what_only_a_disabled_collector_needs_is_not_asked_of_libvirt() -> None:
    calls = [
        Scrape(text=run("--once", "--libvirt.uri", "test:///default", *flags).stdout).value(
            "hypervisor_refresh_libvirt_calls"
        )
        for flags in ((), ("--no-collector.numa",))
    ]
    assert calls[1] < calls[0], "each NUMA cell's memory and huge pages are a call each"


def test_once_to_a_full_disk_is_one_line_and_fails() -> None:
    """For whoever writes it to a file that something else reads."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "exporter",
                "--once",
                "--libvirt.uri=test:///default",
                "--log.level=error",
            ],
            cwd=CHECKOUT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.stderr == "cannot write to standard output: No space left on device\n"
    assert result.returncode == 1


def test_a_check_of_a_good_file_says_so_and_asks_no_hypervisor(write: Path) -> None:
    """Not even one that would never answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = write.with_name("s")
        listener.bind(str(path))
        listener.listen()
        write.write_text(f"hypervisors: [{{uri: 'qemu:///system?socket={path}'}}]")
        result = run("--config.file", write, "--config.check")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (result.returncode, result.stdout) == (0, f"{write}: no mistakes found\n")


def test_a_check_of_a_bad_file_names_every_mistake(write: Path) -> None:
    """With file, line, key, what was found and what was expected."""
    write.write_text(
        "cache_tll: 5s\nlog: {level: loud}\nhypervisors:\n  - {uri: nonsense, cpu_shared_set: a}\n"
        "  - {uri: test:///default, labels: {flavor: b}}\n"
    )
    cpu_set = "expected a CPU set such as 0-3,^2,8 ('a' is neither a CPU number nor a range of them)"
    label = "expected a label's name such as zone (the exporter's own metrics or Prometheus use that one)"
    result = run("--config.file", write, "--config.check", "--web.telemetry-path", "metrics")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{write}:1: cache_tll: unknown key, did you mean cache_ttl?",
        f"{write}:2: log.level: found 'loud' (text), expected debug, info, warning or error",
        f"{write}:4: hypervisors[0].uri: found 'nonsense' (text), expected a libvirt URI such as qemu:///system",
        f"{write}:4: hypervisors[0].cpu_shared_set: found 'a' (text), {cpu_set}",
        f"{write}:5: hypervisors[1].labels.flavor: found 'flavor' (text), {label}",
        "--web.telemetry-path: found 'metrics' (text), expected a path such as /metrics",
    ]


@pytest.mark.parametrize("flags", [["--once"], []], ids=["once", "serving"])
def test_with_a_mistake_in_its_file_it_does_not_start(write: Path, flags: list[str]) -> None:
    write.write_text("scrape_timeout: 0s\n")
    result = run("--config.file", write, *flags)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{write}:1: scrape_timeout: found")
    assert len(result.stderr.splitlines()) == 1


def test_the_check_of_the_example_finds_nothing() -> None:
    example = CHECKOUT / "config.example.yaml"
    assert run("--config.file", example, "--config.check").returncode == 0


def test_a_file_that_is_not_there_is_one_line(write: Path) -> None:
    result = run("--config.file", write, "--config.check")
    assert (result.returncode, result.stderr) == (1, f"{write}: cannot be read: No such file or directory\n")


def test_an_unknown_flag_is_answered_by_the_nearest() -> None:
    result = run("--config.fil=x")
    assert result.returncode == 2
    assert result.stderr == "hypervisor-exporter: unknown flag --config.fil, did you mean --config.file?\n"


def test_a_port_that_is_taken_is_one_error(write: Path) -> None:
    """Told before any hypervisor is asked: this one would take its time. The way out is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        result = run("--libvirt.uri", "test:///default", "--web.listen-address", address)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if "level=error" in line]
    assert len(errors) == 1
    assert f'msg="cannot listen: {address}: Address already in use. Listen elsewhere:' in errors[0]
    assert "--web.listen-address=:PORT" in errors[0]
    assert "hypervisor resource view" not in result.stderr


@pytest.mark.parametrize("flag", ["--once", "--config.check"])
def test_what_the_configuration_warns_of_is_in_the_log(write: Path, flag: str) -> None:
    """Of a nova.conf here, so that nobody believes it counts. Deprecated keys go the same way."""
    nova_conf = write.with_name("nova.conf")
    nova_conf.write_text("[libvirt]\nimages_type = sparse\nvirt_type = lxc\n")
    write.write_text("defaults: {nova_conf: nova.conf}\nhypervisors: [{uri: 'test:///default'}]\n")
    result = run(flag, "--config.file", write)
    assert result.returncode == 0
    # The host may give libvirt a reason to warn, too.
    warnings = [line for line in result.stderr.splitlines() if "level=warning source=exporter" in line]
    assert [str(nova_conf) in line for line in warnings] == [True, True]
    assert any("[libvirt] images_type = sparse" in line for line in warnings)
    assert any("[libvirt] virt_type = lxc" in line for line in warnings)


def test_the_readme_shows_what_one_then_sees() -> None:
    """Its first example's output is real, but for this machine's name and the checkout's folder."""
    readme = (CHECKOUT / "README.md").read_text()
    example = re.search(
        r"^```console\n\$ curl .*?grep -E '(.*?)'\n(.*?)^```", readme, re.MULTILINE | re.DOTALL
    )
    assert example is not None
    pattern, shown = example.groups()
    seen = run("--once", f"--libvirt.uri=test://{CHECKOUT}/deploy/demo/hypervisor.xml").stdout
    seen = seen.replace(str(CHECKOUT), "/root/hypervisor-exporter")
    matching = [line for line in seen.splitlines() if re.search(pattern, line)]
    assert [re.sub('hostname=".*?"', 'hostname="kvm01"', line) for line in matching] == shown.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give itself a host name of its own")
def test_libvirts_own_warnings_come_through_the_log() -> None:
    """A host name that nothing resolves, as on a fresh machine: libvirt's library warns of it by itself."""
    command = 'hostname nothing-resolves-this && exec "$@"'
    flags = ("--once", "--log.format=json", "--libvirt.uri", "test:///default")
    result = subprocess.run(
        ["unshare", "--uts", "sh", "-c", command, "sh", sys.executable, "-m", "exporter", *flags],
        cwd=CHECKOUT,
        env={**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    (warning,) = (line for line in lines if line["source"] == "libvirt")
    assert warning["level"] == "warning"
    assert warning["msg"].startswith("getaddrinfo failed for 'nothing-resolves-this'")


def without_libvirt(folder: Path, module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command where `import libvirt` finds this module.

    What the dynamic linker says of a missing library is what the real binding raises as well.
    """
    (folder / "libvirt.py").write_text(module)
    return run(*flags, PYTHONPATH=str(folder))


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("raise ModuleNotFoundError(\"No module named 'libvirt'\", name='libvirt')", "libvirt-python, "),
        (
            "import ctypes\ntry: ctypes.CDLL('libvirt.so.99')\nexcept OSError as e: raise ImportError(e)",
            "libvirt0",
        ),
        ("raise ImportError('libvirtmod.so: undefined symbol: virGone')", "virGone"),
    ],
    ids=["binding", "library", "misfit"],
)
def test_a_missing_libvirt_is_one_line_that_names_the_package(
    tmp_path: Path, module: str, package: str
) -> None:
    result = without_libvirt(tmp_path, module, "--once")
    (line,) = result.stderr.splitlines()
    assert "level=error" in line
    assert package in line
    assert result.returncode == 1


def test_what_asks_no_hypervisor_needs_no_libvirt(tmp_path: Path) -> None:
    """Shows that a configuration is checked, say in CI, on a machine without libvirt."""
    for flag in ("--version", "--help", "--config.check"):
        result = without_libvirt(tmp_path, "raise ImportError('libvirt.so.0')", flag)
        assert (result.returncode, result.stderr) == (0, ""), flag


def test_a_folder_is_no_file_for_the_test_driver(tmp_path: Path) -> None:
    (line,) = run("--once", "--libvirt.uri", f"test://{tmp_path}").stderr.splitlines()
    assert f"{tmp_path} cannot be read: Is a directory" in line


def test_a_file_that_the_test_driver_cannot_read_is_one_line() -> None:
    """Shows that libxml2 does not write of it to standard error by itself, and nobody is sent to a daemon."""
    result = run("--once", "--format=table", "--libvirt.uri", UNREACHABLE)
    (line,) = result.stderr.splitlines()
    message = "/nonexistent/hypervisor.xml cannot be read: No such file or directory"
    assert message in line
    assert message in result.stdout
    assert "check the path" in " ".join(result.stdout.split())
    assert "virtqemud" not in result.stdout


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"\xff\xfe\x00 no text", "binary.xml", "Start tag expected"),
        (b"<node>\xff\xfe</node>", "latin.xml", "/latin.xml"),  # libxml2 has other words from 2.14 on
        (b"", "null%00byte.xml", "embedded null byte"),
    ],
)
def test_a_file_that_is_no_text_for_the_test_driver_is_one_line(
    content: bytes, name: str, message: str, tmp_path: Path
) -> None:
    """libvirt quotes the file, and libvirt-python cannot decode that: this is no defect of the exporter."""
    (tmp_path / name).write_bytes(content)
    result = run("--once", "--format=table", "--libvirt.uri", f"test://{tmp_path}/{name}")
    (line,) = result.stderr.splitlines()
    assert "reason=connect" in line
    assert message in line
    assert "check the path" in line


def test_a_label_of_the_chosen_libvirt_names_is_refused_and_no_other(write: Path) -> None:
    """A target label `pool` would make Prometheus rename tinkoff's, and old boards would find nothing."""
    hypervisor = "{uri: 'test:///default', labels: {pool: ssd}}"
    write.write_text(f"libvirt_names: tinkoff\nhypervisors: [{hypervisor}]\n")
    result = run("--config.check", "--config.file", write)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "hypervisors[0].labels.pool: found 'pool' (text)" in line
    write.write_text(f"libvirt_names: inovex\nhypervisors: [{hypervisor}]\n")
    assert run("--config.check", "--config.file", write).returncode == 0


DEMO = f"test://{CHECKOUT}/deploy/demo/hypervisor.xml"


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_guests_of_one_hypervisor_are_printed(form: str) -> None:
    """Only that one is asked: the other one does not answer."""
    result = run(
        "--once", f"--format={form}", "--guests", DEMO, "--libvirt.uri", DEMO, "--libvirt.uri", UNREACHABLE
    )
    assert result.returncode == 0, result.stderr
    if form == "json":
        document = json.loads(result.stdout)
        assert document["count"] == len(document["guests"]) == 7
        assert {each["state"] for each in document["guests"]} == {"running", "paused", "shutoff"}
    else:
        assert "7 guests, 6 active." in result.stdout
        assert len(result.stdout.partition("GUEST")[2].splitlines()) == 1 + 7


def test_guests_of_a_hypervisor_that_is_not_configured_are_one_clear_line() -> None:
    result = run("--once", "--format=table", "--guests=kvm09", "--libvirt.uri", "test:///default")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith("--guests: found 'kvm09', expected one of 'test:///default'")

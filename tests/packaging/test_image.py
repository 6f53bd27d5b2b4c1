"""The container image: built without a container engine, and run in a chroot as its own user."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.packaging.buildah import CHECKOUT, Container, buildah, make_container
from tests.packaging.processes import find_last_descendant
from tests.support.exporter_process import Scrape
from tests.support.libvirtd import LibvirtDaemon
from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until

NAME = "localhost/hypervisor-exporter:trixie"
OLDER = "localhost/hypervisor-exporter:bookworm"
MAX_BYTES = 120_000_000
USER = 65534


@dataclass(frozen=True, kw_only=True)
class Image:
    """What was built.

    :ivar config: its configuration as `docker inspect` names it
    :ivar root: its file system
    """

    config: dict[str, Any]
    root: Path

    @property
    def entrypoint(self) -> list[str]:
        return list(self.config["Entrypoint"])

    def find(self, *patterns: str) -> list[str]:
        """Return the paths of the files whose path or name matches one of these."""
        paths = {path for pattern in patterns for path in self.root.rglob(pattern)}
        return sorted(str(path.relative_to(self.root)) for path in paths)


@pytest.fixture(scope="module")
def image(build_image: Callable[..., None]) -> Iterator[Image]:
    """What `make image` builds when nothing else is said."""
    build_image()
    with make_container(NAME) as untouched:
        yield Image(
            config=json.loads(buildah("inspect", "--type=image", NAME))["Docker"]["config"],
            root=untouched.root,
        )


@pytest.fixture
def container(image: Image) -> Iterator[Container]:
    with make_container(NAME) as container:
        yield container


def test_it_prints_one_scrape_of_the_embedded_hypervisor(image: Image, container: Container) -> None:
    """The image has all that the exporter and libvirt's client need at run time."""
    result = container.run(*image.entrypoint, "--libvirt.uri=test:///default", "--once")
    assert result.returncode == 0, result.stderr
    scrape = Scrape(text=result.stdout, log=result.stderr)
    assert scrape.value("hypervisor_up", target="test:///default") == 1
    assert scrape.value("hypervisor_vcpus") == 3
    assert scrape.value("hypervisor_memory_mb") == 3072
    assert scrape.value("hypervisor_running_vms") == 1


def test_it_may_be_made_of_the_older_debian(build_image: Callable[..., None]) -> None:
    """`make image BASE=bookworm`: the same scrape, by the Python and the libvirt of Debian 12."""
    build_image("--base=bookworm")
    with make_container(OLDER) as container:
        result = container.run("hypervisor-exporter", "--libvirt.uri=test:///default", "--once")
        assert result.returncode == 0, result.stderr
        assert Scrape(text=result.stdout).value("hypervisor_vcpus") == 3
        version = container.run("python3", "-c", "import sys; print(sys.version_info[:2])")
        assert version.stdout == "(3, 11)\n"


def test_it_knows_its_revision(image: Image, container: Container) -> None:
    """What is exported of the build is what the image's labels say."""
    result = container.run(*image.entrypoint, "--libvirt.uri=test:///default", "--once")
    ((build, _),) = Scrape(text=result.stdout).series("hypervisor_exporter_build_info")
    labels = image.config["Labels"]
    assert build["version"] == labels["org.opencontainers.image.version"]
    assert build["revision"] == labels["org.opencontainers.image.revision"] != ""
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_serves_as_its_own_user_and_stops_in_good_order(image: Image, container: Container) -> None:
    """Numbers, health check, user and stop signal of a running container."""
    port = find_free_port()
    health_check = [part.replace("9177", str(port)) for part in image.config["Healthcheck"]["Test"][1:]]
    assert container.run(*health_check).returncode != 0
    arguments = ("--libvirt.uri=test:///default", f"--web.listen-address=127.0.0.1:{port}")
    with _started(container.command(*image.entrypoint, *arguments)) as server:

        def is_healthy() -> bool:
            assert server.poll() is None
            return container.run(*health_check).returncode == 0

        wait_until(is_healthy, "the health check to pass")
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            scrape = Scrape(text=response.read().decode())
        assert scrape.value("hypervisor_vcpus") == 3
        exporter = find_last_descendant(server.pid)
        status = Path(f"/proc/{exporter}/status").read_text()
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status
        assert f"Gid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status
        os.kill(exporter, signal.Signals[image.config["StopSignal"]])
        assert server.wait(timeout=20) == 0


def test_it_reads_a_real_libvirtd_through_the_mounts_that_the_dockerfile_names(
    image: Image, container: Container, libvirtd: LibvirtDaemon
) -> None:
    """The read-only socket and the images suffice, with the image's own arguments."""
    socket_path = libvirtd.uri_read_only.partition("socket=")[2]
    volumes = (
        f"{socket_path}:/run/libvirt/libvirt-sock-ro",
        f"{libvirtd.images}:/var/lib/nova/instances:ro",
    )
    result = container.run(*image.entrypoint, *image.config["Cmd"], "--once", volumes=volumes)
    assert result.returncode == 0, result.stderr
    scrape = Scrape(text=result.stdout, log=result.stderr)
    file_system = os.statvfs(libvirtd.images)
    assert scrape.value("hypervisor_memory_mb") == libvirtd.connection.getInfo()[1]
    assert scrape.value("hypervisor_storage_size_bytes") == file_system.f_frsize * file_system.f_blocks


def test_a_forgotten_mount_of_the_images_is_an_error(
    image: Image, container: Container, libvirtd: LibvirtDaemon
) -> None:
    """The container's own file system is never taken for the hypervisor's."""
    socket_path = libvirtd.uri_read_only.partition("socket=")[2]
    volumes = (f"{socket_path}:/run/libvirt/libvirt-sock-ro",)
    result = container.run(*image.entrypoint, *image.config["Cmd"], "--once", volumes=volumes)
    assert result.returncode == 1
    assert "/var/lib/nova/instances" in result.stderr
    assert "hypervisor_storage_size_bytes{" not in result.stdout


def test_its_user_is_a_number_and_not_root(image: Image) -> None:
    """Kubernetes' runAsNonRoot refuses names, and nothing in the image is its user's to change."""
    assert image.config["User"] == f"{USER}:{USER}"
    owners = {path.lstat().st_uid for path in image.root.rglob("*")}
    assert USER not in owners


def test_it_has_no_tools_beside_the_exporter(image: Image) -> None:
    """No compiler, package tool or shell is left for whoever gets in."""
    programs = {Path(path).name for path in image.find("bin/*", "sbin/*")}
    (python,) = programs - {"hypervisor-exporter", "python", "python3"}
    assert re.fullmatch(r"python3\.\d+", python)
    assert image.find("pip", "ensurepip") == []


def test_it_is_small(image: Image) -> None:
    """A limit on what every hypervisor has to pull and keep."""
    files = [path.lstat() for path in image.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum({status.st_ino: status.st_size for status in files}.values()) < MAX_BYTES


def test_what_it_forgets_is_how_it_was_built(image: Image) -> None:
    """The machine's settings of apt and pip, which may hold passwords, stay on the machine."""
    assert image.find("pip.conf", "sources.list*", "*.sources", "auth.conf*", "*.crt") == []
    assert list((image.root / "run").iterdir()) == []


def test_what_it_is_made_of_is_one_of_two() -> None:
    """Another base is refused by name, before anything is built."""
    built = subprocess.run(
        [CHECKOUT / "scripts/build-image", "--base=sid"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 1
    assert built.stderr == "Cannot build the image: its base may be bookworm or trixie, and not 'sid'\n"


def test_a_build_that_fails_says_why_in_the_tools_own_words(tmp_path: Path) -> None:
    """With a mirror that nobody serves, what debootstrap said of it is shown, then what failed."""
    if os.geteuid() != 0:
        pytest.skip("only root can build the image without a container engine (debootstrap, chroot)")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
    mirror = f"http://127.0.0.1:{find_free_port()}/debian"
    built = subprocess.run(
        [clone / "scripts/build-image"],
        env={**os.environ, "MIRROR": mirror},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 1
    assert re.search(f"^E: .*{re.escape(mirror)}", built.stderr, re.MULTILINE)
    assert built.stderr.splitlines()[-1].startswith("Cannot build the image: debootstrap failed")


def test_pips_settings_are_found_without_pip(tmp_path: Path) -> None:
    """Where packages come from reaches the build; what names files of this machine does not."""
    # Nobody's addresses, and paths that are nowhere: names that end in .invalid never exist (RFC 2606).
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = https://global.invalid/simple\nextra-index-url =\n  https://one.invalid/simple\n"
        "  file:///srv/wheels\nconstraint = /etc/constraints.txt\nretries = 1\n"
        "[install]\nindex_url = https://install.invalid/%40/simple\n"
    )
    written = subprocess.run(
        [sys.executable, "-I", CHECKOUT / "scripts/pip_configuration.py", "/certificates"],
        env={"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(settings), "PIP_RETRIES": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = written.stdout.splitlines()
    assert lines[0] == "[global]"
    assert {
        "index-url = https://install.invalid/%40/simple",
        "extra-index-url = https://one.invalid/simple",
        "retries = 7",
        "cert = /certificates",
    } <= set(lines)
    assert "constraint" not in written.stdout


@pytest.mark.parametrize("name", ["Dockerfile", "scripts/build-deb", "scripts/build-image"])
def test_no_error_is_thrown_away(name: str) -> None:
    """What a tool says of its failure is shown: nothing in these sends its errors to nowhere."""
    assert not re.search("(2|&)> */dev/null|>&? */dev/null +2>&1", (CHECKOUT / name).read_text())


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a container; whatever happens, nothing of it goes on."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(find_last_descendant(process.pid), signal.SIGKILL)
                process.wait(timeout=20)

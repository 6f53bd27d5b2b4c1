"""The targets: each takes any bytes, and lets only a defect of ours be raised.

A refusal is what each of them may answer with: in one line, as the error that its readers handle. Anything
else is a finding, and its input goes into the corpus.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exporter.collectors import COLLECTORS
from exporter.compute.tracker import ResourceTracker
from exporter.config.load import load_config
from exporter.config.nova_conf import read_nova_conf
from exporter.config.settings import Config, Flags, HypervisorConfig, ModuleConfig
from exporter.config.web_file import load_web_file
from exporter.cpu_spec import CpuSpecError, parse_cpu_spec
from exporter.device_spec import DeviceSpecError, parse_device_spec
from exporter.errors import ConfigError, HypervisorError
from exporter.model import Storage
from exporter.own import OwnMetrics
from exporter.recorder import Recorder, Recording
from exporter.reload import Loaded, Reloader
from exporter.virt.capabilities import parse_capabilities
from exporter.virt.guests.disks import ImageReader
from exporter.virt.guests.guest_xml import GuestXmlError, parse_guest
from exporter.virt.node_devices import parse_node_devices
from exporter.virt.storage.back_ends import parse_ceph_usage, parse_volume_group
from exporter.virt.storage.file_system import StorageError
from exporter.web.access import Access, AccessSettings
from exporter.web.connection import ServerLimits
from exporter.web.messages import Request
from exporter.web.probe import ProbeTargets
from exporter.web.routes import Web
from exporter.web.server import Server
from exporter.web.sockets import bind
from tests.support.records import make_disk, make_view

_FOLDER = tempfile.TemporaryDirectory(prefix="hx-fuzz-")
_LOOP = asyncio.new_event_loop()
_ANSWER_SECONDS = 5.0


def domain_xml(content: bytes) -> None:
    """What a guest's owner may have a part in: names and metadata."""
    with _refused(GuestXmlError):
        parse_guest(_text(content))


def capabilities(content: bytes) -> None:
    """What a remote libvirtd may say of its host."""
    with _refused(HypervisorError):
        parse_capabilities(_text(content))


def node_device(content: bytes) -> None:
    """What a remote libvirtd may say of a device."""
    parse_node_devices([_text(content)])


def image(content: bytes) -> None:
    """An image, whose header is a guest's owner's to write."""
    path = _write(content)
    for driver_format in ("qcow2", "raw"):
        size = ImageReader().read(make_disk(path=str(path), driver_format=driver_format))
        assert size is not None


def storage_command(content: bytes) -> None:
    """What vgs or ceph df may print, of which the latter tells names that others gave."""
    text = content.decode(errors="replace")
    with _refused(StorageError):
        _check_storage(parse_volume_group(text, "vms").storage)
    with _refused(StorageError):
        _check_storage(parse_ceph_usage(text, "vms"))


def nova_conf(content: bytes) -> None:
    """An administrator's file, in oslo.config's dialect."""
    with _refused(ConfigError):
        read_nova_conf(_write(content))


def configuration(content: bytes) -> None:
    """An administrator's file, in YAML."""
    with _refused(ConfigError):
        load_config(_write(content), Flags())


def web_configuration(content: bytes) -> None:
    """An administrator's file, in the Prometheus family's form."""
    with _refused(ConfigError):
        load_web_file(_write(content))


def cpu_set(content: bytes) -> None:
    """A CPU set, out of either file or the capabilities."""
    with _refused(CpuSpecError):
        parse_cpu_spec(_text(content))


def device_spec(content: bytes) -> None:
    """Nova's description of the devices that guests may be given."""
    with _refused(DeviceSpecError):
        parse_device_spec(_text(content))


def http(content: bytes) -> None:
    """A connection on which a stranger says anything, and then no more."""
    answers = _LOOP.run_until_complete(_converse(content))
    assert answers == b"" or answers.startswith(b"HTTP/1.1 "), answers[:100]
    assert b"HTTP/1.1 500" not in answers, answers[:100]


def request(content: bytes) -> None:
    """A request's target and headers, as the protocol lets them through: parameters, deadline, formats."""
    target, _, rest = content.decode("latin-1").partition("\n")
    names = ("accept", "accept-encoding", "authorization", "x-prometheus-scrape-timeout-seconds", "host")
    headers = dict(zip(names, rest.split("\n"), strict=False))
    response = _LOOP.run_until_complete(_ask(Request(method="GET", target=target, headers=headers)))
    assert response.status < 500, response


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        domain_xml,
        capabilities,
        node_device,
        image,
        storage_command,
        nova_conf,
        configuration,
        web_configuration,
        cpu_set,
        device_spec,
        http,
        request,
    )
}


@contextlib.contextmanager
def _refused(*errors: type[Exception]) -> Any:
    """Let the target refuse its input, in one line for each mistake."""
    try:
        yield
    except errors as error:
        for mistake in getattr(error, "mistakes", [str(error)]):
            assert mistake, "a refusal says why"
            assert "\n" not in mistake, mistake


def _check_storage(storage: Storage) -> None:
    assert float(storage.size_bytes + storage.used_bytes + storage.free_bytes) is not None


def _text(content: bytes) -> str:
    """Decode as libvirt-python does: what is no UTF-8 comes as lone surrogates."""
    return content.decode("utf-8", "surrogateescape")


def _write(content: bytes) -> Path:
    path = Path(_FOLDER.name, "input")
    path.write_bytes(content)
    return path


class _Host:
    """A hypervisor that a probe reaches."""

    def __init__(self, target: str) -> None:
        self.target = target

    async def get_host_stats(self, *, refresh: bool, deadline: float) -> None:
        """Answer at once."""

    def get_view(self) -> Any:
        """Return a view with numbers."""
        return make_view(target=self.target)

    def recording(self) -> contextlib.AbstractContextManager[Recording]:
        """Record what is done, which is nothing."""
        return Recorder(clock=_LOOP.time).recording()

    def close(self) -> None:
        """Let go of nothing."""


def _make_web() -> Web:
    module = ModuleConfig(
        uri="test://{target}/default",
        target="kvm[0-9]+",
        options=HypervisorConfig(uri="test://host/default"),
    )
    config = Config(hypervisors=(), modules={"default": module})

    def make_host(hypervisor: HypervisorConfig, _config: Config) -> Any:
        return _Host(hypervisor.target)

    own = OwnMetrics()
    loaded = Loaded(config=config, access=AccessSettings())
    return Web(
        config,
        tracker=ResourceTracker(config, make_host),
        probe_targets=ProbeTargets(config, make_host, clock=_LOOP.time),
        collectors=COLLECTORS,
        own=own,
        reload=Reloader(lambda: loaded, lambda _loaded: None, own, wall_clock=_LOOP.time).reload,
        access=Access(None, AccessSettings(), clock=_LOOP.time),
        clock=_LOOP.time,
    )


_WEB: list[Web] = []
_SERVER: list[Path] = []


async def _ask(asked: Request) -> Any:
    if not _WEB:
        _WEB.append(_make_web())
    return await _WEB[0].handle(asked)


async def _converse(content: bytes) -> bytes:
    """Send the bytes over a connection to a real server and return all that it answers."""
    if not _SERVER:
        path = Path(_FOLDER.name, "socket")
        Server(_make_web().handle, limits=ServerLimits()).listen([bind(f"unix:{path}")])
        _SERVER.append(path)
    reader, writer = await asyncio.open_unix_connection(_SERVER[0])
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(content)
            writer.write_eof()
            return await asyncio.wait_for(reader.read(-1), _ANSWER_SECONDS)
        return b""
    finally:
        writer.close()

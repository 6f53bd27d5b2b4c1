"""Node devices: out of libvirt's XML, by Nova's device_spec, kept between scrapes, and their series."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors import devices
from exporter.device_spec import DeviceSpecError, parse_device_spec
from exporter.errors import (
    ConnectError,
    ConnectionLostError,
    DaemonError,
    ExporterError,
    HypervisorError,
)
from exporter.model import MdevType, NodeDevices, PciDevice, Problem, Severity
from exporter.virt.node_devices import parse_node_devices
from exporter.virt.sources.node_devices import (
    CHECK_SECONDS,
    FORGET_SECONDS,
    MAX_AGE_SECONDS,
    MIN_AGE_SECONDS,
    RETRY_SECONDS,
    TIMEOUT_SECONDS,
    NodeDeviceCache,
)
from tests.support.hosts import make_settings
from tests.support.node_devices import GPU, NETWORK_CARD, NETWORK_INTERFACE, VDPA, VIRTUAL_FUNCTION
from tests.support.records import make_pci_device, make_snapshot

CARD = PciDevice(
    address="0000:02:00.0",
    vendor_id="8086",
    product_id="1572",
    dev_type="type-PF",
    parent_address=None,
    has_serial_number=True,
)
FUNCTION = PciDevice(
    address="0000:02:02.0",
    vendor_id="8086",
    product_id="154c",
    dev_type="type-VF",
    parent_address="0000:02:00.0",
    has_serial_number=True,
)
GRAPHICS = PciDevice(
    address="0000:84:00.0",
    vendor_id="10de",
    product_id="13f2",
    dev_type="type-PCI",
    parent_address=None,
    has_serial_number=False,
)


def test_devices_are_read_as_libvirt_documents_them() -> None:
    read = parse_node_devices([GPU, VIRTUAL_FUNCTION, NETWORK_INTERFACE, NETWORK_CARD])
    assert read.pci == (GRAPHICS, FUNCTION, CARD)
    assert read.mdev_types == (
        MdevType(name="nvidia-11", available_instances=16),
        MdevType(name="nvidia-12", available_instances=4),
    )
    assert read.interfaces == {"eth7": "0000:02:00.0"}


def test_a_virtual_function_with_a_vdpa_device_is_of_novas_type_for_that() -> None:
    (function,) = parse_node_devices([VIRTUAL_FUNCTION, VDPA]).pci
    assert function.dev_type == "vdpa"


def test_a_channel_device_of_s390_has_mdev_types_too() -> None:
    css = """<device><name>css_0_0_0023</name><capability type='css'><cssid>0x0</cssid>
      <capability type='mdev_types'><type id='vfio_ccw-io'><deviceAPI>vfio-ccw</deviceAPI>
      <availableInstances>1</availableInstances></type></capability></capability></device>"""
    read = parse_node_devices([css])
    assert read.mdev_types == (MdevType(name="vfio_ccw-io", available_instances=1),)
    assert read.pci == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no JSON: "),
        ("8086", "8086 is no JSON object"),
        ('[{}, "x"]', '"x" is no JSON object'),
        ('{"vendor_id": 8086}', "vendor_id 8086 is no text"),
        ('{"vendor_id": "intel"}', "vendor_id 'intel' is no hexadecimal number"),
        ('{"product_id": "10000"}', "product_id '10000' is above FFFF"),
        ('{"address": 3}', "address 3 is neither text nor an object"),
        ('{"address": "0:0:0:0.0"}', "address '0:0:0:0.0' has too many fields"),
        ('{"address": "0:0:20.0"}', "address slot '20' is above 1F"),
        ('{"address": "0:0:0.8"}', "address function '8' is above 7"),
        (
            '{"address": {"bus": "a{99999999999999999999}"}}',
            "address bus 'a{99999999999999999999}' is no reg",
        ),
        ('{"address": {"bus": "["}}', "address bus '[' is no regular expression"),
        ('{"address": {"bus": 2}}', "address bus 2 is no regular expression"),
        ('{"address": "0:0:0.0", "devname": "eth0"}', "devname and address exclude each other"),
    ],
)
def test_a_device_spec_that_nova_would_refuse_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(DeviceSpecError) as refusal:
        parse_device_spec(text)
    assert str(refusal.value).startswith(problem)


@given(st.text() | st.dictionaries(st.sampled_from(["address", "vendor_id"]), st.text()).map(str))
def test_any_text_is_a_device_spec_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        specs = parse_device_spec(text)
    except DeviceSpecError:
        return
    assert all(spec.matches(CARD, {}) in (True, False) for spec in specs)


@pytest.mark.parametrize(
    ("devname", "matching"),
    [("eth7", [CARD, FUNCTION]), ("eth8", [])],
    ids=["a-card-and-its-functions", "no-such-interface"],
)
def test_an_interface_means_its_device_and_the_functions_of_that(
    devname: str, matching: list[PciDevice]
) -> None:
    """Nova finds the device in /sys; so this, unlike the rest, is not compared with Nova itself."""
    (spec,) = parse_device_spec(f'{{"devname": "{devname}"}}')
    interfaces = {"eth7": "0000:02:00.0"}
    assert [each for each in (CARD, FUNCTION, GRAPHICS) if spec.matches(each, interfaces)] == matching


@dataclass
class Devices:
    """A hypervisor with a network card, one virtual function of it, and a GPU.

    :ivar error: what a call raises
    :ivar once: what the next call alone raises
    """

    asked: list[list[str]] = field(default_factory=list)
    has_changed: bool = False
    error: ExporterError | None = None
    once: ExporterError | None = None
    while_asked: Callable[[], None] | None = None
    is_connected: bool = False
    is_closed: bool = False
    watches: int = 0
    counts: int = 0
    calls: int = 0
    hung_openings: int = 0

    def connect(self) -> bool:
        if self.is_closed:
            raise ConnectionLostError("closed")
        is_new, self.is_connected = not self.is_connected, True
        return is_new

    def disconnect(self) -> None:
        self.is_connected = False

    def forbid_connecting(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        self.is_closed, self.is_connected = True, False

    def watch_node_devices(self) -> None:
        self.watches += 1

    def count_node_devices(self) -> int:
        self.counts += 1
        if not self.is_connected or self.once or self.error:
            raise self.once or self.error or ConnectionLostError("not connected")
        return 5

    def list_node_devices(self, capabilities: Collection[str]) -> tuple[str, ...]:
        self.asked.append(sorted(capabilities))
        if self.while_asked is not None:
            self.while_asked()
        once, self.once = self.once, None
        if error := once or self.error:
            raise error
        xmls = {
            "mdev_types": (GPU,),
            "net": (NETWORK_INTERFACE,),
            "pci": (NETWORK_CARD, VIRTUAL_FUNCTION),
            "vdpa": (),
        }
        return tuple(xml for name in capabilities for xml in xmls[name])

    def pop_node_devices_changed(self) -> bool:
        changed, self.has_changed = self.has_changed, False
        return changed


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Cache:
    """A cache with what is around it."""

    specs: tuple[str, ...] = ('{"product_id": "154c"}',)
    mdev_types: tuple[str, ...] = ()
    hypervisor: Devices = field(default_factory=Devices)
    clock: Clock = field(default_factory=Clock)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = NodeDeviceCache(
            self.hypervisor,
            make_settings(
                **{"device_spec": self.specs, "enabled_mdev_types": self.mdev_types, **self.options}
            ),
            clock=self.clock,
        )

    def read(self) -> NodeDevices:
        assert self.cache.needs_reading()
        self.cache.read()
        known = self.cache.get()
        assert known is not None
        return known


def test_devices_that_a_spec_means_and_all_mdev_types_are_kept() -> None:
    cache = Cache()
    assert cache.cache.get() is None
    known = cache.read()
    assert known.pci_devices == (FUNCTION,)
    assert [each.name for each in known.mdev_types] == ["nvidia-11", "nvidia-12"]
    assert cache.hypervisor.asked == [["mdev_types", "pci", "vdpa"]]


def test_without_a_spec_no_pci_device_is_read_or_counted() -> None:
    cache = Cache(specs=())
    assert cache.read().pci_devices == ()
    assert cache.hypervisor.asked == [["mdev_types"]]


def test_interfaces_are_read_only_for_a_spec_that_names_one() -> None:
    cache = Cache(specs=('{"devname": "eth7"}',))
    assert cache.read().pci_devices == (CARD, FUNCTION)
    assert cache.hypervisor.asked == [["mdev_types", "net", "pci", "vdpa"]]


def test_enabled_mdev_types_leave_the_others_out() -> None:
    known = Cache(mdev_types=("nvidia-12", "nvidia-99")).read()
    assert known.mdev_types == (MdevType(name="nvidia-12", available_instances=4),)


def test_devices_are_read_again_when_they_are_old() -> None:
    cache = Cache()
    cache.read()
    for _ in range(9):
        cache.clock.now += CHECK_SECONDS
        assert cache.cache.needs_reading()
        cache.cache.read()
    assert len(cache.hypervisor.asked) == 1
    cache.clock.now += MAX_AGE_SECONDS - 9 * CHECK_SECONDS
    cache.read()
    assert len(cache.hypervisor.asked) == 2


def test_between_two_readings_one_call_sees_whether_their_daemon_is_still_there() -> None:
    """Shows that one that ended is found before the devices are old, and only then asked for them anew."""
    cache = Cache()
    cache.read()
    cache.clock.now += CHECK_SECONDS - 1
    assert not cache.cache.needs_reading()
    cache.clock.now += 1
    cache.read()
    assert (cache.hypervisor.counts, len(cache.hypervisor.asked), cache.hypervisor.watches) == (1, 1, 1)
    cache.clock.now += CHECK_SECONDS
    cache.hypervisor.error = DaemonError("client socket is closed")
    cache.read()
    assert cache.hypervisor.watches == 2
    (problem,) = cache.cache.get_problems()
    assert problem.reason == "daemon"


def test_an_event_has_them_read_again_soon_but_not_for_each_of_a_swarm() -> None:
    cache = Cache()
    cache.read()
    cache.hypervisor.has_changed = True
    assert not cache.cache.needs_reading()
    cache.clock.now += MIN_AGE_SECONDS
    cache.read()
    cache.clock.now += MIN_AGE_SECONDS
    assert not cache.cache.needs_reading()


def test_a_failure_is_a_problem_and_keeps_what_was_known_until_it_is_over() -> None:
    cache = Cache()
    known = cache.read()
    cache.clock.now += MAX_AGE_SECONDS
    cache.hypervisor.error = HypervisorError("no udev")
    assert cache.read() == known
    assert cache.cache.get_problems() == (
        Problem(
            severity=Severity.ERROR,
            reason="libvirt",
            subject="node devices",
            message="node devices cannot be read: no udev",
        ),
    )
    assert not cache.cache.needs_reading()
    cache.hypervisor.error = None
    cache.cache.read()
    assert cache.cache.get_problems() == ()


@pytest.mark.parametrize("error", [ConnectionLostError("gone"), DaemonError("client socket is closed")])
def test_what_was_lost_since_the_last_reading_is_connected_to_anew(error: HypervisorError) -> None:
    """Shows that a restarted virtnodedevd costs nothing, and that its events are asked for again."""
    cache = Cache()
    known = cache.read()
    cache.clock.now += MAX_AGE_SECONDS
    cache.hypervisor.once = error
    assert cache.read() == known
    assert cache.cache.get_problems() == ()
    assert cache.hypervisor.watches == 2


@pytest.mark.parametrize("error", [ConnectionLostError("gone"), ConnectError("refused")])
def test_a_libvirt_that_is_gone_is_left_to_the_next_refresh(error: HypervisorError) -> None:
    cache = Cache()
    cache.hypervisor.error = error
    with pytest.raises(type(error)):
        cache.cache.read()
    assert cache.cache.get_problems() == ()
    cache.clock.now += RETRY_SECONDS
    assert cache.cache.needs_reading()


def test_a_daemon_that_is_not_there_is_a_problem_until_it_is_and_asked_again_within_seconds() -> None:
    """Shows that each attempt is a new connection: only that one finds the daemon, and hears of changes."""
    cache = Cache()
    cache.hypervisor.error = DaemonError("virtnodedevd cannot be reached")
    for _ in range(2):
        cache.clock.now += RETRY_SECONDS
        assert cache.cache.needs_reading()
        cache.cache.read()
        assert cache.cache.get() is None
        (problem,) = cache.cache.get_problems()
        assert (problem.severity, problem.reason) == (Severity.ERROR, "daemon")
        assert "virtnodedevd" in problem.message
    cache.hypervisor.error = None
    cache.clock.now += RETRY_SECONDS
    assert cache.read().pci_devices == (FUNCTION,)
    assert cache.cache.get_problems() == ()
    assert cache.hypervisor.watches == 3


def test_where_nobody_wants_devices_their_daemon_is_merely_noted() -> None:
    """Shows that no error is counted on a host that does without virtnodedevd on purpose."""
    cache = Cache(specs=())
    cache.hypervisor.error = DaemonError("virtnodedevd cannot be reached")
    cache.cache.read()
    assert [problem.severity for problem in cache.cache.get_problems()] == [Severity.NOTE]


def test_devices_that_cannot_be_read_for_long_are_shown_no_longer() -> None:
    cache = Cache()
    known = cache.read()
    cache.hypervisor.error = DaemonError("virtnodedevd cannot be reached")
    cache.clock.now += FORGET_SECONDS
    cache.cache.read()
    assert cache.cache.get() == known
    cache.clock.now += 1
    assert cache.cache.get() is None


def test_a_daemon_that_hangs_is_told_while_it_does() -> None:
    """Shows that it needs no answer for that, and that one that is merely slow is not reported."""
    cache = Cache()
    told: list[Sequence[Problem]] = []

    def hang() -> None:
        for _ in range(2):
            told.append(cache.cache.get_problems())
            cache.clock.now += TIMEOUT_SECONDS

    cache.hypervisor.while_asked = hang
    cache.read()
    problems, (problem,) = told
    assert problems == ()
    assert problem.reason == "daemon"
    assert "systemctl restart virtnodedevd" in problem.message
    assert cache.cache.get_problems() == ()


def test_after_a_reconnection_nothing_is_known_and_all_is_read() -> None:
    cache = Cache()
    cache.read()
    cache.cache.note_reconnected()
    assert cache.cache.get() is None
    assert cache.cache.needs_reading()


def test_other_devices_are_wanted_from_now_on_even_while_they_are_read() -> None:
    """Shows that what was read for the old settings is not taken for what the new ones mean."""
    cache = Cache(specs=())
    cache.hypervisor.while_asked = lambda: cache.cache.configure(
        make_settings(device_spec=('{"product_id": "154c"}',), enabled_mdev_types=("nvidia-12",))
    )
    cache.cache.read()
    assert cache.cache.get() is None
    cache.hypervisor.while_asked = None
    known = cache.read()
    assert (known.pci_devices, [each.name for each in known.mdev_types]) == ((FUNCTION,), ["nvidia-12"])
    cache.cache.configure(
        make_settings(device_spec=('{"product_id": "154c"}',), enabled_mdev_types=("nvidia-12",))
    )
    assert cache.cache.get() == known, "the same are wanted"


def test_devices_are_counted_by_kind_and_instances_over_all_cards() -> None:
    resources = make_snapshot(
        pci_passthrough_devices=(make_pci_device(), make_pci_device(address="0000:02:02.1"), GRAPHICS),
        mdev_types=(MdevType(name="a", available_instances=2), MdevType(name="a", available_instances=3)),
        held_pci_devices=None,
    )
    samples = [
        (sample.metric.name, *sorted(sample.labels.items())[1:], sample.value)
        for sample in devices.COLLECTOR.collect(resources)
    ]
    assert samples == [
        (
            "hypervisor_pci_devices",
            ("hypervisor_hostname", "kvm01.example"),
            ("product_id", "13f2"),
            ("vendor_id", "10de"),
            1,
        ),
        (
            "hypervisor_pci_devices",
            ("hypervisor_hostname", "kvm01.example"),
            ("product_id", "154c"),
            ("vendor_id", "8086"),
            2,
        ),
        ("hypervisor_unread_devices", 46),
        ("hypervisor_mdev_available_instances", ("mdev_type", "a"), 5),
    ]


@pytest.mark.parametrize("known", [None, ()], ids=["not-read-yet", "none"])
def test_without_devices_there_are_no_series(known: tuple[()] | None) -> None:
    snapshot = make_snapshot(pci_passthrough_devices=known, mdev_types=known, unread_devices=None)
    assert list(devices.COLLECTOR.collect(snapshot)) == []

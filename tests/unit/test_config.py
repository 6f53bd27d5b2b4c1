"""The configuration is merged by rank, and whatever is wrong in it is named at once and exactly."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.config.files import MAX_MIB, read_file
from exporter.config.kinds import (
    ADDRESS,
    MAX_ALLOCATION_RATIO,
    MAX_FLAVOR_NAME_LENGTH,
    format_duration,
    parse_duration,
)
from exporter.config.libvirt_uri import quote
from exporter.config.load import load_config
from exporter.config.settings import (
    DEFAULTS_KEYS,
    HYPERVISOR_KEYS,
    SECTIONS,
    TOP_KEYS,
    WEB_KEYS,
    AnyKey,
    Config,
    Flags,
    HypervisorConfig,
    LogConfig,
    WebConfig,
    list_declarations,
)
from exporter.deprecation import Deprecation
from exporter.errors import ConfigError
from exporter.model import LARGE_PAGES, Flavor

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
MISTAKES = sorted((Path(__file__).parent / "config_mistakes").glob("*.yaml"))
EXPECT = "# expect: "

NOVA_CONF = """
[DEFAULT]
reserved_host_cpus = 2
reserved_host_memory_mb = 4096
cpu_allocation_ratio = 8.0
instances_path = /srv/nova
my_ip = 192.0.2.7
[libvirt]
connection_uri = qemu+unix:///system
images_type = rbd
images_rbd_pool = vms
rbd_user = nova
virt_type = lxc
"""


LXC_CONSEQUENCE = "not supported, without [libvirt] connection_uri, qemu:///system is read"


class Directory:
    """A directory with a configuration file and what it refers to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text)
        return self.path / name

    def load(self, text: str, flags: Flags | None = None) -> Config:
        return load_config(self.write("config.yaml", text), flags or Flags())

    def load_one(self, text: str, flags: Flags | None = None) -> HypervisorConfig:
        (hypervisor,) = self.load(text, flags).hypervisors
        return hypervisor

    def fail(self, text: str | bytes, flags: Flags | None = None) -> list[str]:
        file = self.path / "config.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return fail(file, flags or Flags())


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def _list_labels(names: str | None) -> Collection[str]:
    return ("state",) if names is None else ("state", names)


def fail(file: Path | None, flags: Flags) -> list[str]:
    """Load what is wrong; return the mistakes, with a file's name for its path."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, flags, list_reserved_labels=_list_labels)
    return [mistake.replace(f"{file.parent}/", "") if file else mistake for mistake in caught.value.mistakes]


@pytest.mark.parametrize("file", MISTAKES, ids=lambda file: file.stem)
def test_a_mistake_is_answered_with_exactly_its_message(file: Path) -> None:
    expected = [
        line.removeprefix(EXPECT) for line in file.read_text().splitlines() if line.startswith(EXPECT)
    ]
    assert expected, f"{file.name} says nowhere what is expected"
    assert fail(file, Flags()) == expected


@pytest.mark.parametrize("path", [each.path for each in list_declarations()])
def test_every_key_refuses_a_mapping_and_says_where(directory: Directory, path: str) -> None:
    document: Any = {"x": 1}
    for part in reversed(path.replace("[]", ".[]").split(".")):
        document = [document] if part == "[]" else {part: document}
    mistakes = directory.fail(yaml.safe_dump(document))
    place = path.replace("[]", "[0]")
    if path == "flavors.NAME.resources":  # which is a mapping, of numbers
        document["flavors"]["NAME"]["resources"] = {"VGPU": {"x": 1}}
        mistakes, place = directory.fail(yaml.safe_dump(document)), f"{place}.VGPU"
    if path == "hypervisors[].labels":  # which is a mapping, of texts
        document["hypervisors"][0]["labels"] = {"zone": {"x": 1}}
        mistakes, place = directory.fail(yaml.safe_dump(document)), f"{place}.zone"
    assert [
        m for m in mistakes if re.fullmatch(rf"config\.yaml:\d: {re.escape(place)}: found a mapping, .+", m)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"web:\n  telemetry_path: \xff\nlog: {}\n", "config.yaml:2: found the byte 0xff, expected UTF-8"),
        (b"web: 1\n\x00", "config.yaml:2: not YAML: found the character U+0000"),
        ("web: {}".encode("utf-16"), "config.yaml:1: found the byte 0xff, expected UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_line(
    directory: Directory, content: bytes, message: str
) -> None:
    assert directory.fail(content) == [message]


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    assert fail(tmp_path / "none.yaml", Flags()) == ["none.yaml: cannot be read: No such file or directory"]
    (tmp_path / "directory.yaml").mkdir()
    assert fail(tmp_path / "directory.yaml", Flags()) == ["directory.yaml: cannot be read: Is a directory"]


def test_a_file_without_end_is_refused_before_it_fills_the_memory() -> None:
    assert fail(Path("/dev/zero"), Flags()) == ["zero: cannot be read: it is larger than 16 MiB"]


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"#" * (MAX_MIB * 1024 * 1024))
    assert len(read_file(file)) == MAX_MIB * 1024 * 1024
    file.write_bytes(b"#" * (MAX_MIB * 1024 * 1024 + 1))
    with pytest.raises(OSError, match=r"it is larger than 16 MiB$"):
        read_file(file)


def test_an_expansion_bomb_of_aliases_is_refused_before_it_expands(directory: Directory) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    mistakes = directory.fail("\n".join(lines))
    assert mistakes[0].startswith("config.yaml:1: found an anchor or alias")


def test_mistakes_of_file_flags_and_nova_conf_come_all_at_once(directory: Directory) -> None:
    directory.write("nova.conf", "[DEFAULT]\nreserved_host_cpus = two\n")
    mistakes = directory.fail(
        "cache_ttl: 5\ndefaults: {nova_conf: nova.conf}\n", Flags(log_level="loud", libvirt_uri=("kvm01",))
    )
    assert mistakes == [
        "config.yaml:1: cache_ttl: found 5 (number), expected a duration such as 5s or 1m30s",
        "--libvirt.uri: found 'kvm01' (text), expected a libvirt URI such as qemu:///system",
        "--log.level: found 'loud' (text), expected debug, info, warning or error",
        "nova.conf:2: [DEFAULT] reserved_host_cpus: found 'two', expected a whole number, 0 or more",
    ]


def test_the_error_shows_one_mistake_a_line(directory: Directory) -> None:
    with pytest.raises(ConfigError) as caught:
        directory.load("cache_ttl: 5\nstale_grace: 6\n")
    assert len(str(caught.value).splitlines()) == 2


def test_without_a_file_everything_has_its_default() -> None:
    assert load_config(None, Flags()) == Config()


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "web:\nlog:\ndefaults:\nhypervisors:\n", "hypervisors: []"]
)
def test_an_empty_file_and_empty_sections_are_all_defaults(directory: Directory, text: str) -> None:
    assert directory.load(text) == Config()


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(directory: Directory) -> None:
    assert directory.load("\ufeffcache_ttl: 7s\r\nlog: {level: debug}\r\n").cache_ttl == 7


def test_every_setting_reaches_its_record(directory: Directory) -> None:
    config = directory.load("""
web: {listen_address: ["127.0.0.1:0", "[::1]:9177"], telemetry_path: /hypervisors/metrics}
log: {level: warn, format: json}
cache_ttl: 0
scrape_timeout: 1m30s
stale_grace: 500ms
resync_interval: 1d
hypervisors:
  - uri: qemu+tls://kvm02/system
    name: kvm02
    instances_path: /srv
    storage_pool: [vms, fast]
    storage_id: san01/vms
    vcpu_pin_set: 4
    cpu_shared_set: "0-3"
    cpu_dedicated_set: 4-7,^5
    reserved_host_cpus: 1
    reserved_host_memory_mb: 2
    reserved_host_disk_mb: 3
    cpu_allocation_ratio: 1.5
    ram_allocation_ratio: 2
    disk_allocation_ratio: 0.5
""")
    assert config.web == WebConfig(
        listen_address=("127.0.0.1:0", "[::1]:9177"), telemetry_path="/hypervisors/metrics"
    )
    assert config.log == LogConfig(level="warning", format="json")
    assert (config.cache_ttl, config.scrape_timeout) == (0, 90)
    assert (config.stale_grace, config.resync_interval) == (0.5, 86400)
    assert config.hypervisors == (
        HypervisorConfig(
            uri="qemu+tls://kvm02/system",
            name="kvm02",
            instances_path="/srv",
            storage_pool=("vms", "fast"),
            storage_id="san01/vms",
            vcpu_pin_set="4",
            cpu_shared_set="0-3",
            cpu_dedicated_set="4-7,^5",
            reserved_host_cpus=1,
            reserved_host_memory_mb=2,
            reserved_host_disk_mb=3,
            cpu_allocation_ratio=1.5,
            ram_allocation_ratio=2.0,
            disk_allocation_ratio=0.5,
        ),
    )


@pytest.mark.parametrize("address", [":9177", ":0", "0.0.0.0:9177", "[::]:9177", "kvm01.example:80"])
def test_one_address_need_not_be_a_list(directory: Directory, address: str) -> None:
    assert directory.load(f"web: {{listen_address: '{address}'}}").web.listen_address == (address,)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("0s", 0),
        ("0", 0),
        ("2h", 7200),
        ("1w2d", 777600),
        ("1y", 31536000),
    ],
)
def test_durations_are_prometheus(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(min_value=0, max_value=365 * 86_400_000))
def test_a_duration_that_is_written_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_the_target_is_the_name_or_the_uri_without_password() -> None:
    uri = "qemu+tcp://root:secret@kvm02/system"
    assert HypervisorConfig(uri=uri).target == "qemu+tcp://root@kvm02/system"
    assert HypervisorConfig(uri=uri, name="kvm02").target == "kvm02"


def test_a_hypervisor_knows_whether_it_is_this_machine() -> None:
    local, remote, embedded = (
        HypervisorConfig(uri=uri)
        for uri in ("qemu:///system", "qemu+tcp://127.0.0.1/system", "test:///default")
    )
    assert (local.is_local, remote.is_local, embedded.is_local) == (True, False, False)
    assert (local.is_embedded, remote.is_embedded, embedded.is_embedded) == (False, False, True)


OWN_NAME = socket.gethostname()
TCP = "[libvirt]\nconnection_uri = qemu+tcp://{}/system\n"


@pytest.mark.parametrize(
    ("entry", "is_local"),
    [
        (f"uri: 'qemu+tcp://{OWN_NAME}/system'", True),
        (f"uri: 'qemu+tls://{OWN_NAME.upper()}.:16514/system?no_verify=1'", True),
        (f"uri: 'qemu+ssh://nova@{OWN_NAME}/system'", True),
        (f"uri: 'qemu+tcp://{OWN_NAME}/system', local: false", False),
        # Behind these may be a tunnel, unless there is a nova.conf, which is this machine's.
        ("uri: 'qemu+tcp://localhost/system'", False),
        ("uri: 'qemu+tcp://127.0.0.1:16509/system'", False),
        ("uri: 'qemu+tcp:///system'", False),
        ("uri: 'qemu+tcp://localhost/system', nova_conf: nova.conf", True),
        ("uri: 'qemu+tcp://127.0.0.1:16509/system', nova_conf: [nova.conf]", True),
        ("uri: 'qemu+tls://[::1]/system', nova_conf: nova.conf", True),
        ("uri: 'qemu+tcp:///system', nova_conf: nova.conf", True),
        ("uri: 'qemu+tcp://localhost/system', nova_conf: nova.conf, local: false", False),
        # A nova.conf was copied from there.
        ("uri: 'qemu+tls://kvm02.invalid/system', nova_conf: nova.conf", False),
        ("uri: 'qemu+tls://kvm02.invalid/system', nova_conf: nova.conf, local: true", True),
        ("uri: 'qemu+tls://kvm02.invalid/system', local: null", False),
        ("uri: 'qemu:///system', local: false", False),
        ("uri: 'qemu:///system', nova_conf: nova.conf", True),
        ("uri: 'test:///default', local: true", False),
        ("uri: 'test+tcp://localhost/default', nova_conf: nova.conf", False),
    ],
)
def test_whether_a_hypervisor_is_this_machine_depends_on_its_name_and_its_nova_conf(
    directory: Directory, entry: str, is_local: bool
) -> None:
    """Whether connecting uses the network does not: that is the URI's."""
    directory.write("nova.conf", "")
    hypervisor = directory.load_one(f"hypervisors: [{{{entry}}}]")
    assert hypervisor.is_local is is_local
    assert hypervisor.is_remote is HypervisorConfig(uri=hypervisor.uri).is_remote


@pytest.mark.parametrize("host", [OWN_NAME, "localhost", "127.0.0.1:16509", "[::1]", ""])
def test_a_nova_conf_is_that_of_this_machine_whatever_address_it_gives(
    directory: Directory, host: str
) -> None:
    """As Kolla-Ansible writes it."""
    directory.write("nova.conf", TCP.format(host))
    config = directory.load("defaults: {nova_conf: nova.conf, storage_pool: vms}")
    (hypervisor,) = config.hypervisors
    assert (hypervisor.uri, hypervisor.is_local) == (f"qemu+tcp://{host}/system", True)
    assert (hypervisor.is_remote, config.warnings) == (True, ())


def test_a_nova_conf_with_an_address_that_this_machine_does_not_have_is_believed_and_told_of(
    directory: Directory,
) -> None:
    directory.write("nova.conf", TCP.format("kvm02.invalid"))
    config = directory.load("defaults: {nova_conf: nova.conf}")
    assert config.hypervisors[0].is_local
    (warning,) = config.warnings
    assert warning.startswith(
        "qemu+tcp://kvm02.invalid/system: kvm02.invalid is not known to be this machine"
    )
    config = directory.load("defaults: {nova_conf: nova.conf, local: false}")
    assert (config.hypervisors[0].is_local, config.warnings) == (False, ())


def test_the_path_of_this_machine_counts_before_a_pool_of_lower_rank_whatever_the_uri(
    directory: Directory,
) -> None:
    directory.write("nova.conf", TCP.format(OWN_NAME) + "[DEFAULT]\ninstances_path = /srv\n")
    hypervisor = directory.load_one(
        f"defaults: {{storage_pool: vms}}\n"
        f"hypervisors: [{{uri: 'qemu+tcp://{OWN_NAME}/system', nova_conf: nova.conf}}]"
    )
    assert (hypervisor.instances_path, hypervisor.storage_pool) == ("/srv", ())


def test_of_the_hosts_that_a_module_probes_this_machine_is_one(directory: Directory) -> None:
    module = "modules: {x: {uri: 'qemu+tls://{target}/system', target: '.*'"
    make = directory.load(module + "}}").modules["x"].make_hypervisor
    assert [make(target).is_local for target in (OWN_NAME, "kvm02.invalid", "localhost")] == [
        True,
        False,
        False,
    ]
    make = directory.load(module + ", local: false}}").modules["x"].make_hypervisor
    assert not make(OWN_NAME).is_local


def test_a_hypervisors_own_key_comes_before_defaults(directory: Directory) -> None:
    config = directory.load("""
defaults: {reserved_host_cpus: 1, cpu_allocation_ratio: 2.0}
hypervisors:
  - {uri: "qemu:///system", reserved_host_cpus: 3}
  - {uri: "qemu+tls://kvm02/system"}
""")
    assert [h.reserved_host_cpus for h in config.hypervisors] == [3, 1]
    assert [h.cpu_allocation_ratio for h in config.hypervisors] == [2.0, 2.0]


def test_options_come_from_nova_conf_where_the_file_has_none(directory: Directory) -> None:
    directory.write("nova.conf", NOVA_CONF)
    hypervisor = directory.load_one("defaults: {nova_conf: nova.conf, reserved_host_cpus: 1}")
    assert hypervisor == HypervisorConfig(
        uri="qemu+unix:///system",
        nova_conf=(str(directory.path / "nova.conf"),),
        instances_path="/srv/nova",
        reserved_host_cpus=1,
        reserved_host_memory_mb=4096,
        cpu_allocation_ratio=8.0,
        images_type="rbd",
        images_rbd_pool="vms",
        rbd_user="nova",
        my_ip="192.0.2.7",
        ignored=hypervisor.ignored,
    )


def test_a_hypervisors_nova_conf_comes_between_its_own_keys_and_defaults(directory: Directory) -> None:
    directory.write("nova.conf", NOVA_CONF)
    hypervisor = directory.load_one("""
defaults: {reserved_host_cpus: 7, reserved_host_memory_mb: 7, reserved_host_disk_mb: 7}
hypervisors: [{uri: "qemu:///system", nova_conf: nova.conf, reserved_host_cpus: 1}]
""")
    assert hypervisor.uri == "qemu:///system"
    assert hypervisor.reserved_host_cpus == 1
    assert hypervisor.reserved_host_memory_mb == 4096
    assert hypervisor.reserved_host_disk_mb == 7


def test_a_hypervisors_nova_conf_stands_in_for_the_common_one(directory: Directory) -> None:
    directory.write("common.conf", "[compute]\ncpu_dedicated_set = 2-15\n")
    directory.write("own.conf", "[DEFAULT]\nreserved_host_cpus = 2\n")
    config = directory.load("""
defaults: {nova_conf: common.conf}
hypervisors:
  - {uri: "qemu:///system"}
  - {uri: "qemu+tls://kvm02/system", nova_conf: own.conf}
  - {uri: "qemu+tls://kvm03/system", nova_conf: null}
""")
    assert [h.cpu_dedicated_set for h in config.hypervisors] == ["2-15", None, None]
    assert [h.reserved_host_cpus for h in config.hypervisors] == [0, 2, 0]


def test_a_nova_conf_may_be_several_files_and_folders_and_each_is_read_again(directory: Directory) -> None:
    directory.write("nova.conf", NOVA_CONF)
    (directory.path / "conf.d").mkdir()
    directory.write("conf.d/a.conf", "[DEFAULT]\nreserved_host_cpus = 5\n")
    text = "defaults: {nova_conf: [nova.conf, conf.d, conf.d]}"
    hypervisor = directory.load_one(text)
    assert hypervisor.nova_conf == tuple(
        str(directory.path / name) for name in ("nova.conf", "conf.d", "conf.d")
    )
    assert (hypervisor.reserved_host_cpus, hypervisor.reserved_host_memory_mb) == (5, 4096)
    directory.write("conf.d/b.conf", "[DEFAULT]\nreserved_host_cpus = 6\n")
    assert directory.load_one(text).reserved_host_cpus == 6


def test_an_empty_list_of_nova_confs_is_as_null(directory: Directory) -> None:
    assert directory.load_one("defaults: {nova_conf: []}").nova_conf == ()


def test_a_hypervisor_knows_what_its_nova_conf_says_in_vain_but_not_what_a_key_overrides(
    directory: Directory,
) -> None:
    directory.write("own.conf", "[libvirt]\nimages_type = ploop\nvirt_type = lxc\n")
    config = directory.load("""
defaults: {nova_conf: own.conf}
hypervisors:
  - {uri: "qemu:///system"}
  - {uri: "qemu:///session", images_type: raw}
  - {uri: "qemu:///embed", nova_conf: null}
""")
    ignored = [[each.option for each in hypervisor.ignored] for hypervisor in config.hypervisors]
    assert ignored == [["[libvirt] virt_type", "[libvirt] images_type"], ["[libvirt] virt_type"], []]


def test_null_in_defaults_leaves_an_option_to_nova_conf(directory: Directory) -> None:
    directory.write("nova.conf", NOVA_CONF)
    assert (
        directory.load_one("defaults: {nova_conf: nova.conf, instances_path: null}").instances_path
        == "/srv/nova"
    )


def test_null_in_a_hypervisor_takes_back_what_defaults_say(directory: Directory) -> None:
    hypervisor = directory.load_one("""
defaults: {storage_pool: vms, cpu_shared_set: 0-3}
hypervisors: [{uri: "qemu:///system", storage_pool: null, cpu_shared_set: null}]
""")
    assert (hypervisor.storage_pool, hypervisor.cpu_shared_set) == ((), None)


def test_flags_come_first(directory: Directory) -> None:
    config = directory.load(
        """
web: {listen_address: ":1", telemetry_path: /file}
log: {level: error, format: json}
hypervisors: [{uri: "qemu:///system", instances_path: /file}]
""",
        Flags(
            instances_path="/flag",
            listen_address=(":2", ":3"),
            telemetry_path="/flag",
            log_level="debug",
            log_format="logfmt",
        ),
    )
    assert config.web == WebConfig(listen_address=(":2", ":3"), telemetry_path="/flag")
    assert config.log == LogConfig(level="debug", format="logfmt")
    assert config.hypervisors[0].instances_path == "/flag"


def test_an_empty_flag_is_a_mistake_and_not_an_absent_one() -> None:
    assert fail(None, Flags(instances_path="", listen_address=("",))) == [
        f"--web.listen-address: found '' (text), expected {ADDRESS.expected}",
        "--instances-path: found '' (text), expected a path that begins with /",
    ]


def test_flags_replace_the_hypervisors_and_keep_the_options_of_those_in_the_file(
    directory: Directory,
) -> None:
    config = directory.load(
        """
defaults: {reserved_host_cpus: 1}
hypervisors:
  - {uri: "qemu:///system", name: here, reserved_host_cpus: 2}
  - {uri: "qemu+tls://kvm02/system"}
""",
        Flags(libvirt_uri=("qemu+tls://kvm03/system", "qemu:///system")),
    )
    assert [(h.target, h.reserved_host_cpus) for h in config.hypervisors] == [
        ("qemu+tls://kvm03/system", 1),
        ("here", 2),
    ]


def test_a_uri_given_by_two_flags_is_a_mistake() -> None:
    assert fail(None, Flags(libvirt_uri=("qemu:///system", "qemu:///system"))) == [
        "--libvirt.uri: found 'qemu:///system' (text) twice, expected it once"
    ]


def test_the_collectors_that_flags_switch_off_are_disabled() -> None:
    config = load_config(None, Flags(collectors={"capacity": True, "numa": False}))
    assert config.disabled_collectors == {"numa"}


def test_of_path_and_pool_the_one_of_the_higher_rank_counts_here_and_only_here(directory: Directory) -> None:
    config = directory.load(
        """
defaults: {storage_pool: vms}
hypervisors:
  - {uri: "qemu:///system"}
  - {uri: "qemu:///session", instances_path: /srv}
  - {uri: "qemu:///embed", instances_path: /srv, storage_pool: fast}
  - {uri: "qemu+tls://kvm02/system", instances_path: /srv}
""",
    )
    assert [h.storage_pool for h in config.hypervisors] == [("vms",), (), ("fast",), ("vms",)]


def test_the_flag_for_the_path_replaces_a_pool_of_this_machine(directory: Directory) -> None:
    text = """
hypervisors:
  - {uri: "qemu:///system", storage_pool: vms}
  - {uri: "test:///default", storage_pool: vms}
"""
    config = directory.load(text, Flags(instances_path="/srv"))
    assert [h.storage_pool for h in config.hypervisors] == [(), ("vms",)]


def test_what_nova_conf_says_in_vain_is_a_warning(directory: Directory) -> None:
    path = directory.write("nova.conf", NOVA_CONF)
    assert directory.load("defaults: {nova_conf: nova.conf}").warnings == (
        f"{path}:13: [libvirt] virt_type = lxc: {LXC_CONSEQUENCE}",
    )


def test_a_deprecated_key_works_and_is_a_warning_wherever_it_is_written(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this test are; the flag of such a key is, too."""
    deprecated: list[tuple[dict[str, AnyKey], str]] = [
        (TOP_KEYS, "cache_ttl"),
        (WEB_KEYS, "telemetry_path"),
        (DEFAULTS_KEYS, "storage_pool"),
        (HYPERVISOR_KEYS, "labels"),
    ]
    for keys_of_section, name in deprecated:
        declared = replace(keys_of_section[name], deprecated=Deprecation("1.3", f"new_{name}"))
        monkeypatch.setitem(keys_of_section, name, declared)
    config = directory.load(
        "cache_ttl: 7s\n"
        "defaults: {storage_pool: vms}\n"
        "hypervisors: [{uri: 'qemu:///system', labels: {zone: a}}]\n",
        Flags(telemetry_path="/m"),
    )
    assert (config.cache_ttl, config.web.telemetry_path) == (7, "/m")
    assert config.hypervisors[0].storage_pool == ("vms",)
    assert config.hypervisors[0].labels == (("zone", "a"),)
    file = directory.path / "config.yaml"
    assert config.warnings == (
        f"{file}:1: cache_ttl: Deprecated since 1.3, use new_cache_ttl instead",
        f"{file}:2: defaults.storage_pool: Deprecated since 1.3, use new_storage_pool instead",
        f"{file}:3: hypervisors[0].labels: Deprecated since 1.3, use new_labels instead",
        "--web.telemetry-path: Deprecated since 1.3, use new_telemetry_path instead",
    )
    assert directory.load("stale_grace: 5s\n").warnings == ()


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (
            "vcpu_pin_set: 0-3, cpu_dedicated_set: 4-7",
            "both vcpu_pin_set and cpu_dedicated_set are set",
        ),
        (
            "cpu_shared_set: 0-4, cpu_dedicated_set: 3-7",
            "cpu_shared_set and cpu_dedicated_set both have the CPUs 3-4",
        ),
        (
            "cpu_shared_set: 0-4, reserved_host_cpus: 1",
            "reserved_host_cpus is set beside cpu_shared_set or cpu_dedicated_set",
        ),
        (
            "enabled_mdev_types: [a, b], mdev_types:"
            + str([{"name": name, "device_addresses": ["0000:84:00.0"]} for name in "ab"]),
            "device_addresses of enabled_mdev_types have 0000:84:00.0 2 times",
        ),
        (
            "file_backed_memory: 1024, ram_allocation_ratio: 1.5",
            "file_backed_memory is set with a ram_allocation_ratio of 1.5",
        ),
        ("file_backed_memory: 512", "file_backed_memory 512 is no more than reserved_host_memory_mb 512"),
    ],
)
def test_options_with_which_nova_would_not_start_are_a_warning(
    directory: Directory, options: str, warning: str
) -> None:
    config = directory.load(f"defaults: {{{options}}}")
    assert config.warnings == (f"qemu:///system: {warning}: nova-compute refuses to start with that",)


def test_cpu_sets_with_which_nova_starts_are_none(directory: Directory) -> None:
    config = directory.load("defaults: {vcpu_pin_set: 0-3, cpu_shared_set: 0-1, reserved_host_cpus: 1}")
    assert config.warnings == ()
    assert directory.load("defaults: {cpu_shared_set: 0-3, cpu_dedicated_set: 4-7}").warnings == ()


def test_the_example_says_what_holds_without_it_but_for_the_flavor_and_the_module_it_shows() -> None:
    config = load_config(EXAMPLE, Flags())
    hypervisors = tuple(replace(each, flavors=()) for each in config.hypervisors)
    assert replace(config, hypervisors=hypervisors, modules={}) == Config()


def test_flavors_are_those_of_every_hypervisor_and_of_every_module(directory: Directory) -> None:
    config = directory.load("""
flavors:
  small: {vcpus: 1, memory_mb: 512, disk_gb: 0}
  pinned: {vcpus: 4, memory_mb: 8192, disk_gb: 20, pinned: true}
  paged: {vcpus: 2, memory_mb: 4096, disk_gb: 20, pages: 1GB}
flavors_from_guests: true
hypervisors: [{uri: "qemu:///system"}, {uri: "test:///default"}]
modules: {x: {uri: 'qemu+tls://{target}/system', target: 'k.*'}}
""")
    flavors = (
        Flavor(name="small", vcpus=1, memory_mb=512, disk_gb=0),
        Flavor(name="pinned", vcpus=0, pcpus=4, memory_mb=8192, disk_gb=20, numa_cells=1),
        Flavor(name="paged", vcpus=2, memory_mb=4096, disk_gb=20, numa_cells=1, page_size_kib=2**20),
    )
    for hypervisor in (*config.hypervisors, config.modules["x"].options):
        assert hypervisor.flavors == flavors
        assert hypervisor.flavors_from_guests


@pytest.mark.parametrize(
    ("pages", "kib"),
    [("2048", 2048), ("2MB", 2048), ("'4KB'", 4), ("1GiB", 2**20), ("large", LARGE_PAGES), ("null", None)],
)
def test_pages_are_written_as_for_novas_hw_mem_page_size(
    directory: Directory, pages: str, kib: int | None
) -> None:
    text = f"flavors: {{a: {{vcpus: 1, memory_mb: 1, disk_gb: 0, pages: {pages}}}}}"
    assert directory.load_one(text).flavors[0].page_size_kib == kib


@pytest.mark.parametrize(
    "text",
    [
        f"flavors: {{{'n' * MAX_FLAVOR_NAME_LENGTH}: {{vcpus: 1, memory_mb: 1, disk_gb: 0}}}}",
        f"defaults: {{cpu_allocation_ratio: {MAX_ALLOCATION_RATIO}}}",
        "stale_grace: 1y",
        f"web: {{listen_address: ['unix:/{'p' * 106}']}}",
        "web: {listen_address: ['[::1]:65535']}",
        f"web: {{listen_address: ['{'a' * 63}.example.:9100']}}",
    ],
    ids=["flavor's name", "ratio", "duration", "socket's path", "port", "host name"],
)
def test_the_most_that_a_limit_allows_is_allowed(directory: Directory, text: str) -> None:
    assert directory.load(text) != Config()


def test_a_folder_with_a_colon_in_its_name_hides_no_line(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    (mistake,) = Directory(tmp_path / "a:b").fail("stale_grace: 1m\nstale_grace: 2m\n")
    assert mistake.endswith("config.yaml:2: stale_grace: written twice, first on line 1")


def test_a_text_in_a_message_is_shortened_where_it_is_long() -> None:
    assert quote("a" * 60) == f"'{'a' * 60}'"
    assert quote("a" * 61) == f"'{'a' * 60}…'"


def test_a_module_makes_a_hypervisor_of_a_target_with_its_own_and_the_default_options(
    directory: Directory,
) -> None:
    config = directory.load(
        "defaults: {reserved_host_cpus: 2, storage_pool: a}\n"
        "modules: {x: {uri: 'qemu+tls://{target}/system', target: 'k.*', storage_pool: b}}"
    )
    hypervisor = config.modules["x"].make_hypervisor("kvm01")
    assert (hypervisor.uri, hypervisor.target) == ("qemu+tls://kvm01/system", "kvm01")
    assert (hypervisor.reserved_host_cpus, hypervisor.storage_pool) == (2, ("b",))


def test_the_example_has_every_key() -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    found = {"hypervisors[]." + key for key in document["hypervisors"][0]}
    found |= {"modules.NAME." + key for module in document["modules"].values() for key in module}
    found |= {"flavors.NAME." + key for flavor in document["flavors"].values() for key in flavor}
    found |= {key for key in document if key not in SECTIONS}
    found |= {
        f"{section}.{key}" for section in ("web", "log", "guests", "defaults") for key in document[section]
    }
    assert found == {each.path for each in list_declarations()}


def test_the_example_says_of_each_deprecated_key_what_takes_its_place() -> None:
    deprecated = {each.path: str(each.deprecated) for each in list_declarations() if each.deprecated}
    assert [path for path, text in deprecated.items() if text not in EXAMPLE.read_text()] == []


def test_the_examples_commented_hypervisor_is_valid_too(directory: Directory) -> None:
    text, count = re.subn(r"^  # - \{", "  - {", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert count == 1
    assert [h.target for h in directory.load(text).hypervisors] == ["qemu:///system", "kvm02"]


paths = [each.path for each in list_declarations()]
keys = st.sampled_from(sorted({part for path in paths for part in re.split(r"[.\[\]]+", path)})) | st.text(
    max_size=8
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=12)
    | st.sampled_from(["qemu:///system", "0-3", "5s", ":9177", "/metrics", "vms", "debug"])
)
documents = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(keys, children, max_size=6),
    max_leaves=20,
)


@given(document=documents, nested=st.dictionaries(keys, documents, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_document_is_a_configuration_or_a_list_of_mistakes(
    directory: Directory, document: object, nested: dict[str, object]
) -> None:
    text = yaml.safe_dump({**nested, "defaults": document}, allow_unicode=True)
    assert_config_or_mistakes(directory, text.encode("utf-8", "surrogatepass"))


@given(st.binary() | st.text(alphabet="[]{}:-?&*!|>'\"%@`,# \n\tab01\\Ux").map(str.encode))
@example(b'web: "\\UFFFFFFFF"')
@example(b"%YAML " + b"9" * 5000 + b".1\n---\n")
@example(b"[" * 5000)
@example(b"cache_ttl: " + b"9" * 5000)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_configuration_or_a_list_of_mistakes(directory: Directory, content: bytes) -> None:
    assert_config_or_mistakes(directory, content)


def assert_config_or_mistakes(directory: Directory, content: bytes) -> None:
    file = directory.path / "config.yaml"
    file.write_bytes(content)
    try:
        config = load_config(file, Flags())
    except ConfigError as error:
        mistakes = error.mistakes
    else:
        assert all(hypervisor.target.isprintable() for hypervisor in config.hypervisors)
        return
    assert mistakes
    for mistake in mistakes:
        # A nova.conf that is named by an absolute path is elsewhere.
        assert mistake.startswith(str(directory.path)) or ": cannot be read: " in mistake
        assert "\n" not in mistake
        mistake.encode()

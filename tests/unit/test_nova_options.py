"""docs/nova-options.md says of each option of Nova what the exporter does with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config.load import load_config
from exporter.config.nova_conf import NovaConf, read_nova_conf
from exporter.config.settings import DEFAULTS_KEYS, NOVA_OPTIONS, Flags

PAGE = Path(__file__).parents[2] / "docs" / "nova-options.md"
ROW = re.compile(r"\| `(?P<option>\[\w+\] \w+)` \|(?:[^|]*\|){3} (?P<here>[^|]*) \|")
MDEV = "[devices]\nenabled_mdev_types = nvidia-35\n"

# A value of each option that counts, with what has to be set beside it.
COUNTS: Mapping[str, str | tuple[str, str]] = {
    "[DEFAULT] compute_driver": "libvirt.LibvirtDriver",
    "[DEFAULT] instances_path": "/srv",
    "[DEFAULT] state_path": "/srv",
    "[DEFAULT] my_ip": "192.0.2.7",
    "[DEFAULT] vcpu_pin_set": "0",
    "[DEFAULT] reserved_host_cpus": "1",
    "[DEFAULT] reserved_host_memory_mb": "1",
    "[DEFAULT] reserved_host_disk_mb": "1",
    "[DEFAULT] reserved_huge_pages": "node:0,size:2MB,count:1",
    "[DEFAULT] cpu_allocation_ratio": "2",
    "[DEFAULT] ram_allocation_ratio": "2",
    "[DEFAULT] disk_allocation_ratio": "2",
    "[DEFAULT] initial_cpu_allocation_ratio": "2",
    "[DEFAULT] initial_ram_allocation_ratio": "2",
    "[DEFAULT] initial_disk_allocation_ratio": "2",
    "[compute] cpu_shared_set": "0",
    "[compute] cpu_dedicated_set": "0",
    "[libvirt] connection_uri": "qemu:///session",
    "[libvirt] virt_type": "qemu",
    "[libvirt] images_type": "raw",
    "[libvirt] images_volume_group": "vg",
    "[libvirt] images_rbd_pool": "vms",
    "[libvirt] images_rbd_ceph_conf": "/etc/ceph/other.conf",
    "[libvirt] rbd_user": "nova",
    "[libvirt] file_backed_memory": "1024",
    "[libvirt] cpu_power_management": "True",
    "[devices] enabled_mdev_types": "nvidia-35",
    "[mdev_TYPE] device_addresses": ("0000:84:00.0", MDEV),
    "[mdev_TYPE] mdev_class": ("CUSTOM_X", MDEV),
    "[mdev_TYPE] max_instances": ("2", MDEV),
    "[pci] device_spec": '{"vendor_id": "8086"}',
    "[pci] report_in_placement": "True",
    "[workarounds] reserve_disk_resource_for_image_cache": "True",
    "[image_cache] subdirectory_name": "cache",
}
# These change nothing where they count: the exporter knows no other driver.
UNCHANGED = {"[DEFAULT] compute_driver", "[libvirt] virt_type"}
NAMED = {
    "[DEFAULT] compute_driver": "ironic.IronicDriver",
    "[DEFAULT] config_source": "remote",
    "[libvirt] virt_type": "lxc",
    "[libvirt] images_type": "ploop",
    "[libvirt] num_memory_encrypted_guests": "5",
    "[libvirt] num_intel_tdx_guests": "5",
    "[libvirt] pmem_namespaces": "128G:ns0|ns1,\n  MEDIUM:ns2",
    "[neutron] physnets": "foo, bar",
    "[neutron_tunnel] numa_nodes": "0",
    "[compute] provider_config_location": "{tmp_path}",
}


def read_table() -> dict[str, str]:
    """Return what the exporter does with each option, by the page."""
    return {match["option"]: match["here"] for match in ROW.finditer(PAGE.read_text())}


TABLE = read_table()


def read(directory: Path, option: str, value: str, before: str = "") -> NovaConf:
    group, _, name = option.partition(" ")
    group = group.replace("TYPE", "nvidia-35")
    file = directory / "x.conf"
    file.write_text(f"{before}{group}\n{name} = {value}\n")
    return read_nova_conf(file)


def test_the_table_is_read() -> None:
    assert len(TABLE) == PAGE.read_text().partition("## Options that move no number")[0].count("\n| `[")
    assert set(TABLE) == {*COUNTS, *NAMED}


@pytest.mark.parametrize("option", TABLE)
def test_what_the_page_says_of_an_option_holds(option: str, tmp_path: Path) -> None:
    here = TABLE[option]
    assert ("count" in here, "named" in here) == (option in COUNTS, option in NAMED)
    if option in COUNTS:
        value, before = pair if isinstance(pair := COUNTS[option], tuple) else (pair, "")
        (tmp_path / "before.conf").write_text(before)
        without, conf = read_nova_conf(tmp_path / "before.conf"), read(tmp_path, option, value, before)
        assert conf.ignored == ()
        assert (conf != without) is (option not in UNCHANGED)
    if option in NAMED:
        (tmp_path / "x.yaml").touch()
        conf = read(tmp_path, option, NAMED[option].replace("{tmp_path}", str(tmp_path)))
        assert [each.option for each in conf.ignored] == [option]


def test_every_option_that_is_read_is_in_the_table() -> None:
    """As `[group] name` in Nova, or as our key of another name. Groups of vGPU types have one row each."""
    own_names = {"image_cache_subdirectory_name": "subdirectory_name"}
    read_here = {f"[{key.nova_group}] {own_names.get(name, name)}" for name, key in NOVA_OPTIONS.items()}
    assert read_here <= TABLE.keys()


@pytest.mark.parametrize("name", sorted(DEFAULTS_KEYS.keys() & NOVA_OPTIONS.keys()))
def test_a_key_of_ours_comes_before_the_same_option_of_nova_conf(name: str, tmp_path: Path) -> None:
    """What our own file sets to its default is not taken from nova.conf."""
    option = next(option for option in COUNTS if option.endswith(f" {name.removeprefix('image_cache_')}"))
    value = COUNTS[option]
    assert isinstance(value, str)
    read(tmp_path, option, value)
    config = tmp_path / "config.yaml"
    config.write_text("hypervisors: [{uri: 'qemu:///system', nova_conf: x.conf}]")
    (from_nova,) = load_config(config, Flags()).hypervisors
    default = getattr(type(from_nova)(uri="x:///"), name)
    assert getattr(from_nova, name) != default
    own = "null" if default in (None, ()) else str(default).lower()
    config.write_text(f"hypervisors: [{{uri: 'qemu:///system', nova_conf: x.conf, {name}: {own}}}]")
    (from_key,) = load_config(config, Flags()).hypervisors
    assert getattr(from_key, name) == default

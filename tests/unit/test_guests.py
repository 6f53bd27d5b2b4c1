"""Guests out of domains' XML."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.model import Disk, Guest, Interface, NovaFlavor, NovaInstance
from exporter.virt.guests.guest_xml import GuestXmlError, is_volume_backed, parse_guest
from tests.support.records import make_disk, make_uuid

NOVA_1_0 = "http://openstack.org/xmlns/libvirt/nova/1.0"
NOVA_1_1 = "http://openstack.org/xmlns/libvirt/nova/1.1"

# What virsh dumpxml says of a running guest of Nova's, shortened.
NOVA_GUEST = f"""<domain type='kvm' id='7'>
  <name>instance-0000002a</name>
  <uuid>5c2d4f5e-8c4e-4d0e-9d1a-3f1f0a5b6c7d</uuid>
  <metadata>
    <nova:instance xmlns:nova="{NOVA_1_1}">
      <nova:package version="26.2.2"/>
      <nova:name>database</nova:name>
      <nova:owner><nova:user uuid="0a6f1c3e">alice</nova:user>
        <nova:project uuid="7d1b3f5a">shop</nova:project></nova:owner>
      <nova:flavor name="m1.large">
        <nova:memory>8192</nova:memory>
        <nova:disk>80</nova:disk>
        <nova:swap>512</nova:swap>
        <nova:ephemeral>20</nova:ephemeral>
        <nova:vcpus>4</nova:vcpus>
      </nova:flavor>
      <nova:root type="image" uuid="155d900f-4e14-4e4c-a73d-069cbf4541e6"/>
    </nova:instance>
  </metadata>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>4194304</currentMemory>
  <vcpu placement='static' current='4'>8</vcpu>
  <cputune><shares>4096</shares><vcpupin vcpu='0' cpuset='5'/><vcpupin vcpu='2' cpuset='8-9'/>
    <emulatorpin cpuset='5,8-9'/></cputune>
  <resource><partition>/machine/tenants</partition></resource>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/var/lib/nova/instances/5c2d/disk' index='3'/>
      <backingStore type='file' index='4'>
        <format type='raw'/>
        <source file='/var/lib/nova/instances/_base/9f8e'/>
      </backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source file='/var/lib/nova/mnt/0d3a/volume-fa37e7c0' index='2'/>
      <target dev='vdb' bus='virtio'/>
      <serial>fa37e7c0-7f35-4a4b-8f6e-8f4f8c9b1f10</serial>
      <iotune><total_bytes_sec>104857600</total_bytes_sec><write_bytes_sec>0</write_bytes_sec>
        <read_iops_sec>500</read_iops_sec><group_name>odd</group_name></iotune>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='writeback'/>
      <source protocol='rbd' name='volumes/volume-1f0e'><host name='192.0.2.20' port='6789'/></source>
      <target dev='vdc' bus='virtio'/>
      <serial>1f0e0c0b-0000-4000-8000-000000000001</serial>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/nova/instances/5c2d/disk.config'/>
      <target dev='hda' bus='ide'/>
      <readonly/>
    </disk>
    <interface type='bridge'>
      <mac address='fa:16:3e:0b:5c:d1'/><source bridge='br-int'/><target dev='tap6f0c1d2e-3f'/>
      <virtualport type='openvswitch'>
        <parameters interfaceid='6f0c1d2e-3f4a-4b5c-8d6e-7f8091a2b3c4'/></virtualport>
      <model type='virtio'/><mtu size='1450'/>
    </interface>
    <memballoon model='virtio'/>
  </devices>
</domain>"""


def domain_xml(
    *,
    uuid: str = make_uuid(1),
    name: str = "guest1",
    memory: str = "<memory unit='KiB'>1048576</memory>",
    vcpu: str = "<vcpu>2</vcpu>",
    metadata: str = "",
    disks: str = "",
) -> str:
    """Return a domain with little more than what each has."""
    return f"""<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>{metadata}{memory}{vcpu}
      <devices>{disks}</devices></domain>"""


def disk_xml(source: str, *, type: str = "file", driver: str = "qcow2", more: str = "") -> str:
    return f"""<disk type='{type}' device='disk'><driver name='qemu' type='{driver}'/>{source}
      <target dev='vda' bus='virtio'/>{more}</disk>"""


def written_disk(**changes: Any) -> Disk:
    """Return what `disk_xml` describes."""
    return make_disk(**{"bus": "virtio", "driver_name": "qemu", **changes})


def nova_metadata(namespace: str, tag: str = "instance") -> str:
    return f"<metadata><n:{tag} xmlns:n='{namespace}'/></metadata>"


def test_a_running_guest_of_novas_is_read_whole() -> None:
    root = Disk(
        target="vda",
        source_type="file",
        path="/var/lib/nova/instances/5c2d/disk",
        driver_format="qcow2",
        serial=None,
        device="disk",
        bus="virtio",
        cache="none",
        driver_name="qemu",
    )
    volume_in_file = Disk(
        target="vdb",
        source_type="file",
        path="/var/lib/nova/mnt/0d3a/volume-fa37e7c0",
        driver_format="raw",
        serial="fa37e7c0-7f35-4a4b-8f6e-8f4f8c9b1f10",
        device="disk",
        bus="virtio",
        cache="none",
        driver_name="qemu",
        limits=(("total_bytes_sec", 104857600), ("read_iops_sec", 500)),
    )
    volume_in_ceph = Disk(
        target="vdc",
        source_type="network",
        path=None,
        driver_format="raw",
        serial="1f0e0c0b-0000-4000-8000-000000000001",
        device="disk",
        bus="virtio",
        cache="writeback",
        driver_name="qemu",
        protocol="rbd",
        network_name="volumes/volume-1f0e",
    )
    config_drive = Disk(
        target="hda",
        source_type="file",
        path="/var/lib/nova/instances/5c2d/disk.config",
        driver_format="raw",
        serial=None,
        device="cdrom",
        bus="ide",
        driver_name="qemu",
    )
    assert parse_guest(NOVA_GUEST) == Guest(
        uuid="5c2d4f5e-8c4e-4d0e-9d1a-3f1f0a5b6c7d",
        name="instance-0000002a",
        vcpus=4,
        maximum_vcpus=8,
        memory_kib=4194304,
        maximum_memory_kib=8388608,
        disks=(root, volume_in_file, volume_in_ceph, config_drive),
        images=(root, config_drive),
        has_nova_metadata=True,
        nova_flavor=NovaFlavor(
            name="m1.large", vcpus=4, memory_mb=8192, root_gb=80, ephemeral_gb=20, swap_mb=512, resources={}
        ),
        metadata_error=None,
        is_volume_backed=False,
        numa_cells=(),
        emulator_pins=frozenset({5, 8, 9}),
        vcpu_pins={0: frozenset({5}), 2: frozenset({8, 9})},
        interfaces=(
            Interface(
                target="tap6f0c1d2e-3f",
                type="bridge",
                mac="fa:16:3e:0b:5c:d1",
                bridge="br-int",
                port_id="6f0c1d2e-3f4a-4b5c-8d6e-7f8091a2b3c4",
                model="virtio",
                mtu="1450",
            ),
        ),
        nova_instance=NovaInstance(
            instance_name="database",
            project_id="7d1b3f5a",
            project_name="shop",
            user_id="0a6f1c3e",
            user_name="alice",
            image_id="155d900f-4e14-4e4c-a73d-069cbf4541e6",
        ),
        os_type="hvm",
        arch="x86_64",
        machine="pc-i440fx-7.2",
        partition="/machine/tenants",
    )


@pytest.mark.parametrize(
    ("amount", "unit", "kib"),
    [
        (4096, "b", 4),
        (4096, "bytes", 4),
        (1025, "b", 1),
        (128, "KB", 125),
        (7, "k", 7),
        (7, "KiB", 7),
        (16, "MB", 15625),
        (3, "M", 3 * 2**10),
        (3, "MiB", 3 * 2**10),
        (1, "GB", 976562),
        (3, "G", 3 * 2**20),
        (3, "GiB", 3 * 2**20),
        (1, "TB", 976562500),
        (3, "T", 3 * 2**30),
        (3, "TiB", 3 * 2**30),
    ],
)
def test_memory_is_understood_in_each_of_libvirts_units(amount: int, unit: str, kib: int) -> None:
    xml = domain_xml(memory=f"<memory unit='{unit}'>{amount}</memory>")
    assert parse_guest(xml).memory_kib == kib


def test_memory_without_a_unit_is_in_kib() -> None:
    assert parse_guest(domain_xml(memory="<memory>524288</memory>")).memory_kib == 524288


def test_a_balloon_tells_the_memory_that_a_guest_has_now() -> None:
    memory = "<memory unit='GiB'>8</memory><currentMemory unit='MiB'>512</currentMemory>"
    assert parse_guest(domain_xml(memory=memory)).memory_kib == 512 * 2**10


@pytest.mark.parametrize(
    ("element", "has_balloon"),
    [("", True), ("<memballoon model='virtio'/>", True), ("<memballoon model='none'/>", False)],
)
def test_a_guest_may_be_made_without_a_balloon(element: str, has_balloon: bool) -> None:
    """Without the element, libvirt gives it one."""
    assert parse_guest(domain_xml(disks=element)).has_balloon is has_balloon


def test_without_a_balloons_size_a_guest_has_all_of_its_memory() -> None:
    assert parse_guest(domain_xml(memory="<memory unit='GiB'>8</memory>")).memory_kib == 8 * 2**20


@pytest.mark.parametrize(
    ("vcpu", "vcpus"),
    [
        ("<vcpu>4</vcpu>", 4),
        ("<vcpu current='2'>4</vcpu>", 2),
        ("<vcpu placement='static' cpuset='0-7'> 16 </vcpu>", 16),
    ],
)
def test_vcpus_are_those_plugged_in_now(vcpu: str, vcpus: int) -> None:
    assert parse_guest(domain_xml(vcpu=vcpu)).vcpus == vcpus


@pytest.mark.parametrize(
    ("metadata", "from_nova"),
    [
        (nova_metadata(NOVA_1_0), True),
        (nova_metadata(NOVA_1_1), True),
        (f"<metadata><instance xmlns='{NOVA_1_1}'><name>vm</name></instance></metadata>", True),
        (f"<metadata><a:os xmlns:a='http://a.test/'/><n:instance xmlns:n='{NOVA_1_1}'/></metadata>", True),
        ("", False),
        ("<metadata/>", False),
        ("<metadata><instance/></metadata>", False),
        (nova_metadata("http://openstack.org/xmlns/libvirt/nova/9.9"), False),
        (nova_metadata(NOVA_1_1, tag="flavor"), False),
    ],
)
def test_nova_is_known_by_the_namespace_of_its_metadata(metadata: str, from_nova: bool) -> None:
    assert parse_guest(domain_xml(metadata=metadata)).has_nova_metadata is from_nova


@pytest.mark.parametrize(
    ("xml", "disk"),
    [
        (
            disk_xml("<source file='/i/a' index='1'/>"),
            written_disk(path="/i/a"),
        ),
        (
            disk_xml("<source dev='/dev/vg/lv'/>", type="block", driver="raw"),
            written_disk(source_type="block", path="/dev/vg/lv", driver_format="raw"),
        ),
        (
            disk_xml("<source protocol='rbd' name='vms/a'><host name='h'/></source>", type="network"),
            written_disk(source_type="network", path=None, protocol="rbd", network_name="vms/a"),
        ),
        (
            disk_xml("<source pool='vms' volume='a'/>", type="volume"),
            written_disk(source_type="volume", path=None),
        ),
        (
            disk_xml("<source file='/i/a'/>", more="<serial> fa37 </serial>"),
            written_disk(path="/i/a", serial="fa37"),
        ),
        (disk_xml("<source file='/i/a'/>", more="<serial/>"), written_disk(path="/i/a")),
        (disk_xml(""), written_disk(path=None)),
        (disk_xml("<source file=''/>"), written_disk(path=None)),
        (disk_xml("<source startupPolicy='optional'/>"), written_disk(path=None)),
        (
            "<disk><source file='/i/a'/><target dev='sda'/></disk>",
            make_disk(target="sda", path="/i/a", driver_format=None),
        ),
        (
            "<disk type='file'><driver name='qemu'/><source file='/i/a'/></disk>",
            make_disk(target="", path="/i/a", driver_format=None, driver_name="qemu"),
        ),
    ],
    ids=[
        "file",
        "block",
        "network",
        "volume",
        "serial",
        "empty serial",
        "empty drive",
        "empty path",
        "source without a path",
        "type left out",
        "format and target left out",
    ],
)
def test_a_disk_is_read(xml: str, disk: Disk) -> None:
    assert parse_guest(domain_xml(disks=xml)).disks == (disk,)


@pytest.mark.parametrize(
    ("xml", "bridge"),
    [
        ("<source bridge='br0'/>", "br0"),
        ("<source network='default' portid='x' bridge='virbr0'/>", "virbr0"),
        ("<source network='default'/>", "default"),
        ("<source dev='eth0' mode='bridge'/>", "eth0"),
        ("<source type='unix' path='/run/vhost/vhu1' mode='server'/>", "/run/vhost/vhu1"),
        ("", ""),
    ],
)
def test_what_an_interface_is_plugged_into_is_read(xml: str, bridge: str) -> None:
    domain = domain_xml(disks=f"<interface type='bridge'>{xml}</interface>")
    (interface,) = parse_guest(domain).interfaces
    assert interface.bridge == bridge


@pytest.mark.parametrize("amount", ["", "many", "-1", "0", "1" * 20, "1.5"])
def test_an_odd_limit_of_a_disk_is_none(amount: str) -> None:
    tune = f"<iotune><total_bytes_sec>{amount}</total_bytes_sec><total_iops_sec>7</total_iops_sec></iotune>"
    (disk,) = parse_guest(domain_xml(disks=disk_xml("<source file='/i/a'/>", more=tune))).disks
    assert disk.limits == (("total_iops_sec", 7),)


def test_of_two_limits_of_a_name_one_counts() -> None:
    """Two would be two samples of one series."""
    tune = "<iotune><read_bytes_sec>5</read_bytes_sec><read_bytes_sec>7</read_bytes_sec></iotune>"
    (disk,) = parse_guest(domain_xml(disks=disk_xml("<source file='/i/a'/>", more=tune))).disks
    assert disk.limits == (("read_bytes_sec", 7),)


def test_a_backing_file_is_no_disk_of_its_own() -> None:
    backing = "<backingStore type='file'><format type='qcow2'/><source file='/i/base'/></backingStore>"
    (disk,) = parse_guest(domain_xml(disks=disk_xml("<source file='/i/a'/>", more=backing))).disks
    assert disk.path == "/i/a"


VOLUME = disk_xml("<source file='/mnt/volume-1'/>", driver="raw", more="<serial>fa37</serial>")


@pytest.mark.parametrize(
    ("disks", "metadata", "images"),
    [
        (disk_xml("<source file='/i/a'/>"), nova_metadata(NOVA_1_1), ["/i/a"]),
        (disk_xml("<source file='/i/a'/>"), "", ["/i/a"]),
        (VOLUME, nova_metadata(NOVA_1_0), []),
        (VOLUME, nova_metadata(NOVA_1_1), []),
        (VOLUME, "", ["/mnt/volume-1"]),
        (VOLUME, nova_metadata("http://a.test/"), ["/mnt/volume-1"]),
        (disk_xml("<source dev='/dev/vg/lv'/>", type="block"), "", []),
        (disk_xml("<source protocol='nbd' name='a'/>", type="network"), "", []),
        (disk_xml("<source pool='vms' volume='a'/>", type="volume"), "", []),
        (disk_xml("<source dir='/srv'/>", type="dir"), "", []),
        ("<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>", "", []),
        (
            "<disk type='file' device='cdrom'><source file='/i/a.iso'/><target dev='hdc'/></disk>",
            "",
            ["/i/a.iso"],
        ),
        (
            "<disk type='file' device='floppy'><source file='/i/a.img'/><target dev='fda'/></disk>",
            "",
            ["/i/a.img"],
        ),
    ],
    ids=[
        "file of Nova's",
        "file of somebody else's",
        "Cinder volume, Nova before 23",
        "Cinder volume, Nova since 23",
        "serial without metadata",
        "serial with another program's metadata",
        "block device",
        "network",
        "volume of a pool",
        "directory",
        "empty CD-ROM drive",
        "CD-ROM with a medium",
        "floppy with a medium",
    ],
)
def test_images_are_the_files_of_which_nova_counts_the_over_commit(
    disks: str, metadata: str, images: list[str]
) -> None:
    guest = parse_guest(domain_xml(disks=disks, metadata=metadata))
    assert [disk.path for disk in guest.images] == images


@pytest.mark.parametrize("name", ["büro-01", "数据库", "a&b <c>", "emoji 🐧", "Ω"])
def test_a_name_may_have_any_letters(name: str) -> None:
    assert parse_guest(domain_xml(name=escape(name))).name == name


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (domain_xml(memory=""), "<memory>: no <memory>"),
        (domain_xml(memory="<memory>1</memory><currentMemory/>"), "<memory>: no <currentMemory>"),
        (domain_xml(vcpu=""), "<vcpu>: no <vcpu>"),
        (domain_xml(vcpu="<vcpu>many</vcpu>"), "<vcpu>: 'many' is not a whole number that libvirt writes"),
        (domain_xml(vcpu="<vcpu>-2</vcpu>"), "<vcpu>: '-2' is not a whole number that libvirt writes"),
        (domain_xml(vcpu="<vcpu current=''>1</vcpu>"), "<vcpu>: '' is not a whole number that libvirt"),
        (domain_xml(memory="<memory unit='parsec'>1</memory>"), "<memory>: 'parsec' is not a unit that"),
        (domain_xml(memory="<memory>1.5</memory>"), "<memory>: '1.5' is not a whole number that libvirt"),
        (domain_xml(vcpu="", memory=""), "<vcpu>: no <vcpu>; <memory>: no <memory>"),
        ("", "no element found: line 1, column 0"),
        ("<domain>", "no element found: line 1, column 8"),
        (domain_xml(name="\ud800"), "'utf-8' codec can't encode character"),
    ],
)
def test_xml_that_is_no_domain_is_refused_with_the_reason(xml: str, problem: str) -> None:
    with pytest.raises(GuestXmlError, match=f"^unexpected domain XML: {re.escape(problem)}"):
        parse_guest(xml)


@given(st.text() | st.text(alphabet="<>/&;='\"!?[]domainuc \n\x00"))
@example("<!DOCTYPE a [<!ENTITY b '" + "b" * 1000 + "'>]><domain>" + "&b;" * 1000 + "</domain>")
@example("<domain>" * 20_000)
@example("<?xml version='1.0' encoding='no-such'?><domain/>")
def test_text_that_is_no_domain_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(GuestXmlError):
        parse_guest(text)


@given(
    start=st.integers(0, len(NOVA_GUEST)),
    length=st.integers(0, 200),
    insertion=st.text(max_size=20) | st.sampled_from(["<vcpu/>", "<uuid/>", "'", "]]>", "<!--", "9" * 5000]),
)
def test_damaged_xml_is_read_or_refused_and_nothing_else_happens(
    start: int, length: int, insertion: str
) -> None:
    try:
        guest = parse_guest(NOVA_GUEST[:start] + insertion + NOVA_GUEST[start + length :])
    except GuestXmlError:
        return
    assert set(guest.images) <= set(guest.disks)


# Guests that boot from a volume.


ROOT = make_disk(target="vda")
VOLUME = make_disk(target="vdb", serial="fa37e7c0")
CONFIG_DRIVE = make_disk(target="hda", device="cdrom")
LUN = make_disk(target="sda", source_type="block", path="/dev/sdc", driver_format="raw", device="lun")
NAMED_BY_ALIAS = make_disk(target="vdb", alias="ua-fa37e7c0")


@pytest.mark.parametrize(
    ("disks", "has_image", "volume_backed"),
    [
        ((ROOT,), True, False),
        ((ROOT, VOLUME), True, False),
        ((VOLUME,), False, True),
        ((VOLUME, CONFIG_DRIVE), False, True),
        ((CONFIG_DRIVE, VOLUME), True, True),  # a volume that was made of the image
        ((ROOT, VOLUME), False, True),  # the local disk is an ephemeral one
        ((ROOT,), False, False),  # no volume to boot from
        ((CONFIG_DRIVE,), True, False),
        ((), False, False),
        ((LUN,), False, True),
        ((LUN,), True, True),
        ((ROOT, LUN), False, True),
        ((ROOT, LUN), True, False),
        ((NAMED_BY_ALIAS,), False, True),
        ((NAMED_BY_ALIAS, ROOT), True, True),
    ],
)
def test_a_guest_boots_from_a_volume_if_no_image_is_named_or_its_first_disk_is_one(
    disks: tuple[Disk, ...], has_image: bool, volume_backed: bool
) -> None:
    assert is_volume_backed(disks, has_image=has_image) is volume_backed


@pytest.mark.parametrize(
    ("alias", "read", "images"),
    [("ua-fa37e7c0-7f35-4a4b-8f6e-8f4f8c9b1f10",) * 2 + (0,), ("virtio-disk0", None, 1), ("", None, 1)],
)
def test_a_volume_in_a_file_is_known_by_the_alias_that_nova_gives_it(
    alias: str, read: str | None, images: int
) -> None:
    """Shows that the alias that libvirt gives each disk of a running guest makes none a volume."""
    disk = f"""<disk type='file' device='disk'><alias name='{alias}'/><source file='/volume'/>
      <target dev='vda'/></disk>"""
    guest = parse_guest(domain_xml(disks=disk, metadata=nova_metadata(NOVA_1_1)))
    assert [each.alias for each in guest.disks] == [read]
    assert len(guest.images) == images


def test_a_guest_whose_metadata_are_broken_is_read_all_the_same() -> None:
    metadata = f"""<metadata><n:instance xmlns:n='{NOVA_1_1}'><n:flavor name='m1.large'>
      <n:vcpus>lots</n:vcpus></n:flavor></n:instance></metadata>"""
    guest = parse_guest(domain_xml(metadata=metadata, vcpu="<vcpu current='1'>4</vcpu>"))
    assert (guest.vcpus, guest.maximum_vcpus, guest.has_nova_metadata) == (1, 4, True)
    assert guest.nova_flavor is None
    assert guest.metadata_error == "<nova:vcpus> is 'lots', not a whole number"

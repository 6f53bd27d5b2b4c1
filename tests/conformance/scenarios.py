"""What a hypervisor may be like: each scenario makes a fresh one so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import libvirt

from tests.support.guests import (
    GIB,
    MIB,
    block_disk,
    cdrom,
    file_disk,
    guest_xml,
    make_qcow2,
    make_raw,
    network_disk,
    volume_disk,
    write,
)
from tests.support.libvirtd import LibvirtDaemon

SetUp = Callable[[LibvirtDaemon], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A hypervisor that Nova and the exporter look at.

    :ivar shows: what is special about it, as the test's name
    :ivar options: nova.conf's options, as "group.name" or, in its DEFAULT group, "name"
    :ivar volumes: by domain's name, the devices that Nova's database calls Cinder volumes
    """

    shows: str
    set_up: SetUp
    options: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _nothing(_libvirtd: LibvirtDaemon) -> None:
    pass


# Guests by their state.


def _running(libvirtd: LibvirtDaemon) -> None:
    libvirtd.start_guest(guest_xml("running", vcpus=2, memory_mib=64))


def _paused(libvirtd: LibvirtDaemon) -> None:
    libvirtd.start_guest(guest_xml("paused", vcpus=3)).suspend()


def _never_resumed(libvirtd: LibvirtDaemon) -> None:
    libvirtd.start_guest(guest_xml("paused", vcpus=3), paused=True)


def _shut_off(libvirtd: LibvirtDaemon) -> None:
    image = make_qcow2(libvirtd.images / "disk", 3 * GIB)
    libvirtd.define(guest_xml("shut-off", vcpus=4, disks=[file_disk(image)]))


def _managed_saved(libvirtd: LibvirtDaemon) -> None:
    libvirtd.start_guest(guest_xml("saved", vcpus=2)).managedSave()


def _transient(libvirtd: LibvirtDaemon) -> None:
    image = make_qcow2(libvirtd.images / "disk", 3 * GIB)
    libvirtd.connection.createXML(guest_xml("transient", vcpus=2, disks=[file_disk(image)]))


def _one_in_each_state(libvirtd: LibvirtDaemon) -> None:
    for vcpus, name in enumerate(("running", "paused", "shut-off", "another"), start=1):
        image = make_qcow2(libvirtd.images / name, vcpus * GIB)
        domain = libvirtd.define(guest_xml(name, vcpus=vcpus, disks=[file_disk(image)]))
        if name != "shut-off":
            domain.create()
        if name == "paused":
            domain.suspend()


# vCPUs. QEMU plugs them in without a guest's help. It takes none out again without an operating system in the
# guest that agrees, and these have none.


def _unplugged(libvirtd: LibvirtDaemon) -> None:
    libvirtd.start_guest(guest_xml("unplugged", vcpus=1, max_vcpus=4))


def _hot_plugged(libvirtd: LibvirtDaemon) -> None:
    domain = libvirtd.start_guest(guest_xml("hot-plugged", vcpus=1, max_vcpus=4))
    domain.setVcpusFlags(3, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _plugged_with_a_gap(libvirtd: LibvirtDaemon) -> None:
    domain = libvirtd.start_guest(guest_xml("gap", vcpus=1, max_vcpus=4))
    domain.setVcpu("3", 1, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _planned(libvirtd: LibvirtDaemon) -> None:
    domain = libvirtd.start_guest(guest_xml("planned", vcpus=2, max_vcpus=4))
    domain.setVcpusFlags(4, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _unplugging_refused(libvirtd: LibvirtDaemon) -> None:
    domain = libvirtd.start_guest(guest_xml("stubborn", vcpus=1, max_vcpus=4), paused=True)
    domain.setVcpusFlags(3, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    try:
        domain.setVcpusFlags(1, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError:
        return
    raise AssertionError("QEMU took a vCPU out of a guest that cannot have agreed")


# Images.


def _with_disks(*disks: Callable[[Path], str], start: bool = True) -> SetUp:
    def set_up(libvirtd: LibvirtDaemon) -> None:
        xml = guest_xml("guest", disks=[disk(libvirtd.images) for disk in disks])
        libvirtd.start_guest(xml) if start else libvirtd.define(xml)

    return set_up


def _thin(images: Path) -> str:
    return file_disk(make_qcow2(images / "thin", 20 * GIB))


def _preallocated(preallocation: str) -> Callable[[Path], str]:
    return lambda images: file_disk(
        make_qcow2(images / "preallocated", 100 * MIB, preallocation=preallocation)
    )


def _overlay(images: Path) -> str:
    backing = make_qcow2(images / "backing", 2 * GIB)
    write(backing, 100 * MIB)
    return file_disk(make_qcow2(images / "overlay", 5 * GIB, backing=backing))


def _partly_written(images: Path) -> str:
    image = make_qcow2(images / "written", 3 * GIB)
    write(image, 100 * MIB)
    return file_disk(image)


def _sparse_raw(images: Path) -> str:
    return file_disk(make_raw(images / "sparse", 12 * GIB), format="raw", target="vdb")


def _full_raw(images: Path) -> str:
    return file_disk(make_raw(images / "full", 100 * MIB, preallocation="full"), format="raw", target="vdb")


def _allocated_raw(images: Path) -> str:
    image = make_raw(images / "allocated", 1200 * MIB, preallocation="falloc")
    return file_disk(image, format="raw", target="vdb")


def _qcow2_called_raw(images: Path) -> str:
    image = make_qcow2(images / "disguised", 20 * GIB)
    os.truncate(image, MIB)  # not smaller than what it takes, as there Nova differs on purpose
    return file_disk(image, format="raw")


def _linked(images: Path) -> str:
    link = images / "link"
    link.symlink_to(make_qcow2(images / "target", 4 * GIB))
    return file_disk(link)


def _medium(images: Path) -> str:
    return cdrom(make_raw(images / "medium.iso", 2 * GIB))


def _empty_drive(_images: Path) -> str:
    return cdrom(None)


def _block(_images: Path) -> str:
    return block_disk(Path("/dev/no-such-volume"))


def _network(_images: Path) -> str:
    return network_disk(target="vdc")


def _volume(_images: Path) -> str:
    return volume_disk("pool", "volume", target="vdd")


def _shared_backing(libvirtd: LibvirtDaemon) -> None:
    backing = make_qcow2(libvirtd.images / "backing", 4 * GIB)
    for name in ("one", "another"):
        image = make_qcow2(libvirtd.images / name, 4 * GIB, backing=backing)
        libvirtd.start_guest(guest_xml(name, disks=[file_disk(image)]))


def _snapshot(libvirtd: LibvirtDaemon) -> None:
    image = make_qcow2(libvirtd.images / "base", 6 * GIB)
    domain = libvirtd.start_guest(guest_xml("guest", disks=[file_disk(image)]))
    overlay = f"<disk name='vda'><source file='{libvirtd.images}/overlay'/></disk>"
    domain.snapshotCreateXML(
        f"<domainsnapshot><disks>{overlay}</disks></domainsnapshot>",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
    )


def _attached_while_running(libvirtd: LibvirtDaemon) -> None:
    domain = libvirtd.start_guest(guest_xml("guest"))
    domain.attachDevice(_thin(libvirtd.images))


def _removed(*gone: str) -> SetUp:
    """Return a guest with two disks, and another one; these images of the first are gone."""

    def set_up(libvirtd: LibvirtDaemon) -> None:
        first = make_qcow2(libvirtd.images / "first", 2 * GIB)
        second = make_raw(libvirtd.images / "second", 3 * GIB)
        disks = [file_disk(first), file_disk(second, format="raw", target="vdb")]
        libvirtd.start_guest(guest_xml("loser", disks=disks))
        whole = make_qcow2(libvirtd.images / "whole", 4 * GIB)
        libvirtd.start_guest(guest_xml("winner", disks=[file_disk(whole)]))
        for name in gone:
            (libvirtd.images / name).unlink()

    return set_up


def _cinder_volume(libvirtd: LibvirtDaemon) -> None:
    root = make_qcow2(libvirtd.images / "root", 2 * GIB)
    volume = make_raw(libvirtd.images / "volume", 5 * GIB)  # as on NFS, where a volume is a file
    disks = [
        file_disk(root),
        file_disk(volume, format="raw", target="vdb", serial="0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d"),
    ]
    libvirtd.start_guest(guest_xml("guest", disks=disks, from_nova=True))


# CPU sets, of the CPUs that are online here: any two numbers will do, as long as one of them is not.


def _read_online_cpus() -> list[int]:
    """Return the ends of the ranges in, for example, "0-3,8"."""
    return [int(number) for number in re.findall(r"\d+", Path("/sys/devices/system/cpu/online").read_text())]


ONLINE = str(_read_online_cpus()[0])
OFFLINE = str(_read_online_cpus()[-1] + 1)
ALL_ONLINE = Path("/sys/devices/system/cpu/online").read_text().strip()

SCENARIOS = (
    Scenario(shows="no guests", set_up=_nothing),
    Scenario(shows="a running guest", set_up=_running),
    Scenario(shows="a paused guest", set_up=_paused),
    Scenario(shows="a guest that was started paused", set_up=_never_resumed),
    Scenario(shows="a guest that is shut off", set_up=_shut_off),
    Scenario(shows="a guest whose memory was saved to disk", set_up=_managed_saved),
    Scenario(shows="a guest without a definition", set_up=_transient),
    Scenario(shows="guests of one to four vCPUs in all states", set_up=_one_in_each_state),
    Scenario(shows="one of four vCPUs plugged in", set_up=_unplugged),
    Scenario(shows="vCPUs plugged in while running", set_up=_hot_plugged),
    Scenario(shows="vCPUs plugged in with a gap", set_up=_plugged_with_a_gap),
    Scenario(shows="vCPUs that come with the next start", set_up=_planned),
    Scenario(shows="vCPUs that the guest did not give back", set_up=_unplugging_refused),
    Scenario(shows="a thin qcow2 image", set_up=_with_disks(_thin)),
    Scenario(shows="a qcow2 image with a backing file", set_up=_with_disks(_overlay)),
    Scenario(shows="two qcow2 images with one backing file", set_up=_shared_backing),
    Scenario(shows="a snapshot taken while running", set_up=_snapshot),
    Scenario(shows="a qcow2 image that was written to", set_up=_with_disks(_partly_written)),
    Scenario(
        shows="a qcow2 image with its metadata allocated", set_up=_with_disks(_preallocated("metadata"))
    ),
    Scenario(shows="a qcow2 image with its space allocated", set_up=_with_disks(_preallocated("falloc"))),
    Scenario(shows="a qcow2 image with its space written", set_up=_with_disks(_preallocated("full"))),
    Scenario(shows="a sparse raw image", set_up=_with_disks(_sparse_raw)),
    Scenario(shows="a full raw image", set_up=_with_disks(_full_raw)),
    Scenario(shows="more than a GiB in use", set_up=_with_disks(_allocated_raw)),
    Scenario(shows="a qcow2 image that the domain calls raw", set_up=_with_disks(_qcow2_called_raw)),
    Scenario(shows="an image behind a symbolic link", set_up=_with_disks(_linked)),
    Scenario(shows="two disks", set_up=_with_disks(_thin, _sparse_raw)),
    Scenario(shows="a disk attached while running", set_up=_attached_while_running),
    Scenario(shows="a CD in its drive", set_up=_with_disks(_thin, _medium)),
    Scenario(shows="an empty CD drive", set_up=_with_disks(_thin, _empty_drive)),
    Scenario(shows="a block device", set_up=_with_disks(_block, _sparse_raw, start=False)),
    Scenario(shows="a network disk", set_up=_with_disks(_thin, _network, start=False)),
    Scenario(shows="a pool's volume", set_up=_with_disks(_thin, _volume, start=False)),
    # Nova gives up on a guest at its first image that is gone: its other disks count for nothing then.
    Scenario(shows="the first image of two removed", set_up=_removed("first")),
    Scenario(shows="the second image of two removed", set_up=_removed("second")),
    Scenario(shows="all images of a guest removed", set_up=_removed("first", "second")),
    Scenario(shows="a Cinder volume in a file", set_up=_cinder_volume, volumes={"guest": ("vdb",)}),
    Scenario(shows="vcpu_pin_set", set_up=_running, options={"vcpu_pin_set": ONLINE}),
    Scenario(
        shows="cpu_shared_set",
        set_up=_running,
        options={"compute.cpu_shared_set": f"{ALL_ONLINE}, ,{ONLINE}"},
    ),
    Scenario(shows="cpu_dedicated_set alone", set_up=_running, options={"compute.cpu_dedicated_set": ONLINE}),
    Scenario(
        shows="cpu_shared_set and cpu_dedicated_set",
        set_up=_running,
        options={"compute.cpu_shared_set": ONLINE, "compute.cpu_dedicated_set": ALL_ONLINE},
    ),
    Scenario(
        shows="vcpu_pin_set and cpu_shared_set",
        set_up=_running,
        options={"vcpu_pin_set": ONLINE, "compute.cpu_shared_set": ALL_ONLINE},
    ),
)

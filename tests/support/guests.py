"""Domain XML and disk images, as small as real ones can be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.support.sandbox import run

MIB = 2**20
GIB = 2**30

# What Nova leaves in the XML of each of its guests, as far as the exporter looks at it.
_NOVA_METADATA = (
    "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
    "<nova:name>guest</nova:name></nova:instance>"
)


def guest_xml(
    name: str,
    *,
    domain_type: str = "qemu",
    vcpus: int = 1,
    max_vcpus: int | None = None,
    memory_mib: int = 16,
    disks: Iterable[str] = (),
    interfaces: Iterable[str] = (),
    from_nova: bool = False,
    metadata: str = "",
    cputune: str = "",
    boot: str = "",
    balloon: str = "<memballoon model='none'/>",
) -> str:
    """Return a domain that QEMU emulates. It starts in half a second and boots nothing.

    :param domain_type: "test" for one of libvirt's test driver
    :param max_vcpus: how many may be plugged in at most, if that is more than there are from the start
    :param disks: what the functions below return
    :param interfaces: what `tap_interface` returns
    :param from_nova: whether Nova's metadata says that it is one of Nova's guests
    :param metadata: what else is there: what `nova_metadata` returns
    :param cputune: which CPUs its vCPUs are tied to, as the content of that element
    :param boot: what it boots, beside the machine's type; by itself its first disk
    :param balloon: the device by which it tells of its memory
    """
    return f"""<domain type='{domain_type}'>
      <name>{name}</name>
      <metadata>{_NOVA_METADATA if from_nova else ""}{metadata}</metadata>
      <memory unit='MiB'>{memory_mib}</memory>
      <vcpu current='{vcpus}'>{max_vcpus or vcpus}</vcpu>
      <cputune>{cputune}</cputune>
      <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
      <features><acpi/></features>
      <devices>
        {"".join(disks)}
        {"".join(interfaces)}
        <controller type='usb' model='none'/>
        {balloon}
      </devices>
    </domain>"""


def nova_metadata(
    flavor: str,
    *,
    vcpus: int | str,
    memory: int,
    disk: int,
    ephemeral: int = 0,
    swap: int = 0,
    version: str = "1.1",
    has_image: bool = True,
) -> str:
    """Return what Nova writes of a guest's flavor.

    :param version: of the namespace, which was 1.0 up to Nova 21
    :param has_image: whether it was made of an image, not of a volume
    """
    root = "<nova:root type='image' uuid='155d900f-4e14-4e4c-a73d-069cbf4541e6'/>" if has_image else ""
    return f"""<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/{version}'>
      <nova:name>guest</nova:name>
      <nova:flavor name='{flavor}'>
        <nova:memory>{memory}</nova:memory><nova:disk>{disk}</nova:disk><nova:swap>{swap}</nova:swap>
        <nova:ephemeral>{ephemeral}</nova:ephemeral><nova:vcpus>{vcpus}</nova:vcpus>
      </nova:flavor>{root}</nova:instance>"""


def file_disk(path: Path, *, target: str = "vda", format: str = "qcow2", serial: str | None = None) -> str:
    """Return a disk in a file.

    :param serial: Nova writes one for a Cinder volume, and only then
    """
    more = f"<serial>{serial}</serial>" if serial else ""
    return _disk("file", f"<driver name='qemu' type='{format}'/><source file='{path}'/>{more}", target)


def block_disk(path: Path, *, target: str = "vda", device: str = "disk") -> str:
    """Return a disk on a block device, which only a guest that is started needs to find there."""
    return _disk("block", f"<driver name='qemu' type='raw'/><source dev='{path}'/>", target, device=device)


def network_disk(*, target: str = "vda") -> str:
    """Return a disk in a Ceph cluster, which only a guest that is started needs."""
    host = "<host name='127.0.0.1' port='6789'/>"
    return _disk(
        "network",
        f"<driver name='qemu' type='raw'/><source protocol='rbd' name='vms/disk'>{host}</source>",
        target,
    )


def volume_disk(pool: str, volume: str, *, target: str = "vda") -> str:
    """Return a disk that is a volume of a storage pool."""
    return _disk(
        "volume", f"<driver name='qemu' type='raw'/><source pool='{pool}' volume='{volume}'/>", target
    )


def cdrom(medium: Path | None, *, target: str = "hdc") -> str:
    """Return a CD-ROM drive, with or without a medium in it."""
    source = "" if medium is None else f"<source file='{medium}'/>"
    driver = "<driver name='qemu' type='raw'/>"
    return f"""<disk type='file' device='cdrom'>{driver}{source}
      <target dev='{target}' bus='ide'/><readonly/></disk>"""


def _disk(kind: str, content: str, target: str, *, device: str = "disk") -> str:
    bus = "scsi" if device == "lun" else "virtio"
    return f"<disk type='{kind}' device='{device}'>{content}<target dev='{target}' bus='{bus}'/></disk>"


def tap_interface() -> str:
    """Return a network interface with a tap device of its own, which vanishes with the guest."""
    return "<interface type='ethernet'><model type='virtio'/></interface>"


def make_qcow2(path: Path, size: int, *, backing: Path | None = None, preallocation: str = "off") -> Path:
    """Make a qcow2 image.

    :param backing: the qcow2 image that it is laid over
    :param preallocation: off, metadata, falloc or full
    """
    options = ["-o", f"preallocation={preallocation}"]
    if backing is not None:
        options += ["-b", str(backing), "-F", "qcow2"]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), str(size)])
    return path


def make_raw(path: Path, size: int, *, preallocation: str = "off") -> Path:
    """Make a raw image: sparse, or with its space allocated (falloc), or written (full)."""
    options = ["-o", f"preallocation={preallocation}"]
    run(["qemu-img", "create", "-q", "-f", "raw", *options, str(path), str(size)])
    return path


def write(path: Path, size: int, *, format: str = "qcow2") -> None:
    """Write so many bytes from the beginning of an image's disk, as its guest would."""
    run(["qemu-io", "-f", format, "-c", f"write -q -P 1 0 {size}", str(path)])

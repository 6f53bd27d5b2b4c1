"""What each reason of `hypervisor_refresh_errors_total` means, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """The explanation of a reason.

    :param meaning: what is wrong, used as a heading
    :param action: what to do about it
    :param has_numbers: whether the hypervisor still answers, so that the numbers that it gives are current
    """

    meaning: str
    action: str
    has_numbers: bool = False


# Not a reason of a refresh's problem: of what a nova_conf says in vain.
IGNORED = "nova_conf"

UNKNOWN = Advice(
    meaning="Something went wrong",
    action="The exporter's log says more.",
)

ADVICE: Mapping[str, Advice] = MappingProxyType(
    {
        "connect": Advice(
            meaning="libvirt cannot be reached",
            action="Check that libvirt runs there. As one daemon it is libvirtd (systemctl status "
            "libvirtd; socket /run/libvirt/libvirt-sock-ro). As several daemons it is virtqemud "
            "(systemctl status virtqemud.socket; socket /run/libvirt/virtqemud-sock-ro). Check that "
            "the URI is right, and that the exporter's user may connect: virsh --readonly --connect "
            "URI list.",
        ),
        "connection_lost": Advice(
            meaning="The connection to libvirt broke",
            action="The exporter reconnects by itself. If this stays, check whether libvirt crashes or "
            "restarts all the time (journalctl -u libvirtd -u virtqemud), or whether the network "
            "drops the connection.",
        ),
        "timeout": Advice(
            meaning="libvirt does not answer in time",
            action="Check whether libvirt hangs: virsh --readonly --connect URI list. If you restart "
            "libvirt, the guests keep running. The exporter continues by itself when libvirt "
            "answers.",
        ),
        "libvirt": Advice(
            meaning="libvirt answered with an error",
            action="The message is libvirt's own. libvirt's log on that host says more.",
        ),
        "internal": Advice(
            meaning="A defect of this exporter",
            action="Please report it, with the traceback from the exporter's log.",
        ),
        "duplicate": Advice(
            meaning="Two targets are the same host",
            action="Remove one of the two from the configuration. If they are different machines, give "
            "each its own host name and restart its libvirt. The target with this name in the "
            "configuration (name, or the URI's host) is shown; else the one that had the name "
            "first.",
        ),
        "hostname": Advice(
            meaning="The host name has changed",
            action="The series keep the old name. If the new name is intended, restart the exporter.",
            has_numbers=True,
        ),
        "incomplete": Advice(
            meaning="Some numbers are missing",
            action="Missing numbers are left out below. The other problems of this hypervisor say why they "
            "are missing.",
            has_numbers=True,
        ),
        "capabilities": Advice(
            meaning="A part of the host's capabilities cannot be read",
            action="The message names it. What depends on it has no numbers. Look at it with virsh "
            "--readonly capabilities.",
            has_numbers=True,
        ),
        "cpu_set": Advice(
            meaning="A configured CPU set does not fit the host",
            action="Bring the CPUs online, or correct the option, here and in nova.conf.",
            has_numbers=True,
        ),
        "storage": Advice(
            meaning="The storage for images cannot be measured",
            action="Check that instances_path exists, is mounted, and that the exporter's user may enter "
            "it. Or check that storage_pool names active pools (virsh --readonly pool-list).",
            has_numbers=True,
        ),
        "raw": Advice(
            meaning="Free disk is counted before replication",
            action="Less can be written than is shown. Install ceph-common, let the exporter's user ask the "
            "cluster (ceph df), and set images_type: rbd without storage_pool. Or set images_rbd_replicas to "
            "the pool's size (ceph osd pool get POOL size).",
            has_numbers=True,
        ),
        "daemon": Advice(
            meaning="A part of libvirt cannot be reached",
            action="The message names the daemon: virtstoraged answers for storage pools, virtnodedevd for "
            "devices. Start it there (systemctl enable --now virtstoraged.socket "
            "virtnodedevd.socket). If it hangs, restart it. All other numbers are correct, and "
            "these come back by themselves.",
            has_numbers=True,
        ),
        "denied": Advice(
            meaning="libvirt denies the exporter something",
            action="Allow the exporter's user to read. See access_drivers and unix_sock_ro_perms in "
            "/etc/libvirt/libvirtd.conf, or in the file of the daemon that the message names. If "
            "polkit decides, see its rules.",
        ),
        "device": Advice(
            meaning="A device of the host cannot be read",
            action="It is missing in the numbers of devices; all other devices are correct. Look at it with "
            "virsh --readonly nodedev-dumpxml DEVICE. If libvirt writes there what is no XML, update "
            "libvirt: before 10.1 it does not escape what a card says of itself.",
            has_numbers=True,
        ),
        "domains": Advice(
            meaning="libvirt gives no list of domains",
            action="The last list is used, for as long as stale_grace. Without a last list, only the "
            "numbers of the host itself are shown. libvirt gives no list while it ends the process "
            "of a frozen guest, which may take a minute. Look for a guest that is being destroyed. "
            "The other numbers come back by themselves.",
            has_numbers=True,
        ),
        "guest_timeout": Advice(
            meaning="A guest does not answer",
            action="Its last known numbers are used. The guest is frozen, is being moved, or another "
            "program has asked it something. These commands say more: virsh --readonly domcontrol "
            "GUEST and virsh --readonly domjobinfo GUEST.",
            has_numbers=True,
        ),
        "guest_xml": Advice(
            meaning="A guest's definition cannot be read",
            action="The message names the part. Without vCPUs or memory in the definition, libvirt's "
            "virDomainGetInfo has them; if it does not, the guest counts as one vCPU. Look at it with virsh "
            "--readonly dumpxml GUEST.",
            has_numbers=True,
        ),
        "metadata": Advice(
            meaning="A guest's Nova metadata cannot be read",
            action="Its claim is taken from its libvirt definition instead. Look at it with virsh "
            "--readonly dumpxml GUEST.",
            has_numbers=True,
        ),
        "flavors": Advice(
            meaning="There are more flavors than are shown",
            action="Nothing to do. Or name the flavors that matter under flavors: in the configuration.",
            has_numbers=True,
        ),
        "image": Advice(
            meaning="A disk image cannot be read",
            action="Its guest is left out of the over-commit, as in Nova. Check that the image exists. If "
            "the guest is not needed any more, remove it from libvirt (virsh undefine).",
            has_numbers=True,
        ),
        "cgroups": Advice(
            meaning="Not all that guests use can be read",
            action="Nothing else is missing. docs/guests.md says what each number needs.",
            has_numbers=True,
        ),
        "unsupported": Advice(
            meaning="This libvirt does not support everything",
            action="Nothing to do. Numbers that it does not have are left out.",
            has_numbers=True,
        ),
        IGNORED: Advice(
            meaning="Something of nova-compute's configuration does not count here",
            action="Numbers that depend on it may differ from Nova's. Add a file that was not read to "
            "nova_conf, in the order in which nova-compute reads it. Of an option, the message says what "
            "counts instead, and docs/nova-options.md more.",
            has_numbers=True,
        ),
        "gone": Advice(
            meaning="Something disappeared while it was read",
            action="Nothing to do. The next refresh no longer has it.",
            has_numbers=True,
        ),
    }
)


def get_advice(reason: str) -> Advice:
    """Return the explanation of a reason."""
    return ADVICE.get(reason, UNKNOWN)

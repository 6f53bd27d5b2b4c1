"""What each reason of `hypervisor_refresh_errors_total` means to a person, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """A reason in words.

    :param meaning: what is the matter, to stand as a heading
    :param action: what to do about it
    :param has_numbers: whether the hypervisor answers even where this keeps it from being up, so that what
        it could tell is current
    """

    meaning: str
    action: str
    has_numbers: bool = False


UNKNOWN = Advice(
    meaning="Something went wrong",
    action="The exporter's log says more.",
)

ADVICE: Mapping[str, Advice] = MappingProxyType(
    {
        "connect": Advice(
            meaning="libvirt cannot be reached",
            action="Check that libvirt runs there: as one daemon it is libvirtd (systemctl status libvirtd; "
            "socket /run/libvirt/libvirt-sock-ro), as several it is virtqemud (systemctl status "
            "virtqemud.socket; socket /run/libvirt/virtqemud-sock-ro). Check that the URI is right, and that "
            "the exporter's user may connect: virsh --readonly --connect URI list.",
        ),
        "connection_lost": Advice(
            meaning="The connection to libvirt broke",
            action="The exporter reconnects by itself. If this stays, look whether libvirt crashes or "
            "restarts all the time (journalctl -u libvirtd -u virtqemud), or whether the network drops it.",
        ),
        "timeout": Advice(
            meaning="libvirt does not answer in time",
            action="Look whether libvirt hangs: virsh --readonly --connect URI list. A restart of it leaves "
            "the guests running. The exporter goes on by itself once it answers.",
        ),
        "libvirt": Advice(
            meaning="libvirt answered with an error",
            action="The message is libvirt's own; its log on that host says more.",
        ),
        "internal": Advice(
            meaning="A defect of this exporter",
            action="Please report it, with the traceback that is in the exporter's log.",
        ),
        "duplicate": Advice(
            meaning="Two targets are the same host",
            action="Take one of the two out of the configuration; or, if they are different machines, give "
            "each a host name of its own and restart its libvirt. The one shown is the one that the "
            "configuration calls so (name, or the URI's host), else the one that had the name first.",
        ),
        "hostname": Advice(
            meaning="The host name has changed",
            action="Its series keep the old name. Restart the exporter if the new one is meant to stay.",
            has_numbers=True,
        ),
        "incomplete": Advice(
            meaning="Not every number could be told",
            action="What is missing is left out below; what else is listed for this hypervisor says why.",
            has_numbers=True,
        ),
        "cpu_set": Advice(
            meaning="A configured CPU set does not fit the host",
            action="Bring the CPUs online, or correct the option, here and in nova.conf.",
            has_numbers=True,
        ),
        "storage": Advice(
            meaning="The storage for images cannot be measured",
            action="Check that instances_path exists, is mounted and may be entered by the exporter's user, "
            "or that storage_pool names active pools (virsh --readonly pool-list).",
            has_numbers=True,
        ),
        "daemon": Advice(
            meaning="A part of libvirt cannot be reached",
            action="The message names its daemon: virtstoraged knows storage pools, virtnodedevd devices. "
            "Start it there (systemctl enable --now virtstoraged.socket virtnodedevd.socket); restart one "
            "that hangs. All other numbers are right, and these come back by themselves.",
            has_numbers=True,
        ),
        "denied": Advice(
            meaning="libvirt denies the exporter something",
            action="Allow its user to read: see access_drivers and unix_sock_ro_perms in "
            "/etc/libvirt/libvirtd.conf, or in the file of the daemon that the message names; and the rules "
            "of polkit, if it decides.",
        ),
        "domains": Advice(
            meaning="libvirt gives no list of domains",
            action="The last list counts, for as long as stale_grace says; without one there are only the "
            "numbers of the host itself. libvirt waits while it ends the process of a frozen guest, which "
            "may take a minute: look for a guest that is being destroyed. The rest comes back by itself.",
            has_numbers=True,
        ),
        "guest_timeout": Advice(
            meaning="A guest does not answer",
            action="Its last known numbers count. It is frozen, is being moved, or another program has asked "
            "it something: virsh --readonly domcontrol GUEST and virsh --readonly domjobinfo GUEST say more.",
            has_numbers=True,
        ),
        "guest_xml": Advice(
            meaning="A guest's definition cannot be read",
            action="It counts as one vCPU and no disks. Look at it with virsh --readonly dumpxml GUEST.",
            has_numbers=True,
        ),
        "metadata": Advice(
            meaning="A guest's Nova metadata cannot be read",
            action="Its claim is taken from its libvirt definition instead. Look at it with virsh --readonly "
            "dumpxml GUEST.",
            has_numbers=True,
        ),
        "flavors": Advice(
            meaning="There are more flavors than are shown",
            action="Nothing to do; or name those that matter under flavors: in the configuration.",
            has_numbers=True,
        ),
        "image": Advice(
            meaning="A disk image cannot be read",
            action="Its guest is left out of the over-commit, as Nova does. Check that the image exists; "
            "take a guest that is no longer wanted out of libvirt (virsh undefine).",
            has_numbers=True,
        ),
        "unsupported": Advice(
            meaning="This libvirt cannot tell everything",
            action="Nothing to do: what it cannot tell is left out.",
            has_numbers=True,
        ),
        "gone": Advice(
            meaning="Something vanished while it was read",
            action="Nothing to do: the next refresh finds it gone.",
            has_numbers=True,
        ),
    }
)


def get_advice(reason: str) -> Advice:
    """Return what is known of a reason."""
    return ADVICE.get(reason, UNKNOWN)

"""Storage back ends that are no file system: the commands that Nova asks, `vgs` and `ceph df`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.model import Storage
from exporter.virt.commands import CommandError, Commands
from exporter.virt.libvirt_xml import whole_number
from exporter.virt.storage.file_system import StorageError

COMMAND_TIMEOUT_SECONDS = 30.0

# `vgs` sometimes dies of a signal without a reason (Launchpad bug 1931710). Nova tries again too.
_VGS_ATTEMPTS = 3
_QUOTED_LENGTH = 200

FSID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a command told.

    :ivar owner: the UUID of the volume group, or the fsid of the Ceph cluster; None if it is not known
    :ivar problem: why the owner is not known
    :ivar is_owner_pending: whether the owner is still being asked for
    """

    storage: Storage
    owner: str | None = None
    problem: str | None = None
    is_owner_pending: bool = False


def get_volume_group_info(
    volume_group: str, *, commands: Commands, timeout: float = COMMAND_TIMEOUT_SECONDS
) -> Answer:
    """Return the size and use of an LVM volume group (nova.virt.libvirt.storage.lvm).

    :raises StorageError: if `vgs` is not installed, fails, or does not answer
    """
    columns = ["--separator", "|", "--units", "b", "-o", "vg_size,vg_free,vg_uuid"]
    output = _run(
        commands,
        ["vgs", "--noheadings", "--nosuffix", *columns, volume_group],
        what=f"images_volume_group {volume_group}",
        package="lvm2",
        attempts=_VGS_ATTEMPTS,
        timeout=timeout,
    )
    return parse_volume_group(output, volume_group)


def parse_volume_group(output: str, volume_group: str) -> Answer:
    """Parse what vgs printed: "  3217031168|1958739968|F2dd5G-5G5I-…". The hyphens are left out of the UUID.

    :raises StorageError: if it has another form
    """
    try:
        size_text, free_text, *uuids = output.split("|")
        size, free = whole_number(size_text), whole_number(free_text)
        (uuid,) = uuids or ("",)  # the size counts without it
    except ValueError as error:
        said = output.strip()[:_QUOTED_LENGTH]
        raise StorageError(f"images_volume_group {volume_group}: vgs answered {said!r}") from error
    storage = Storage(size_bytes=size, used_bytes=size - free, free_bytes=free)
    return Answer(storage=storage, owner=uuid.strip().replace("-", "") or None)


def get_ceph_pool_info(
    pool: str,
    *,
    user: str | None,
    ceph_conf: str | None,
    commands: Commands,
    timeout: float = COMMAND_TIMEOUT_SECONDS,
) -> Storage:
    """Return the size of a Ceph cluster, and the use of one pool (nova.storage.rbd_utils, get_pool_info).

    The free space takes the pool's replicas into account, the size does not, as in Nova.

    :raises StorageError: if `ceph` is not installed, fails, does not answer, or does not have the pool
    """
    output = _run(
        commands,
        ["ceph", "df", "--format=json", *_identify(user, ceph_conf)],
        what=f"images_rbd_pool {pool}",
        package="ceph-common",
        attempts=1,
        timeout=timeout,
    )
    return parse_ceph_usage(output, pool)


def get_ceph_fsid(
    pool: str,
    *,
    user: str | None,
    ceph_conf: str | None,
    commands: Commands,
    timeout: float = COMMAND_TIMEOUT_SECONDS,
) -> str:
    """Return the id of the Ceph cluster, which no other cluster has.

    :raises StorageError: if `ceph` is not installed, fails, does not answer, or prints something else
    """
    what = f"images_rbd_pool {pool}"
    command = ["ceph", "fsid", *_identify(user, ceph_conf)]
    output = _run(commands, command, what=what, package="ceph-common", attempts=1, timeout=timeout)
    fsid = output.strip().lower()
    if not FSID.fullmatch(fsid):
        raise StorageError(f"{what}: unexpected answer of ceph fsid: {fsid[:_QUOTED_LENGTH]!r}")
    return fsid


def parse_ceph_usage(output: str, pool: str) -> Storage:
    """Parse what ceph df printed.

    :raises StorageError: if it has another form, or has no such pool
    """
    try:
        usage = json.loads(output)
        size = whole_number(str(usage["stats"]["total_bytes"]))
        # Of other pools only their names count: an odd one is no harm.
        pools = [(each.get("name"), each) for each in usage["pools"] if isinstance(each, dict)]
        found = next((each for name, each in pools if name == pool), None)
        if found is None:
            names = ", ".join(sorted(name for name, _ in pools if isinstance(name, str))) or "none"
            raise StorageError(f"images_rbd_pool {pool}: no such pool (there are: {names})")
        return Storage(
            size_bytes=size,
            used_bytes=whole_number(str(found["stats"]["bytes_used"])),
            free_bytes=whole_number(str(found["stats"]["max_avail"])),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = repr(error)[:_QUOTED_LENGTH]
        raise StorageError(f"images_rbd_pool {pool}: unexpected answer of ceph df: {said}") from error


def _identify(user: str | None, ceph_conf: str | None) -> list[str]:
    return [*(["--id", user] if user else []), *(["--conf", ceph_conf] if ceph_conf else [])]


def _run(
    commands: Commands,
    command: Sequence[str],
    *,
    what: str,
    package: str,
    attempts: int,
    timeout: float,
) -> str:
    """Run a command, without a shell, and return what it printed.

    :param what: the subject of a message
    :param package: the Debian package that has the command
    :param attempts: how often to try if it dies of a signal
    """
    program = command[0]
    try:
        output = commands.run(command, timeout=timeout)
        while output.status < 0 and attempts > 1:
            attempts -= 1
            output = commands.run(command, timeout=timeout)
    except FileNotFoundError as error:
        raise StorageError(f"{what}: {program} (package {package}) is not installed") from error
    except OSError as error:
        raise StorageError(f"{what}: {program} cannot be run: {error.strerror}") from error
    except CommandError as error:
        raise StorageError(f"{what}: {program} {error}") from error
    if output.status:
        # The first line says what is wrong. The other lines are consequences.
        said = output.stderr.strip().partition("\n")[0].strip()[:_QUOTED_LENGTH]
        raise StorageError(f"{what}: {program} failed: {said or f'status {output.status}'}")
    return output.stdout

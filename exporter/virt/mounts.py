"""The mount of a path, from Linux's mountinfo."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_FIRST_OPTIONAL_FIELD = 6
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount as mountinfo has it.

    :ivar number: changes when something new is mounted there; not reused while a read hangs on the mount
    """

    number: str
    point: str


class Mounts:
    """What is mounted where.

    :param mountinfo: lines as proc_pid_mountinfo(5) describes them: a mount's number in the first field, its
        point in the fifth
    """

    def __init__(self, mountinfo: str) -> None:
        lines = (line.split(" ") for line in mountinfo.split("\n"))
        # If several are mounted at one point, the last one hides the others. A line may be cut off.
        self._by_point = {
            mount.point: mount
            for mount in (Mount(fields[0], _unescape(fields[4])) for fields in lines if len(fields) > 4)
        }

    def __contains__(self, mount: Mount) -> bool:
        return self._by_point.get(mount.point) == mount

    def find(self, path: str) -> Mount:
        """Return the mount of a path, by its text alone: to resolve a link may hang too."""
        folder = path
        while folder:
            mount = self._by_point.get(folder)
            if mount is not None:
                return mount
            folder = folder.rpartition("/")[0]
        return self._by_point.get("/", Mount(number="", point="/"))


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSystem:
    """A mounted file system, as a line of mountinfo describes it."""

    number: str  # of the mount
    device: str  # "8:1"; "0:45" for one without a block device
    point: str
    type: str  # "ext4", "nfs4", "fuse.sshfs"
    source: str  # "/dev/sda1", "nfs01:/export"
    options: Mapping[str, str]  # of the file system, not of the mount: {"rw": "", "addr": "192.0.2.5"}
    root: str = "/"  # the folder of the file system that is mounted
    # How mounts below it are passed on: ("shared:5", "master:2"). Nothing of the file system itself.
    tags: tuple[str, ...] = field(default=(), compare=False)


def find_file_system(mountinfo: str, number: str) -> FileSystem | None:
    """Return the file system of a mount; None if there is no mount of this number.

    :param mountinfo: lines as proc_pid_mountinfo(5) describes them
    """
    for line in mountinfo.split("\n"):
        if line.partition(" ")[0] == number:
            return _parse_line(line)
    return None


def list_file_systems(mountinfo: str) -> Iterator[FileSystem]:
    """Yield all file systems that are mounted, in the order in which they were.

    :param mountinfo: lines as proc_pid_mountinfo(5) describes them
    """
    for line in mountinfo.split("\n"):
        found = _parse_line(line)
        if found is not None:
            yield found


def find_file_system_at(mountinfo: str, path: str) -> FileSystem | None:
    """Return the file system on which a path lies, by its text; None if there is none.

    What is mounted below a folder is hidden by a later mount on that folder, though mountinfo still has it.

    :param path: without links
    """
    above: list[tuple[str, str, str]] = []  # the mount's parent, its point, its line
    for line in mountinfo.split("\n"):
        fields = line.split(" ", _FIRST_OPTIONAL_FIELD)
        if len(fields) > _FIRST_OPTIONAL_FIELD and _is_below(path, point := _unescape(fields[4])):
            above.append((fields[1], point, line))
    if not above:
        return None
    # Of several at one point, the last one hides the others.
    index = max(range(len(above)), key=lambda each: (len(above[each][1]), each))
    parent, found, line = above[index]
    for later_parent, point, later in above[index + 1 :]:
        if later_parent == parent and len(point) < len(found):
            line = later
    return _parse_line(line)


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _parse_line(line: str) -> FileSystem | None:
    """Parse a line: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"."""
    fields = line.split(" ")
    try:
        # Any number of optional fields comes before the "-".
        end = fields.index("-", _FIRST_OPTIONAL_FIELD)
        type_, source, options = fields[end + 1 : end + 4]
    except ValueError:
        return None
    pairs = (option.partition("=") for option in options.split(","))
    return FileSystem(
        number=fields[0],
        device=fields[2],
        tags=tuple(fields[_FIRST_OPTIONAL_FIELD:end]),
        root=_unescape(fields[3]),
        point=_unescape(fields[4]),
        type=type_,
        source=_unescape(source),
        options={name: _unescape(value) for name, _, value in pairs},
    )


def _unescape(field: str) -> str:
    """Decode mountinfo's escapes of blank, tab, line feed, backslash and number sign, as octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)

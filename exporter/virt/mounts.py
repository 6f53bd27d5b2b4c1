"""The mount of a path, from Linux's mountinfo."""

from __future__ import annotations

from dataclasses import dataclass


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
        lines = (line.split() for line in mountinfo.splitlines())
        # If several are mounted at one point, the last one hides the others.
        self._by_point = {
            mount.point: mount for mount in (Mount(fields[0], _unescape(fields[4])) for fields in lines)
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


def _unescape(field: str) -> str:
    """Decode mountinfo's escapes of blank, tab, line feed and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field

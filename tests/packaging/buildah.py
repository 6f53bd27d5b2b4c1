"""Containers without a container engine: buildah makes them, and commands run in a chroot of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BASES = {
    "bookworm": "docker.io/library/debian:12-slim",
    "trixie": "docker.io/library/debian:13-slim",
}


# Not `buildah run`: with chroot isolation it may end before it has passed on what the command printed, which
# is then lost (runUsingChrootMain in buildah's chroot/run_common.go). These mounts end with the command.
_ENTER = """
set -e
root=$1 user=$2 variables=$3
shift 3
mkdir -p "$root/dev" "$root/proc"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    source=${1%%:*} target=${1#*:}
    options=${target#*:} target=$root${target%%:*}
    mkdir -p "${target%/*}"
    if [ -d "$source" ]; then mkdir -p "$target"; elif [ ! -e "$target" ]; then : >"$target"; fi
    mount --bind "$source" "$target"
    if [ "$options" = ro ]; then mount -o remount,bind,ro "$target"; fi
    shift
done
shift
cp --dereference /etc/resolv.conf "$root/etc/"
chroot=$(command -v chroot) env=$(command -v env)
exec "$env" -i $variables "$chroot" --userspec="$user" "$root" "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container, which commands run in.

    :ivar root: its file system
    :ivar user: as whom its commands run, as numbers ("65534:65534")
    :ivar variables: their environment ("PATH=/usr/bin")
    """

    name: str
    root: Path
    user: str
    variables: Sequence[str]

    def command(self, *arguments: str, volumes: Sequence[str] = ()) -> list[str]:
        """Return the command that runs these in it.

        :param volumes: what of this machine they see, and where: "/source:/target" or "/source:/target:ro"
        """
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, "sh"]
        return [*enter, str(self.root), self.user, " ".join(self.variables), *volumes, "--", *arguments]

    def run(
        self, *arguments: str, volumes: Sequence[str] = (), seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, volumes=volumes)
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


@contextmanager
def make_container(image: str) -> Iterator[Container]:
    """Make a container of an image until the block ends."""
    name = buildah("from", "--pull=never", image)
    try:
        config = json.loads(buildah("inspect", "--type=container", name))["Docker"]["config"]
        yield Container(
            name=name,
            root=Path(buildah("mount", name)),
            user=config["User"] or "0:0",
            variables=config["Env"] or ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
        )
    finally:
        buildah("rm", name)


def buildah(*arguments: str) -> str:
    """Run buildah on the store of scripts/build-image, and return what it printed."""
    result = subprocess.run(
        ["buildah", *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def environment() -> dict[str, str]:
    """Return the environment in which buildah finds that store."""
    folder = CHECKOUT / ".cache/image"
    return {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }

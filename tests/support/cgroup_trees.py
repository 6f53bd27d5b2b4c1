"""Control groups and processes in a folder, as Linux and libvirt make them: version 1, version 2, or both."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from exporter.virt.masks import Sandbox

Kind = Literal["v1", "v2", "hybrid"]

_V2 = "36 25 0:31 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
_V1 = """\
36 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
37 25 0:32 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
38 25 0:33 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
"""
_UNIFIED = "39 25 0:34 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw,nsdelegate\n"
_MOUNTINFO: Mapping[Kind, str] = {"v1": _V1, "v2": _V2, "hybrid": _V1 + _UNIFIED}
# The first two lines are headings.
NET_DEV = """\
Inter-|   Receive    |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls
    lo: 9000 90 0 0 0 0 0 0 9000 90 0 0 0 0 0 0
"""


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a group has used."""

    cpu_us: int = 1_500_000
    throttled_us: int | None = None
    pressure_us: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {"cpu": (40, 4), "io": (50, 5), "memory": (60, 6)}
    )
    anon: int = 1000
    shmem: int = 100
    vcpus: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # run and delay in ns, by vCPU


class Tree:
    """The control groups of a machine.

    :ivar sandbox: tells a source that they are this machine's
    :ivar tids: the threads of each guest's vCPUs
    """

    def __init__(self, root: Path, kind: Kind = "v2", *, machined: bool = True) -> None:
        self.root, self.kind, self.machined = root, kind, machined
        self.sandbox = Sandbox(root=root, environment={}, pid=77)
        self.tids: dict[int, dict[int, int]] = {}
        (root / "proc/self/net").mkdir(parents=True)
        (root / "proc/1").mkdir()
        (root / "proc/pressure").mkdir()
        (root / "proc/pressure/cpu").touch()
        (root / "proc/self/mountinfo").write_text(_MOUNTINFO[kind])
        (root / "proc/self/net/dev").write_text(NET_DEV)
        for tree in self.trees:
            tree.mkdir(parents=True)
            (tree / ("cgroup.controllers" if self._is_v2(tree) else "release_agent")).touch()

    @property
    def trees(self) -> list[Path]:
        """The root of each tree."""
        top = self.root / "sys/fs/cgroup"
        v1 = [top / "cpu,cpuacct", top / "memory"]
        return {"v1": v1, "v2": [top], "hybrid": [*v1, top / "unified"]}[self.kind]

    @property
    def partition(self) -> str:
        """The folder of all guests below each root."""
        return "machine.slice" if self.machined else "machine"

    def be_part_of(self, tree: Path) -> None:
        """Show not the host's root there, but one group of it, as a container sees it."""
        if self._is_v2(tree):
            (tree / "cgroup.type").write_text("domain\n")
        else:
            (tree / "release_agent").unlink()

    def use(self, use: Use, *, folder: str = "") -> None:
        """Let all guests together have used this."""
        for tree in self.trees:
            self._write(tree, tree / (folder or self.partition), use)

    def add_guest(
        self,
        guest_id: int,
        name: str,
        use: Use | None = None,
        *,
        partition: str = "",
        driver: str = "qemu",
    ) -> list[Path]:
        """Start a guest, and return its groups, one in each tree."""
        use = use or Use(vcpus={0: (70, 7)})
        folder = Path(partition or self.partition, self.group_of(guest_id, name, driver))
        groups = [tree / folder for tree in self.trees]
        self.tids[guest_id] = {vcpu: 1000 * guest_id + vcpu for vcpu in use.vcpus}
        for vcpu, (run, delay) in use.vcpus.items():
            process = self.root / f"proc/{self.tids[guest_id][vcpu]}"
            process.mkdir(exist_ok=True)
            (process / "schedstat").write_text(f"{run} {delay} 12\n")
        for tree, group in zip(self.trees, groups, strict=True):
            self._write(tree, group, use)
            self._add_threads(tree, group, guest_id, use)
        return groups

    def add_device(self, name: str, counters: Iterable[int]) -> None:
        """Let the host have a network device with these counters: 8 of received, 8 of transmitted."""
        with (self.root / "proc/self/net/dev").open("a") as file:
            file.write(f"{name:>6}: {' '.join(map(str, counters))}\n")

    def end_guest(self, guest_id: int, name: str) -> None:
        """End a guest: its groups and threads are gone."""
        for tree in self.trees:
            shutil.rmtree(tree / self.partition / self.group_of(guest_id, name))
        for tid in self.tids.pop(guest_id).values():
            shutil.rmtree(self.root / f"proc/{tid}")

    def group_of(self, guest_id: int, name: str, driver: str = "qemu") -> str:
        r"""Return the name of a guest's group: machine-qemu\x2d1\x2dweb.scope."""
        if not self.machined:
            return f"{driver}-{guest_id}-{name}.libvirt-{driver}"
        escaped = name.replace("-", r"\x2d")
        return rf"machine-{driver}\x2d{guest_id}\x2d{escaped}.scope"

    def _is_v2(self, tree: Path) -> bool:
        return self.kind == "v2" or tree.name == "unified"

    def _write(self, tree: Path, group: Path, use: Use) -> None:
        group.mkdir(parents=True, exist_ok=True)
        if not self._is_v2(tree):
            (group / "cpuacct.usage").write_text(f"{use.cpu_us * 1000}\n")
            (group / "cpu.stat").write_text(
                f"nr_periods 9\nnr_throttled 0\nthrottled_time {(use.throttled_us or 0) * 1000}\n"
            )
            (group / "memory.stat").write_text(
                f"cache 7\nrss 1\nshmem 2\nmapped_file 3\ntotal_cache 77\n"
                f"total_rss {use.anon}\ntotal_shmem {use.shmem}\ntotal_dirty 5\n"
            )
            return
        has_controllers = self.kind == "v2"
        throttled = "" if use.throttled_us is None else f"nr_periods 9\nthrottled_usec {use.throttled_us}\n"
        (group / "cpu.stat").write_text(
            f"usage_usec {use.cpu_us}\nuser_usec 1\nsystem_usec 2\n{throttled if has_controllers else ''}"
        )
        for resource, (some, full) in use.pressure_us.items():
            (group / f"{resource}.pressure").write_text(
                f"some avg10=1.00 avg60=2.00 avg300=3.00 total={some}\n"
                f"full avg10=1.00 avg60=2.00 avg300=3.00 total={full}\n"
            )
        if has_controllers:
            (group / "memory.stat").write_text(
                f"anon {use.anon}\nfile 9999\nkernel 5\nshmem {use.shmem}\nsock 1\n"
            )

    def _add_threads(self, tree: Path, group: Path, guest_id: int, use: Use) -> None:
        """Add the groups of the guest's vCPUs, but where the tree has no controllers."""
        is_v2 = self._is_v2(tree)
        if is_v2 and self.kind == "hybrid":
            return
        below = group / "libvirt" if is_v2 and self.machined else group
        if below != group:
            below.mkdir(exist_ok=True)
            (below / "cpu.stat").write_text("usage_usec 5\nnr_periods 0\nthrottled_usec 0\n")
        for part in ("emulator", *(f"vcpu{vcpu}" for vcpu in use.vcpus)):
            (below / part).mkdir(parents=True, exist_ok=True)
            throttled = (use.throttled_us or 0) if part == "vcpu0" else 0
            (below / part / "cpu.stat").write_text(
                f"usage_usec 5\nnr_periods 9\nthrottled_usec {throttled}\n"
                if is_v2
                else f"nr_periods 9\nnr_throttled 0\nthrottled_time {throttled * 1000}\n"
            )
        for vcpu, tid in self.tids[guest_id].items():
            name = "cgroup.threads" if is_v2 else "tasks"
            (below / f"vcpu{vcpu}" / name).write_text(f"{tid}\n")

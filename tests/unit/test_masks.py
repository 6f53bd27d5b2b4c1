"""What a sandbox hides is recognised by its mount: systemd's own folders, and a container's file system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.virt.masks import Sandbox, find_mask

HOST = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:24 / /run rw,nosuid shared:2 - tmpfs tmpfs rw,size=1000k
31 27 254:1 / /home rw shared:3 - xfs /dev/vdb rw
32 27 0:30 / /srv/nova rw shared:4 - nfs4 nfs01:/nova rw
33 27 0:31 / /tmp rw shared:5 - tmpfs tmpfs rw
"""
BOOT = "0123456789abcdef" * 2
SYSTEMD = f"""\
100 27 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw
101 100 0:24 / /run ro,nosuid shared:2 - tmpfs tmpfs rw,size=1000k
102 100 0:24 /systemd/inaccessible/dir /home ro,nosuid master:2 - tmpfs tmpfs rw,size=1000k
103 100 0:24 /systemd/inaccessible/dir /root ro,nosuid master:2 - tmpfs tmpfs rw,size=1000k
104 100 254:0 /tmp/systemd-private-{BOOT}-a.service-Ab1/tmp /tmp rw - ext4 /dev/vda rw
105 100 254:0 /var/tmp/systemd-private-{BOOT}-a.service-Cd2/tmp /var/tmp rw - ext4 /dev/vda rw
106 100 0:30 / /srv/nova ro shared:4 - nfs4 nfs01:/nova rw
107 100 0:50 / /run/user ro - tmpfs tmpfs ro,mode=755
"""
DOCKER = """\
200 199 0:60 / / rw master:9 - overlay overlay rw,upperdir=/var/lib/docker/overlay2/x/diff
201 200 254:0 /var/lib/nova/instances /var/lib/nova/instances ro - ext4 /dev/vda rw
202 200 254:0 /var/lib/docker/volumes/nova_compute/_data /var/lib/nova_compute ro - ext4 /dev/vda rw
203 200 254:0 /var/lib/kubelet/pods/1-2/volumes/kubernetes.io~empty-dir/a /a rw - ext4 /dev/vda rw
204 200 0:30 / /var/lib/nova/mnt/abc ro - nfs4 nfs01:/nova rw
"""
BUILDAH = "300 299 254:0 /var/lib/containers/storage/vfs/dir/0123 / rw - ext4 /dev/vda rw\n"
STATELESS = "400 1 0:70 / / rw - overlay overlay rw,lowerdir=/run/root,upperdir=/run/rw\n"


def make_sandbox(
    folder: Path,
    mountinfo: str | None,
    *,
    host: str | None = None,
    environment: Mapping[str, str] | None = None,
    pid: int = 77,
    marks: tuple[str, ...] = (),
) -> Sandbox:
    """Return a sandbox with this mountinfo of this process and of process 1."""
    for process, text in (("self", mountinfo), ("1", host)):
        if text is not None:
            (folder / "proc" / process).mkdir(parents=True)
            (folder / "proc" / process / "mountinfo").write_text(text)
    for mark in marks:
        (folder / mark).parent.mkdir(exist_ok=True)
        (folder / mark).touch()
    return Sandbox(root=folder, environment=environment or {}, pid=pid)


def ask(path: str, sandbox: Sandbox) -> str | None:
    return find_mask(path, sandbox=sandbox, resolve=lambda text: text)


@pytest.mark.parametrize("path", ["/", "/home/nova", "/srv/nova/x", "/tmp/a", "/var/tmp", "/run/user"])
def test_on_the_host_itself_nothing_is_hidden(tmp_path: Path, path: str) -> None:
    assert ask(path, make_sandbox(tmp_path, HOST, host=HOST)) is None


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("/home", "ProtectHome="),
        ("/home/nova/instances", "ProtectHome="),
        ("/root/images/a.qcow2", "ProtectHome="),
        ("/run/user/1000/a", "ProtectHome="),
        ("/tmp/a.qcow2", "PrivateTmp=no"),
        ("/var/tmp", "PrivateTmp=no"),
        ("/var/tmp/images/a.qcow2", "PrivateTmp=no"),
    ],
)
def test_what_systemd_hides_is_named_with_its_setting(tmp_path: Path, path: str, setting: str) -> None:
    mask = ask(path, make_sandbox(tmp_path, SYSTEMD))
    assert mask is not None
    assert setting in mask


@pytest.mark.parametrize("path", ["/", "/var/lib/nova/instances", "/srv/nova", "/homework", "/run/libvirt"])
def test_what_systemd_only_protects_from_writing_is_the_hosts(tmp_path: Path, path: str) -> None:
    assert ask(path, make_sandbox(tmp_path, SYSTEMD, host=HOST)) is None


@pytest.mark.parametrize(
    ("environment", "pid", "marks"),
    [
        ({"container": "podman"}, 77, ()),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 77, ()),
        ({}, 1, ()),
        ({}, 77, (".dockerenv",)),
        ({}, 77, ("run/.containerenv",)),
    ],
    ids=["podman", "Kubernetes", "process 1", "Docker", "podman's mark"],
)
@pytest.mark.parametrize("mountinfo", [DOCKER, BUILDAH], ids=["overlay", "vfs"])
def test_a_containers_own_file_system_is_not_the_hosts(
    tmp_path: Path, mountinfo: str, environment: Mapping[str, str], pid: int, marks: tuple[str, ...]
) -> None:
    sandbox = make_sandbox(tmp_path, mountinfo, environment=environment, pid=pid, marks=marks)
    for path in ("/", "/var/lib/libvirt/images", "/var/lib"):
        mask = ask(path, sandbox)
        assert mask is not None
        assert "the container's own file system" in mask


@pytest.mark.parametrize(
    "path", ["/var/lib/nova/instances/1/disk", "/var/lib/nova_compute/instances", "/var/lib/nova/mnt/abc"]
)
def test_what_is_mounted_into_a_container_is_the_hosts(tmp_path: Path, path: str) -> None:
    """Also a volume of Docker's: Kolla keeps the instances in one."""
    assert ask(path, make_sandbox(tmp_path, DOCKER, pid=1)) is None


def test_an_empty_folder_of_a_pod_is_not_the_hosts(tmp_path: Path) -> None:
    mask = ask("/a/instances", make_sandbox(tmp_path, DOCKER, pid=1))
    assert mask is not None
    assert "emptyDir" in mask


def test_a_host_whose_own_root_is_an_overlay_is_no_container(tmp_path: Path) -> None:
    assert ask("/var/lib/nova/instances", make_sandbox(tmp_path, STATELESS)) is None


def test_a_tmpfs_that_process_1_does_not_have_is_named_where_that_can_be_seen(tmp_path: Path) -> None:
    """As with TemporaryFileSystem=, for a service that runs as root."""
    own = SYSTEMD.replace(
        "0:30 / /srv/nova ro shared:4 - nfs4 nfs01:/nova", "0:77 / /srv/nova ro - tmpfs tmpfs"
    )
    service = {"INVOCATION_ID": "0123"}
    mask = ask("/srv/nova/instances", make_sandbox(tmp_path, own, host=HOST, environment=service))
    assert mask == "the host has nfs4 of nfs01:/nova there, and this process a tmpfs of its own"


@pytest.mark.parametrize("mountinfo", [None, "", "27 1\n\n???", "27 1 254:0 / / rw - "])
def test_where_mountinfo_cannot_be_read_or_is_odd_nothing_is_said(
    tmp_path: Path, mountinfo: str | None
) -> None:
    assert ask("/home", make_sandbox(tmp_path, mountinfo, host=mountinfo)) is None


# As the kernel writes them for a service of systemd that is not root, and cannot read process 1's.
SERVICE = """\
100 27 254:0 / / ro,relatime shared:300 master:1 - ext4 /dev/vda rw
101 100 0:33 / /home rw,relatime shared:301 master:7 - tmpfs tmpfs rw
102 100 0:31 / /tmp rw shared:302 master:5 - tmpfs tmpfs rw
103 100 0:24 /vms /vms rw shared:303 master:2 - tmpfs tmpfs rw
104 100 0:50 / /root ro,nosuid,nodev,noexec shared:370 - tmpfs tmpfs ro,mode=755
105 100 0:51 / /var/tmp rw shared:371 - tmpfs tmpfs rw,mode=1777
106 100 0:52 / /srv ro shared:372 - tmpfs tmpfs ro,mode=755
"""


@pytest.mark.parametrize("path", ["/home/nova", "/tmp/a", "/vms/a"])
def test_a_tmpfs_that_the_host_passes_on_to_a_service_is_the_hosts(tmp_path: Path, path: str) -> None:
    assert ask(path, make_sandbox(tmp_path, SERVICE, environment={"INVOCATION_ID": "0123"})) is None


@pytest.mark.parametrize(
    ("path", "setting"),
    [("/root/a", "ProtectHome="), ("/var/tmp/a", "PrivateTmp="), ("/srv/nova", "TemporaryFileSystem=")],
)
def test_a_tmpfs_that_the_host_did_not_pass_on_is_the_services_own(
    tmp_path: Path, path: str, setting: str
) -> None:
    """Also for a service that is not root. PrivateTmp=disconnected makes a tmpfs, too."""
    mask = ask(path, make_sandbox(tmp_path, SERVICE, environment={"INVOCATION_ID": "0123"}))
    assert mask is not None
    assert setting in mask


@pytest.mark.parametrize("host", [True, False], ids=["root", "another user"])
def test_a_host_whose_homes_are_a_tmpfs_is_measured(tmp_path: Path, *, host: bool) -> None:
    """As on hosts without disks, with and without the right to look at process 1."""
    mounts = HOST.replace(
        "254:1 / /home rw shared:3 - xfs /dev/vdb", "0:33 / /home rw shared:3 - tmpfs tmpfs"
    )
    assert ask("/home/nova", make_sandbox(tmp_path, mounts, host=mounts if host else None)) is None


@pytest.mark.parametrize("mark", ["run/.containerenv", ".dockerenv"])
def test_a_container_that_runs_systemd_is_the_host_of_its_services(tmp_path: Path, mark: str) -> None:
    """Libvirt runs in the same container, and has its images there."""
    sandbox = make_sandbox(tmp_path, DOCKER, environment={"INVOCATION_ID": "0123"}, marks=(mark,))
    assert ask("/var/lib/libvirt/images", sandbox) is None


@pytest.mark.parametrize(
    "top",
    [
        "0:60 / / rw - zfs rpool/docker/3fa1 rw",
        "0:60 /@docker/btrfs/subvolumes/3fa1 / rw - btrfs /dev/sda rw",
        f"8:5 /data/btrfs/subvolumes/{'3f' * 32} / rw - btrfs /dev/sda rw",
        f"8:5 /data/vfs/dir/{'3f' * 32} / rw - ext4 /dev/sda rw",
        "253:5 /rootfs / rw - xfs /dev/mapper/docker-253:0-12-3fa1 rw",
        "8:1 /var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/3 / rw - ext4 /dev/sda rw",
        "0:60 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw",
    ],
    ids=["zfs", "btrfs", "btrfs elsewhere", "vfs elsewhere", "device mapper", "containerd", "rootless"],
)
def test_a_containers_own_file_system_is_known_with_each_storage_driver(tmp_path: Path, top: str) -> None:
    mask = ask("/var/lib/nova/instances", make_sandbox(tmp_path, f"200 199 {top}\n", pid=1))
    assert mask is not None
    assert "the container's own file system" in mask


@pytest.mark.parametrize(
    "top",
    [
        "8:1 / / rw - ext4 /dev/sda rw",
        "0:60 / / rw - zfs rpool/ROOT/debian rw",
        "0:60 /@ / rw - btrfs /dev/sda rw,subvol=/@",
        "8:1 /ostree/deploy/fedora/deploy/3fa1.0 / rw - xfs /dev/sda rw",
        "8:1 /var/lib/lxc/c1/rootfs / rw - ext4 /dev/sda rw",
    ],
    ids=["ext4", "zfs", "btrfs", "ostree", "LXC"],
)
def test_a_container_that_changed_its_root_to_the_hosts_sees_the_hosts(tmp_path: Path, top: str) -> None:
    """As with chroot /host; and a system container of LXC is the host of its libvirt."""
    sandbox = make_sandbox(tmp_path, f"200 199 {top}\n", pid=1)
    assert ask("/var/lib/nova/instances", sandbox) is None


def test_a_mount_below_a_folder_that_is_hidden_is_hidden_too(tmp_path: Path) -> None:
    """Mountinfo still has it."""
    mounts = """\
1 1 0:2 / / rw - rootfs rootfs rw
27 1 254:0 / / rw - ext4 /dev/vda rw
31 27 254:1 / /home/nova rw - xfs /dev/vdb rw
32 27 0:50 / /home ro - tmpfs tmpfs ro,mode=755
33 27 254:2 / /srv rw - xfs /dev/vdc rw
34 33 0:30 / /srv/nova rw - nfs4 nfs01:/nova rw
"""
    sandbox = make_sandbox(tmp_path, mounts)
    mask = ask("/home/nova/instances", sandbox)
    assert mask is not None
    assert "ProtectHome=" in mask
    for path, point in (("/srv/nova/a", "/srv/nova"), ("/srv/novae", "/srv"), ("/var", "/")):
        mount = sandbox.find_mount("self", path)
        assert mount is not None
        assert mount.point == point
        assert mount.type != "rootfs"

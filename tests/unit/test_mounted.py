"""Which file system a path lies on, as the kernel says it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.virt.mounts import FileSystem, find_file_system
from exporter.virt.storage.mounted import find_mounted, read_details, read_mounted, read_volume_group


def make_file_system(type_: str, **options: str) -> FileSystem:
    return FileSystem(
        number="9", device="253:3", point="/srv", type=type_, source="/dev/dm-3", options=options
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_line_of_mountinfo_is_read_with_any_number_of_optional_fields() -> None:
    end = "ext3 /dev/root rw,errors=continue,data=a=b"
    for optional in ("", "master:1 ", "shared:7 master:1 propagate_from:2 "):
        assert find_file_system(f"36 35 98:0 / /mnt\\0402 rw {optional}- {end}", "36") == FileSystem(
            number="36",
            device="98:0",
            point="/mnt 2",
            type="ext3",
            source="/dev/root",
            options={"rw": "", "errors": "continue", "data": "a=b"},
        )


@pytest.mark.parametrize(
    "line", ["", "36", "36 35 98:0 / /mnt rw", "36 35 98:0 / /mnt rw - ext3", "36 - - - - - -"]
)
def test_a_line_of_another_form_is_no_file_system(line: str) -> None:
    assert find_file_system(line, "36") is None
    assert find_file_system(line, "7") is None


def test_a_source_may_be_empty() -> None:
    file_system = find_file_system("36 35 98:0 / /mnt rw - tmpfs  rw", "36")
    assert file_system is not None
    assert file_system.source == ""


def test_a_path_lies_where_its_links_lead(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    mounted = read_mounted(str(tmp_path / "link"))
    assert mounted is not None
    assert (mounted.file_system.type, mounted.file_system.point) == ("proc", "/proc")
    assert os.makedev(*map(int, mounted.file_system.device.split(":"))) == os.stat("/proc").st_dev


def test_a_path_that_is_gone_lies_nowhere(tmp_path: Path) -> None:
    assert read_mounted(str(tmp_path / "gone")) is None


def test_udev_knows_the_uuid_of_a_cluster_file_system(tmp_path: Path) -> None:
    write(tmp_path / "run/udev/data/b253:3", "S:disk/by-uuid/x\nE:DM_NAME=san-vms\nE:ID_FS_UUID=0a-1b\n")
    assert read_details(make_file_system("ocfs2"), "/srv", root=tmp_path) == {"uuid": "0a-1b"}
    assert read_details(make_file_system("gfs2"), "/srv", root=tmp_path) == {"uuid": "0a-1b"}


def test_gfs2_says_its_own_uuid(tmp_path: Path) -> None:
    for number, uuid in (("253:2", "other"), ("253:3", "this")):
        folder = tmp_path / f"sys/fs/gfs2/cluster:{uuid}"
        write(folder / "id", number + "\n")
        write(folder / "uuid", uuid + "\n")
    assert read_details(make_file_system("gfs2"), "/srv", root=tmp_path) == {"uuid": "this"}


def test_without_udev_a_link_in_dev_has_the_uuid(tmp_path: Path) -> None:
    links = tmp_path / "dev/disk/by-uuid"
    links.mkdir(parents=True)
    (links / "0A-1B").symlink_to("/dev/null")
    (links / "gone").symlink_to(tmp_path / "gone")
    file_system = FileSystem(number="9", device="1:3", point="/srv", type="ocfs2", source="x", options={})
    assert read_details(file_system, "/srv", root=tmp_path) == {"uuid": "0A-1B"}


def test_a_local_file_systems_uuid_is_not_asked_for(tmp_path: Path) -> None:
    """Hosts that were copied from one image have the same one."""
    write(tmp_path / "run/udev/data/b253:3", "E:ID_FS_UUID=0a-1b\n")
    assert read_details(make_file_system("xfs"), "/srv", root=tmp_path) == {}


def test_beegfs_names_its_management_server_in_its_configuration(tmp_path: Path) -> None:
    write(
        tmp_path / "etc/beegfs/c.conf",
        "# x\nsysMgmtdHost                 = mgmt01\nconnMgmtdPortTCP = 9008\n",
    )
    file_system = make_file_system("beegfs", cfgFile="/etc/beegfs/c.conf")
    assert read_details(file_system, "/srv", root=tmp_path) == {"sysMgmtdHost": "mgmt01", "port": "9008"}
    missing = make_file_system("beegfs", cfgFile="/etc/beegfs/gone.conf")
    assert read_details(missing, "/srv", root=tmp_path) == {"sysMgmtdHost": "", "port": ""}
    assert read_details(make_file_system("beegfs"), "/srv", root=tmp_path) == {"sysMgmtdHost": "", "port": ""}


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    assert read_details(make_file_system("gfs2"), "/srv", root=tmp_path) == {}
    assert read_details(make_file_system("ceph"), str(tmp_path)) == {}
    assert read_details(make_file_system("nfs4"), "/srv", root=tmp_path) == {}


def test_a_mount_point_is_found_by_its_text(tmp_path: Path) -> None:
    """Without touching the path, which may hang."""
    (tmp_path / "link").symlink_to("/proc")
    mounted = find_mounted("/proc")
    assert mounted is not None
    assert mounted.file_system.type == "proc"
    linked = find_mounted(str(tmp_path / "link"))
    assert linked is not None
    assert linked.file_system.type != "proc"
    assert find_mounted("/proc", root=tmp_path) is None


GROUP = "F2dd5G5G5IabcdefghijklmnopqrstUV"


@pytest.mark.parametrize(
    ("group", "uuid"),
    [
        ("vms", "v" * 32),
        ("my-vg", GROUP),
        ("my", "m" * 32),
        ("root", None),
        ("x", None),
        ("", None),
        ("crypt", None),
    ],
)
def test_the_kernel_knows_the_group_of_each_active_volume(
    tmp_path: Path, group: str, uuid: str | None
) -> None:
    for number, (name, dm_uuid) in enumerate(
        (
            ("vms-disk--1", f"LVM-{'v' * 32}{'1' * 32}"),
            ("my--vg-disk", f"LVM-{GROUP}{'1' * 32}"),
            ("my-vg--disk", f"LVM-{'m' * 32}{'1' * 32}-real"),
            ("rootfs", "CRYPT-LUKS2-0123"),
            ("crypt-x", "CRYPT-LUKS2-0123"),
        )
    ):
        write(tmp_path / f"sys/block/dm-{number}/dm/name", name + "\n")
        write(tmp_path / f"sys/block/dm-{number}/dm/uuid", dm_uuid + "\n")
    assert read_volume_group(group, root=tmp_path) == uuid

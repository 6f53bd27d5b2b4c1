"""Storage that is no file system is measured as Nova measures it: an LVM volume group, and a Ceph pool.

The volume group is a real one, on a loop device. There is no Ceph cluster: a program stands in for `ceph`.
That proves how it is asked and how its answer is read, and not that a cluster answers so. Nova (Debian's
python3-nova) runs in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter.model import Storage
from exporter.virt.commands import Commands
from exporter.virt.storage.back_ends import get_ceph_pool_info, get_volume_group_info
from tests.support.exporter_process import Scrape, scrape_once, serve
from tests.support.guests import GIB, MIB, file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon
from tests.support.nova_programs import ask_program
from tests.support.oracle import NovaOracle
from tests.support.programs import CEPH_DF, path_with, write_program
from tests.support.sandbox import run
from tests.support.waiting import wait_until

# Prints what Nova's driver says of its storage with the options that are its argument.
NOVA = """
import json, sys
import nova.conf
import nova.privsep
from nova import config
from nova.virt.libvirt import driver

nova.conf.CONF([], project="nova", default_config_files=[])
nova.privsep.sys_admin_pctxt.set_client_mode(False)
for name, value in json.loads(sys.argv[1]).items():
    nova.conf.CONF.set_override(name, value, "libvirt")
print(json.dumps(driver.LibvirtDriver._get_local_gb_info()))
"""


def ask_nova(options: Mapping[str, str]) -> Storage:
    answer = ask_program(NOVA, json.dumps(options))
    info = {name: round(value * GIB) for name, value in answer.items()}
    return Storage(size_bytes=info["total"], used_bytes=info["used"], free_bytes=info["free"])


@pytest.fixture
def volume_group(tmp_path: Path) -> Iterator[str]:
    """A volume group of 3 GiB with a volume of 1.2 GiB. It is not activated, for which a kernel needs dm."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(3 * GIB)
    try:
        device = run(["losetup", "--find", "--show", str(disk)]).strip()
    except RuntimeError as error:
        pytest.skip(f"this kernel lends no loop device: {error}")
    name = f"hx-{os.getpid()}"
    try:
        run(["vgcreate", "--quiet", name, device])
        volume = ["--size", str(1200 * MIB) + "b", "--name", "volume"]
        run(["lvcreate", "--driverloaded=n", "-an", "-Zn", "-Wn", "--quiet", *volume, name])
        yield name
    finally:
        subprocess.run(
            ["vgremove", "--driverloaded=n", "--force", "--yes", "--quiet", name],
            capture_output=True,
            check=False,
            timeout=60,
        )
        run(["losetup", "--detach", device])


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of stand-ins, which Nova and the exporter find before the real programs."""
    directory = tmp_path / "programs"
    directory.mkdir()
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", path_with(directory))
    return directory


def expect(scrape: Scrape, storage: Storage, *, overcommitted: int) -> None:
    """Check a scrape's numbers of storage against Nova's, rounded down as the exporter does."""
    assert scrape.value("hypervisor_storage_size_bytes") == storage.size_bytes
    assert scrape.value("hypervisor_storage_used_bytes") == storage.used_bytes
    assert scrape.value("hypervisor_storage_free_bytes") == storage.free_bytes
    assert scrape.value("hypervisor_local_gb") == storage.size_bytes // GIB
    assert scrape.value("hypervisor_local_gb_used") == storage.used_bytes // GIB
    least = (storage.free_bytes - overcommitted) // GIB
    assert scrape.value("hypervisor_disk_available_least") == least
    assert scrape.value("hypervisor_up") == 1


def test_a_volume_group_is_novas(volume_group: str, libvirtd: LibvirtDaemon, nova: NovaOracle) -> None:
    """Shows that a real volume group is measured as by Nova, and what images may grow is taken off it."""
    options = {"images_type": "lvm", "images_volume_group": volume_group}
    libvirtd.define(guest_xml("guest", disks=[file_disk(make_qcow2(libvirtd.images / "config", 1 * GIB))]))
    truth = nova.get_available_resource(
        libvirtd.uri,
        libvirtd.images,
        options={f"libvirt.{name}": value for name, value in options.items()},
    )
    answer = get_volume_group_info(volume_group, commands=Commands())
    storage = answer.storage
    assert storage.used_bytes >= 1200 * MIB
    assert storage == ask_nova(options)
    hypervisor = {"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images), **options}
    scrape = scrape_once([hypervisor])
    expect(scrape, storage, overcommitted=int(scrape.value("hypervisor_storage_overcommitted_bytes")))
    for field in ("local_gb", "local_gb_used", "disk_available_least"):
        assert scrape.value(f"hypervisor_{field}") == math.floor(truth[field])
    uuid = run(["vgs", "--noheadings", "-o", "vg_uuid", volume_group]).strip().replace("-", "")
    assert scrape.value("hypervisor_storage_info", storage=f"lvm:{uuid}", kind="lvm") == 1


def test_a_ceph_pool_is_novas(programs: Path, libvirtd: LibvirtDaemon) -> None:
    """Shows that what `ceph df` says (a stand-in prints it) is taken as by Nova, asked in the same words."""
    asked = programs / "asked"
    write_program(programs, "ceph", f'echo "$*" >> {asked}\ncat <<END\n{CEPH_DF}\nEND')
    options = {"images_type": "rbd", "images_rbd_pool": "vms", "rbd_user": "nova"}
    options["images_rbd_ceph_conf"] = "/etc/ceph/nova.conf"
    storage = ask_nova(options)
    ceph_conf = "/etc/ceph/nova.conf"
    assert storage == get_ceph_pool_info("vms", user="nova", ceph_conf=ceph_conf, commands=Commands())
    expect(scrape_once([{"uri": libvirtd.uri_read_only, **options}]), storage, overcommitted=0)
    user = "--id nova --conf /etc/ceph/nova.conf"
    assert set(asked.read_text().splitlines()) == {f"df --format=json {user}", f"fsid {user}"}


def write_host(path: Path, kind: str) -> str:
    """Return the URI of a test driver with two pools of this kind, one of which is of the source "vms"."""
    pools = "".join(
        f"<pool type='{kind}'><name>pool-{source}</name>"
        f"<source><name>{source}</name><host name='mon.example'/></source>"
        "<target><path>/dev/vms</path></target></pool>"
        for source in ("other", "vms")
    )
    path.write_text(f"<node>{pools}</node>")
    return f"test://{path}"


def test_a_storage_pool_of_the_volume_group_comes_before_the_command(programs: Path, tmp_path: Path) -> None:
    """Shows that libvirt's pool of that source is measured, among others, and vgs is not run."""
    write_program(programs, "vgs", f"touch {programs}/asked; exit 1")
    options = {"images_type": "lvm", "images_volume_group": "vms"}
    scrape = scrape_once([{"uri": write_host(tmp_path / "host.xml", "logical"), **options}])
    assert scrape.value("hypervisor_local_gb") == 100  # what libvirt's test driver gives every pool
    assert scrape.value("hypervisor_up") == 1
    assert not (programs / "asked").exists()


@pytest.mark.parametrize("can_be_asked", [True, False])
def test_ceph_comes_before_a_storage_pool(can_be_asked: bool, programs: Path, tmp_path: Path) -> None:
    """Shows that the pool's raw bytes count only where ceph cannot be asked, and are then said to be raw."""
    answer = f"cat <<END\n{CEPH_DF}\nEND" if can_be_asked else "echo no keyring >&2; exit 1"
    write_program(programs, "ceph", answer)
    options = {"images_type": "rbd", "images_rbd_pool": "vms"}
    scrape = scrape_once([{"uri": write_host(tmp_path / "host.xml", "rbd"), **options}])
    assert scrape.value("hypervisor_local_gb") == (300 if can_be_asked else 100)
    assert scrape.value("hypervisor_storage_is_raw") == (not can_be_asked)
    assert ("before replication" in scrape.log) == (not can_be_asked)
    assert scrape.value("hypervisor_up") == 1


def test_a_volume_group_of_another_host_needs_a_pool(tmp_path: Path) -> None:
    """Shows that vgs is not asked here about a hypervisor elsewhere, and that the log says why."""
    host = tmp_path / "host.xml"
    host.write_text("<node/>")
    options = {"images_type": "lvm", "images_volume_group": "vms"}
    scrape = scrape_once([{"uri": f"test://{host}", **options}])
    assert "vgs works only on the hypervisor itself" in scrape.log
    assert scrape.value("hypervisor_refresh_errors_total", reason="storage") > 0


def test_a_command_that_hangs_costs_the_disk_numbers_until_it_answers(
    programs: Path, libvirtd: LibvirtDaemon
) -> None:
    """Shows that scrapes go on without the disk numbers, and the hypervisor is up once they are there."""
    go = programs / "go"
    write_program(
        programs,
        "ceph",
        f"for _ in $(seq 250); do [ -e {go} ] && break; sleep 0.1; done\ncat <<END\n{CEPH_DF}\nEND",
    )
    hypervisor = {"uri": libvirtd.uri_read_only, "images_type": "rbd", "images_rbd_pool": "vms"}
    with serve({"cache_ttl": "0s", "hypervisors": [hypervisor]}) as exporter:
        before = exporter.scrape()
        assert before.value("hypervisor_up") == 0
        assert before.value("hypervisor_vcpus") > 0
        assert before.get("hypervisor_local_gb") is None
        assert "its command is still running" in exporter.log
        go.touch()
        wait_until(lambda: exporter.scrape().value("hypervisor_up") == 1, "the command's answer")
        assert exporter.scrape().value("hypervisor_local_gb") == 300

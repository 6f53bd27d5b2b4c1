"""A real Ceph cluster is measured as Nova measures it, and counts once for all hypervisors on it.

Compared are what Nova's own rbd_utils and driver say, what `ceph df` says, what libvirt's storage pool says,
and what the exporter makes of them. It has three OSDs and a pool of three replicas.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from exporter.model import Storage
from exporter.virt.commands import Commands
from exporter.virt.storage.back_ends import get_ceph_fsid, get_ceph_pool_info
from tests.conformance.test_nova_storage import ask_nova, expect
from tests.support.ceph import OSD_BYTES, OSDS, CephCluster, CephError, CephMissingError
from tests.support.exporter_process import Scrape, serve
from tests.support.fleet import Fleet, Host, HostExporter
from tests.support.guests import GIB, MIB
from tests.support.libvirtd import LibvirtDaemon
from tests.support.nova_programs import ask_program
from tests.support.programs import path_with, write_program
from tests.support.prometheus_server import RULES, PrometheusServer
from tests.support.waiting import wait_until

REPLICAS = 3
SECRET = "11111111-2222-4333-8444-555555555555"
CLIENT = "exporter"

# Prints what Nova's rbd_utils say of a pool, with the options that are its argument.
RBD_UTILS = """
import json, sys
import nova.conf
from nova import config
from nova.storage import rbd_utils

nova.conf.CONF([], project="nova", default_config_files=[])
for name, value in json.loads(sys.argv[1]).items():
    nova.conf.CONF.set_override(name, value, "libvirt")
print(json.dumps(rbd_utils.RBDDriver().get_pool_info()))
"""


@pytest.fixture(scope="module")
def ceph() -> Iterator[CephCluster]:
    """The cluster, with the pool "vms" in which something was written, and a client that may only read."""
    try:
        with CephCluster() as cluster:
            cluster.create_pool("vms", replicas=REPLICAS)
            cluster.write("vms", mebibytes=40)
            cluster.settle("vms")
            cluster.add_client(f"client.{CLIENT}", mon="allow r")
            yield cluster
    except CephMissingError as error:
        pytest.skip(str(error))
    except CephError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def options(ceph: CephCluster) -> Mapping[str, str]:
    return {
        "images_type": "rbd",
        "images_rbd_pool": "vms",
        "images_rbd_ceph_conf": str(ceph.conf),
        "rbd_user": CLIENT,
    }


@pytest.fixture(scope="module")
def truth(options: Mapping[str, str]) -> Storage:
    """What Nova's driver says."""
    return ask_nova(options)


@pytest.fixture
def pool(ceph: CephCluster, libvirtd: LibvirtDaemon) -> Iterator[str]:
    """libvirt's storage pool of the Ceph pool."""
    key = ceph.add_client("client.libvirt", mon="profile rbd", osd="profile rbd")
    secret = libvirtd.connection.secretDefineXML(
        f"<secret ephemeral='no' private='yes'><uuid>{SECRET}</uuid>"
        "<usage type='ceph'><name>client.libvirt</name></usage></secret>"
    )
    secret.setValue(base64.b64decode(key))
    host, port = ceph.monitor
    pool = libvirtd.connection.storagePoolDefineXML(
        f"<pool type='rbd'><name>ceph</name><source><name>vms</name><host name='{host}' port='{port}'/>"
        f"<auth type='ceph' username='libvirt'><secret uuid='{SECRET}'/></auth></source></pool>"
    )
    pool.create()
    yield pool.name()
    pool.destroy()
    pool.undefine()
    secret.undefine()


def scrape_settled(hypervisor: Mapping[str, object]) -> Scrape:
    """Return a scrape when `ceph` has answered, which takes seconds on a busy machine."""
    with serve({"cache_ttl": "0s", "hypervisors": [hypervisor]}) as exporter:
        # The fsid is asked for after the size.
        wanted = {"hypervisor_local_gb", "hypervisor_storage_info"}
        wait_until(lambda: wanted <= exporter.scrape().names, "the size of the storage, and which it is")
        return exporter.scrape()


def test_its_numbers_are_novas(
    ceph: CephCluster, options: Mapping[str, str], truth: Storage, libvirtd: LibvirtDaemon
) -> None:
    """Shows that driver, rbd_utils, `ceph df` and a scrape agree. The client may read the monitors only."""
    info = ask_program(RBD_UTILS, json.dumps(options))
    storage = get_ceph_pool_info("vms", user=CLIENT, ceph_conf=str(ceph.conf), commands=Commands())
    assert (storage.size_bytes, storage.used_bytes, storage.free_bytes) == (
        info["total"],
        info["used"],
        info["free"],
    )
    assert storage == truth
    assert storage.size_bytes == OSDS * OSD_BYTES
    assert storage.used_bytes == REPLICAS * 40 * MIB
    assert get_ceph_fsid("vms", user=CLIENT, ceph_conf=str(ceph.conf), commands=Commands()) == ceph.fsid
    scrape = scrape_settled({"uri": libvirtd.uri_read_only, **options})
    expect(scrape, storage, overcommitted=0)
    assert scrape.value("hypervisor_storage_is_raw") == 0
    assert scrape.value("hypervisor_storage_info", storage=f"rbd:{ceph.fsid}:vms", kind="rbd") == 1


def test_libvirts_pool_is_not_asked_where_ceph_answers(
    options: Mapping[str, str], truth: Storage, libvirtd: LibvirtDaemon, pool: str
) -> None:
    scrape = scrape_settled({"uri": libvirtd.uri_read_only, **options})
    expect(scrape, truth, overcommitted=0)
    assert scrape.value("hypervisor_storage_is_raw") == 0
    assert "before replication" not in scrape.log


def test_libvirts_pool_alone_is_raw_and_with_its_replicas_it_is_what_ceph_says(
    options: Mapping[str, str],
    truth: Storage,
    libvirtd: LibvirtDaemon,
    pool: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shows that the pool's free bytes are three times Nova's, that this is said, and how it is mended."""
    tmp_path.chmod(0o755)
    write_program(tmp_path, "ceph", "echo no keyring >&2; exit 1")
    monkeypatch.setenv("PATH", path_with(tmp_path))
    hypervisor = {"uri": libvirtd.uri_read_only, **options}
    raw = scrape_settled(hypervisor)
    _state, capacity, allocation, available = libvirtd.connection.storagePoolLookupByName(pool).info()
    assert raw.value("hypervisor_storage_size_bytes") == capacity == truth.size_bytes
    assert raw.value("hypervisor_storage_used_bytes") == allocation
    assert raw.value("hypervisor_storage_free_bytes") == available > 3 * truth.free_bytes
    assert raw.value("hypervisor_storage_is_raw") == 1
    assert "ceph failed: no keyring" in raw.log
    # Its monitor has a loopback address, which is another host to everybody.
    assert raw.value("hypervisor_storage_info", kind="rbd")
    assert "host:" in raw.series("hypervisor_storage_info")[0][0]["storage"]
    computed = scrape_settled({**hypervisor, "images_rbd_replicas": REPLICAS})
    assert computed.value("hypervisor_storage_is_raw") == 0
    assert computed.value("hypervisor_storage_used_bytes") == pytest.approx(truth.used_bytes, rel=0.001)
    assert computed.value("hypervisor_storage_free_bytes") == pytest.approx(truth.free_bytes, rel=0.001)
    assert "before replication" not in computed.log


def test_two_hypervisors_on_it_have_its_disk_once(ceph: CephCluster, options: Mapping[str, str]) -> None:
    """Shows it in Prometheus: two exporters, which find out by themselves that they share the cluster."""
    size = OSDS * OSD_BYTES / GIB
    hosts = [
        Host(name=name, guests={"a": (1, 1024)}, disks={"a": disk}, options={**options, "storage_pool": None})
        for name, disk in (("kvm01", 20), ("kvm02", 30))
    ]
    with Fleet() as fleet:
        for host in hosts:
            fleet.add(host)
        for exporter in fleet.exporters:
            wait_until(partial(_has_id, exporter, f"rbd:{ceph.fsid}:vms"), "the cluster's id")
        with PrometheusServer(
            scrape_configs=[fleet.scrape_config], interval="1s", rule_files=sorted(RULES.glob("*.yaml"))
        ) as prometheus:
            expected = {"cluster:resource:physical": size, "cluster:resource:claimed": 50.0}

            def read() -> dict[str, float]:
                return {
                    rule: float(sample["value"][1])
                    for rule in expected
                    for sample in prometheus.query(f'{rule}{{resource_class="DISK_GB"}}')
                }

            wait_until(lambda: read() == expected, f"totals of {expected}", seconds=30)


def _has_id(exporter: HostExporter, storage: str) -> bool:
    return exporter.scrape().get("hypervisor_storage_info", storage=storage) == 1

"""A nova.conf as it is deployed gives Nova's numbers: in several files, and with its own host in the URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.comparison import Machine, Sighting, find_differences
from tests.support.exporter_process import serve
from tests.support.guests import GIB, file_disk, guest_xml, make_qcow2
from tests.support.libvirtd import LibvirtDaemon
from tests.support.nova_conf import write_nova_conf
from tests.support.oracle import NovaOracle


def compare(
    settings: Mapping[str, Any], libvirtd: LibvirtDaemon, nova: NovaOracle, uri: str
) -> tuple[Sequence[str], float]:
    """Return the differences between Nova and an exporter with these settings, and hypervisor_up."""

    def look() -> Sighting:
        before = exporter.scrape()
        truth = nova.get_available_resource(uri, libvirtd.images)
        after = exporter.scrape()
        return Sighting(before, truth, after, Machine.read(libvirtd.connection))

    with serve({"cache_ttl": "0s", **settings}) as exporter:
        differences = find_differences(look)
        return differences, exporter.scrape().value("hypervisor_up")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("is_written_by_hand", [False, True], ids=["nova.conf", "by hand"])
def test_the_uri_of_this_machine_over_the_network_gives_novas_numbers(
    host: str, is_written_by_hand: bool, libvirtd: LibvirtDaemon, nova: NovaOracle, tmp_path: Path
) -> None:
    """As Kolla-Ansible has it: disk and images are this machine's, although no pool has them."""
    uri = libvirtd.uri_tcp.replace("127.0.0.1", host)
    nova_conf = write_nova_conf(
        tmp_path / "nova.conf",
        {"instances_path": str(libvirtd.images), "libvirt.connection_uri": uri},
    )
    disk = file_disk(make_qcow2(libvirtd.images / "thin", 9 * GIB))
    libvirtd.start_guest(guest_xml("guest", disks=[disk]))
    settings: dict[str, Any] = {"defaults": {"nova_conf": str(nova_conf)}}
    if is_written_by_hand:
        settings["hypervisors"] = [{"uri": uri}]
    assert compare(settings, libvirtd, nova, uri) == ([], 1)


def test_debians_two_files_and_a_folder_give_novas_numbers(
    libvirtd: LibvirtDaemon, nova: NovaOracle, tmp_path: Path
) -> None:
    """Of an option in two of them the later one counts; a later reload reads what is new in the folder."""
    first = write_nova_conf(
        tmp_path / "nova.conf", {"instances_path": "/nonexistent", "reserved_host_cpus": "1"}
    )
    second = write_nova_conf(tmp_path / "nova-compute.conf", {"compute_driver": "libvirt.LibvirtDriver"})
    folder = tmp_path / "nova.conf.d"
    folder.mkdir()
    write_nova_conf(folder / "10-paths.conf", {"instances_path": str(libvirtd.images)})
    hypervisor = {"uri": libvirtd.uri_read_only, "nova_conf": [str(first), str(second), str(folder)]}
    settings = {"hypervisors": [hypervisor]}
    assert compare(settings, libvirtd, nova, libvirtd.uri) == ([], 1)
    with serve({"cache_ttl": "0s", **settings}) as exporter:
        assert exporter.scrape().series("hypervisor_nova_conf_ignored_info") == []
        assert exporter.scrape().value("hypervisor_reserved", resource_class="VCPU") == 1
        write_nova_conf(folder / "20-cpus.conf", {"reserved_host_cpus": "0"})
        exporter.reload({"cache_ttl": "0s", **settings})
        assert exporter.scrape().value("hypervisor_reserved", resource_class="VCPU") == 0


def test_what_lies_beside_is_in_the_log_in_a_metric_and_on_the_page(
    libvirtd: LibvirtDaemon, tmp_path: Path
) -> None:
    first = write_nova_conf(tmp_path / "nova.conf", {"libvirt.images_type": "ploop"})
    second = write_nova_conf(tmp_path / "nova-compute.conf", {})
    hypervisor = {
        "uri": libvirtd.uri_read_only,
        "nova_conf": str(first),
        "instances_path": str(libvirtd.images),
    }
    with serve({"hypervisors": [hypervisor]}) as exporter:
        scrape, page = exporter.scrape(), exporter.get("/", accept="text/html")
    ignored = [
        (each["option"], each["file"]) for each, _ in scrape.series("hypervisor_nova_conf_ignored_info")
    ]
    assert ignored == [("[libvirt] images_type", str(first)), ("", str(second))]
    for text in (scrape.log, page):
        assert f"{second}: was not read" in text
        assert "images_type = ploop" in text
    assert scrape.log.count("was not read") == 1
    assert scrape.value("hypervisor_up") == 1

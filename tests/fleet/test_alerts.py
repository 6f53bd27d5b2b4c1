"""Alerts for real: a fault on a real hypervisor, by Prometheus and Alertmanager to a webhook, and back."""

from __future__ import annotations

import re

from tests.fleet.conftest import World
from tests.support.guests import MIB, guest_xml, make_raw


def test_a_full_disk_and_too_many_claims_and_a_stopped_daemon_arrive_and_resolve(world: World) -> None:
    """Each names host and figure, and ends when what it tells of is undone; those that can be at once are."""
    name = world.real_name
    image = make_raw(world.libvirtd.images / "full.raw", 285 * MIB, preallocation="full")
    memory_mib = int(world.real.scrape().value("hypervisor_capacity", resource_class="MEMORY_MB"))
    domain = world.libvirtd.define(guest_xml("huge", memory_mib=memory_mib + 100))

    full = world.webhook.wait_for("HypervisorStorageNearlyFull", "firing", hypervisor_hostname=name)
    assert full["labels"]["zone"] == "b"
    figure = re.fullmatch(r"(.+): 9\d(\.\d+)?% of its storage .+", full["annotations"]["summary"])
    assert figure is not None, full["annotations"]["summary"]
    assert figure[1] == name
    claimed = world.webhook.wait_for("HypervisorOverclaimed", "firing", resource_class="MEMORY_MB")
    assert claimed["annotations"]["summary"] == f"{name}: claims exceed its capacity by 100 MEMORY_MB."

    image.unlink()
    domain.undefine()
    world.webhook.wait_for("HypervisorStorageNearlyFull", "resolved", hypervisor_hostname=name)
    world.webhook.wait_for("HypervisorOverclaimed", "resolved", resource_class="MEMORY_MB")

    # Two that have nothing to do with each other: a daemon, and the exporter of another host.
    world.libvirtd.terminate()
    world.fleet.exporters[1].stop()
    down = world.webhook.wait_for("HypervisorDown", "firing", hypervisor_hostname=name)
    assert down["annotations"]["summary"] == f"Hypervisor {name} does not answer (hypervisor_up is 0)."
    errors = f'target:refresh_errors:increase10m{{reason="connect",hypervisor_hostname="{name}"}}'
    world.wait_for(f"count({errors})", 1)
    lost = world.webhook.wait_for("HypervisorExporterDown", "firing")
    address = world.fleet.exporters[1].address
    summary = f"The exporter at {address} does not answer: there are no numbers of 1 hypervisor(s)."
    assert lost["annotations"]["summary"] == summary
    world.libvirtd.start()
    world.fleet.exporters[1].start()
    world.webhook.wait_for("HypervisorDown", "resolved", hypervisor_hostname=name)
    world.webhook.wait_for("HypervisorExporterDown", "resolved")

"""What Nova itself says of a hypervisor: its own LibvirtDriver, asked line by line.

Runs under Debian's Python, which has Nova (python3-nova 26 to 34). It reads one JSON object a line,

    {"ask": "resources", "uri": "qemu:///system", "instances_path": "/var/lib/nova/instances",
     "options": {"compute.cpu_shared_set": "0-1"}, "volumes": {"<a domain's UUID>": ["vdb"]}}

and answers each with one: {"answer": {...}}, what get_available_resource returned, or {"error": "Invalid",
"message": "..."}, what it raised. Asked for "inventories", it answers with those that update_provider_tree
reports; for "claims", with what each of the request's "flavors" asks Placement for; for "fitting", with how
many guests of a flavor Nova puts into the NUMA cells of each of the request's "hosts".

There is neither database nor message bus: of instances and their volumes only those are on record that
`volumes` names, by the devices that they are in their guests.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import Any

import nova.monkey_patch

# As nova-compute starts: Nova 26 imports eventlet, Nova 34 is set to use threads.
if hasattr(nova.monkey_patch, "patch"):
    nova.monkey_patch.patch(backend="threading")

import nova.conf  # everything else of Nova comes after that
import nova.conf.neutron
import nova.privsep
from nova import (
    config,  # noqa: F401 # registers the options of oslo.log and others
    objects,
)
from nova.compute import provider_tree
from nova.scheduler import utils as scheduler_utils
from nova.virt import hardware, virtapi
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import uuidutils

CONF = nova.conf.CONF

# Nova 34's name of it, and the one before.
get_claim = (
    getattr(scheduler_utils, "resources_from_flavor_and_bfv", None) or scheduler_utils.resources_for_limits
)

# Which of Placement's providers the scheduler took, for guests with PCI devices: asked for since Nova 27.
_HAS_PROVIDERS = "provider_mapping" in inspect.signature(hardware.numa_fit_instance_to_host).parameters
_NO_PROVIDERS: dict[str, Any] = {"provider_mapping": {}} if _HAS_PROVIDERS else {}


class Driver(libvirt_driver.LibvirtDriver):
    """Nova's driver, which does not note in the database that its compute service is enabled."""

    def _set_host_enabled(self, enabled: bool, disable_reason: str | None = None) -> None:
        """Do nothing."""


class Oracle:
    """Nova's driver for the hypervisor that was asked for last."""

    def __init__(self) -> None:
        self._uri: str | None = None
        self._driver: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        options = {"instances_path": request["instances_path"], **request["options"]}
        with_groups = [(name.rpartition(".")[::2], value) for name, value in options.items()]
        for (group, name), value in with_groups:
            CONF.set_override(name, value, group or None)
        put_on_record(request["volumes"])
        try:
            return {"answer": getattr(self, f"_get_{request['ask']}")(request)}
        except Exception as error:  # whatever Nova answers a compute node's audit with
            return {"error": type(error).__name__, "message": str(error)}
        finally:
            for (group, name), _ in with_groups:
                CONF.clear_override(name, group or None)

    def _get_resources(self, request: dict[str, Any]) -> Any:
        return self._get_driver(request["uri"]).get_available_resource("oracle")

    def _get_inventories(self, request: dict[str, Any]) -> Any:
        tree = provider_tree.ProviderTree()
        tree.new_root("oracle", uuidutils.generate_uuid())
        self._get_driver(request["uri"]).update_provider_tree(tree, "oracle")
        return tree.data("oracle").inventory

    def _get_claims(self, request: dict[str, Any]) -> Any:
        return [
            get_claim(objects.Flavor(**{**flavor, "is_public": True, "disabled": False}), is_bfv)
            for flavor, is_bfv in request["flavors"]
        ]

    def _get_fitting(self, request: dict[str, Any]) -> Any:
        return [count_fitting(host) for host in request["hosts"]]

    def _get_driver(self, uri: str) -> Any:
        if uri != self._uri:
            CONF.set_override("connection_uri", uri, "libvirt")
            self._driver = Driver(virtapi.VirtAPI())
            self._driver._host.initialize()
            self._uri = uri
        # Nova reads it once, when it starts.
        self._driver._reserved_hugepages = hardware.numa_get_reserved_huge_pages()
        return self._driver


def count_fitting(host: dict[str, Any]) -> int:
    """Put guests of the host's flavor into its NUMA cells until none fits, as NUMATopologyFilter does."""
    topology = objects.NUMATopology(cells=[_make_cell(cell) for cell in host["cells"]])
    limits = objects.NUMATopologyLimits(**host["limits"])
    flavor = objects.Flavor(is_public=True, disabled=False, **host["flavor"])
    count = 0
    while True:
        wanted = hardware.numa_get_constraints(flavor, objects.ImageMeta.from_dict({}))
        fitted = hardware.numa_fit_instance_to_host(topology, wanted, **_NO_PROVIDERS, limits=limits)
        if fitted is None:
            return count
        topology = hardware.numa_usage_from_instance_numa(topology, fitted)
        count += 1


def _make_cell(cell: dict[str, Any]) -> Any:
    pages = [
        objects.NUMAPagesTopology(size_kb=size, total=total, used=0, reserved=reserved)
        for size, total, reserved in cell["mempages"]
    ]
    return objects.NUMACell(
        id=cell["id"],
        cpuset=set(cell["cpuset"]),
        pcpuset=set(cell["pcpuset"]),
        memory=cell["memory"],
        cpu_usage=0,
        memory_usage=0,
        pinned_cpus=set(),
        siblings=[set(siblings) for siblings in cell["siblings"]],
        mempages=pages,
        socket=0,
    )


def put_on_record(volumes: dict[str, list[str]]) -> None:
    """Answer for the database: these instances, each with these devices as Cinder volumes.

    Its compute node is one without pinned guests of old, whose claims Nova would first want to move.
    """
    instances = [objects.Instance(uuid=uuid, root_device_name="/dev/vda") for uuid in volumes]
    mappings = {
        uuid: objects.BlockDeviceMappingList(objects=[_volume(device) for device in devices])
        for uuid, devices in volumes.items()
    }
    node = objects.ComputeNode(numa_topology=None)
    objects.ComputeNode.get_by_nodename = lambda *_arguments, **_options: node
    objects.InstanceList.get_by_filters = lambda *_arguments, **_options: instances
    objects.BlockDeviceMappingList.bdms_by_instance_uuid = lambda *_arguments, **_options: mappings


def _volume(device: str) -> Any:
    return objects.BlockDeviceMapping(
        source_type="volume",
        destination_type="volume",
        device_name=f"/dev/{device}",
        device_type="disk",
        disk_bus="virtio",
        guest_format=None,
        boot_index=None,
        no_device=False,
        delete_on_termination=False,
        connection_info="{}",
        attachment_id=None,
        volume_id=uuidutils.generate_uuid(),
        volume_size=1,
        volume_type=None,
    )


def prepare() -> None:
    """Set Nova up as nova-compute does, without what it needs a cloud for."""
    CONF([], project="nova", default_config_files=[])
    nova.conf.neutron.register_dynamic_opts(CONF)
    CONF.set_override("virt_type", "qemu", "libvirt")
    objects.register_all()
    nova.privsep.sys_admin_pctxt.set_client_mode(False)


def main() -> None:
    # Whatever Nova prints is not an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    prepare()
    oracle = Oracle()
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(oracle.answer(json.loads(line)), default=str) + "\n")


if __name__ == "__main__":
    main()
    os._exit(0)  # Nova's threads never end by themselves

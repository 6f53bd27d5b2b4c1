"""Capabilities of machines that are not here mean the same to this exporter as to Nova's driver.

Nova (Debian's python3-nova) runs in a process of its own under the system's Python, one for all machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.config.settings import HypervisorConfig
from exporter.model import ResourceClass
from exporter.virt.capabilities import parse_capabilities
from exporter.virt.resources import get_available_resource
from tests.conformance.numa_comparison import as_nova, cpu_info_as_nova, simplify, simplify_cpu_info
from tests.support.nova_programs import ask_program
from tests.support.recording import read_versions
from tests.support.records import make_reading

# Reads capabilities with options; prints for each what Nova's driver makes of them.
NOVA = """
import json, sys
import nova.conf
import nova.conf.neutron
from nova import objects
from nova.virt.libvirt import config, driver

CONF = nova.conf.CONF

class Host:
    def __init__(self, xml, online_cpus):
        self.capabilities = config.LibvirtConfigCaps()
        self.capabilities.parse_str(xml)
        self.online_cpus = set(online_cpus)

    def get_capabilities(self):
        return self.capabilities

    def get_available_cpus(self):
        return set(range(8))

    def get_online_cpus(self):
        return self.online_cpus

    def has_min_version(self, **_versions):
        return True

def describe(machine):
    for name, value in machine["options"].items():
        group, _, option = name.rpartition(".")
        CONF.set_override(option, value, group or None)
    asked = object.__new__(driver.LibvirtDriver)
    asked._host = Host(machine["xml"], machine["online_cpus"])
    asked._reserved_hugepages = {}
    topology = asked._get_host_numa_topology()
    vcpus, pcpus = asked._get_vcpu_available(), asked._get_pcpu_available()
    for name in machine["options"]:
        group, _, option = name.rpartition(".")
        CONF.clear_override(option, group or None)
    return {
        "vcpus": len(vcpus),
        "pcpus": len(pcpus),
        "numa_topology": topology and json.loads(topology._to_json())["nova_object.data"]["cells"],
        "cpu_info": {**asked._get_cpu_info(), "features": []},  # a set, which JSON has none of
    }

CONF([], project="nova", default_config_files=[])
nova.conf.neutron.register_dynamic_opts(CONF)
objects.register_all()
json.dump([describe(machine) for machine in json.load(sys.stdin)], sys.stdout)
"""

TWO_SOCKETS = """<host><cpu><arch>x86_64</arch><model>Cascadelake-Server</model><vendor>Intel</vendor>
    <topology sockets='1' dies='1' cores='2' threads='2'/><feature name='vmx'/><feature name='ssbd'/>
    <feature policy='disable' name='mpx'/></cpu>
  <topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>4194304</memory><pages unit='KiB' size='4'>524288</pages>
      <pages unit='KiB' size='2048'>1000</pages><pages unit='KiB' size='1048576'>1</pages>
      <cpus num='4'><cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0,4'/>
        <cpu id='2' socket_id='0' die_id='0' core_id='1' siblings='2,6'/>
        <cpu id='4' socket_id='0' die_id='0' core_id='0' siblings='0,4'/>
        <cpu id='6' socket_id='0' die_id='0' core_id='1' siblings='2,6'/></cpus></cell>
    <cell id='1'><memory unit='KiB'>8388608</memory><pages unit='KiB' size='4'>2097152</pages>
      <pages unit='KiB' size='2048'>0</pages><pages unit='KiB' size='1048576'>0</pages>
      <cpus num='4'><cpu id='1' socket_id='1' die_id='0' core_id='0' siblings='1,5'/>
        <cpu id='3' socket_id='1' die_id='0' core_id='1' siblings='3,7'/>
        <cpu id='5' socket_id='1' die_id='0' core_id='0' siblings='1,5'/>
        <cpu id='7' socket_id='1' die_id='0' core_id='1' siblings='3,7'/></cpus></cell>
  </cells></topology></host>"""

# POWER: cells numbered with a gap, one of them memory alone; two sockets in the other.
WITH_GAPS = """<host><cpu><arch>ppc64le</arch><model>POWER9</model><vendor>IBM</vendor>
    <topology sockets='2' cores='1' threads='2'/></cpu>
  <topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>1048576</memory><pages unit='KiB' size='64'>16384</pages>
      <cpus num='4'><cpu id='0' socket_id='0' core_id='0' siblings='0-1'/>
        <cpu id='1' socket_id='0' core_id='0' siblings='0-1'/>
        <cpu id='4' socket_id='1' core_id='4' siblings='4-5'/>
        <cpu id='5' socket_id='1' core_id='4' siblings='4-5'/></cpus></cell>
    <cell id='252'><memory unit='KiB'>16777216</memory><pages unit='KiB' size='64'>262144</pages>
      <cpus num='0'/></cell>
  </cells></topology></host>"""

WITHOUT_CELLS = "<host><cpu><arch>i686</arch></cpu></host>"


@dataclass(frozen=True, kw_only=True)
class Machine:
    shows: str
    host: str
    options: Mapping[str, Any]
    online_cpus: Sequence[int] = tuple(range(8))

    @property
    def xml(self) -> str:
        return f"<capabilities>{self.host}</capabilities>"


CPU_SETS: tuple[dict[str, str], ...] = (
    {},
    {"vcpu_pin_set": "1-3"},
    {"compute.cpu_shared_set": "0,4,5"},
    {"compute.cpu_dedicated_set": "2-7,^4"},
    {"compute.cpu_shared_set": "0-1", "compute.cpu_dedicated_set": "2-6"},
    {"vcpu_pin_set": "1-3", "compute.cpu_shared_set": "0"},
)
MACHINES = (
    *(
        Machine(shows=f"two sockets, {' '.join(options) or 'no set'}", host=TWO_SOCKETS, options=options)
        for options in CPU_SETS
    ),
    Machine(shows="cells with gaps", host=WITH_GAPS, options={}, online_cpus=(0, 1, 4, 5)),
    Machine(
        shows="cells with gaps, a set",
        host=WITH_GAPS,
        options={"compute.cpu_dedicated_set": "1,4"},
        online_cpus=(0, 1, 4, 5),
    ),
    Machine(shows="no cells", host=WITHOUT_CELLS, options={}),
    Machine(shows="CPUs that are offline", host=TWO_SOCKETS, options={}, online_cpus=(0, 1, 2, 4, 5)),
    Machine(
        shows="CPUs that are offline, a set",
        host=TWO_SOCKETS,
        options={"compute.cpu_shared_set": "0,1"},
        online_cpus=(0, 1, 2, 4, 5),
    ),
    *(
        Machine(
            shows=f"CPUs that Nova powered down, {shared or 'none'} shared",
            host=TWO_SOCKETS,
            options={
                "libvirt.cpu_power_management": True,
                "compute.cpu_dedicated_set": "2-7",
                **({"compute.cpu_shared_set": shared} if shared else {}),
            },
            online_cpus=(0, 1, 4),
        )
        for shared in ("", "0-1")
    ),
    Machine(
        shows="power management without a CPU that may be powered down",
        host=TWO_SOCKETS,
        options={"libvirt.cpu_power_management": True},
        online_cpus=(0, 1, 4),
    ),
)


def ask_nova(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    asked = [
        {"xml": machine.xml, "options": machine.options, "online_cpus": machine.online_cpus}
        for machine in machines
    ]
    answers: list[dict[str, Any]] = ask_program(NOVA, request=json.dumps(asked))
    return answers


def read(machine: Machine) -> dict[str, Any]:
    reading = make_reading(
        capabilities=parse_capabilities(machine.xml),
        online_cpus=frozenset(machine.online_cpus),
        available_cpus=frozenset(range(8)),
    )
    options = HypervisorConfig(uri="test:///default", **_without_groups(machine.options))
    resources = get_available_resource(reading, options)
    topology = resources.numa_topology
    totals = {each.resource_class: each.total for each in resources.inventories}
    return {
        "vcpus": resources.vcpus,
        "pcpus": totals.get(ResourceClass.PCPU, 0),
        "numa_topology": topology and [as_nova(cell) for cell in topology],
        "cpu_info": cpu_info_as_nova(resources.cpu_info),
    }


def _without_groups(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name.rpartition(".")[2]: value for name, value in options.items()}


def expect(answer: Mapping[str, Any]) -> dict[str, Any]:
    topology = answer["numa_topology"]
    return {
        "vcpus": answer["vcpus"],
        "pcpus": answer["pcpus"],
        "numa_topology": topology and [simplify(cell) for cell in topology],
        "cpu_info": simplify_cpu_info(answer["cpu_info"]),
    }


def test_every_machine_is_the_same_to_nova() -> None:
    """Shows that cells, their CPUs and pages, and the CPU are Nova's.

    Nova 26 has no power management.
    """
    has_power_management = int(read_versions()["Nova"].partition(".")[0]) > 26
    machines = [
        machine
        for machine in MACHINES
        if has_power_management or "libvirt.cpu_power_management" not in machine.options
    ]
    answers = ask_nova(machines)
    for machine, answer in zip(machines, answers, strict=True):
        assert read(machine) == expect(answer), machine.shows
    assert len(answers[0]["numa_topology"]) == 2

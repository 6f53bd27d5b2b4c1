"""What the exporter says can be placed is what Nova tells Placement: inventories, and what guests claim."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import pytest

from exporter.config.kinds import PAGE_SIZE
from exporter.config.settings import HypervisorConfig
from exporter.cpu_spec import parse_cpu_spec
from exporter.model import Flavor, FlavorCell, HostNumaCell, MemoryPages, ResourceClass
from exporter.placement.cells import get_cell_rooms
from exporter.placement.claims import claim_of
from exporter.placement.flavors import get_flavor_slots
from exporter.virt.guests.guest_xml import parse_guest
from tests.conformance.scenarios import ALL_ONLINE, ONLINE
from tests.support.exporter_process import RunningExporter, Scrape, serve
from tests.support.guests import GIB, block_disk, file_disk, guest_xml, make_qcow2, make_raw, nova_metadata
from tests.support.libvirtd import LibvirtDaemon
from tests.support.nova_conf import write_nova_conf
from tests.support.oracle import NovaOracle
from tests.support.recording import read_versions
from tests.support.records import make_inventory

VOLUME = "0b5a0a0e-5a8c-4b5a-9d8e-1f0e5a2c6b7d"


# Inventories.


RESERVES = {"reserved_host_memory_mb": "1000", "reserved_host_disk_mb": "1025"}
RATIOS = {"cpu_allocation_ratio": "7.3", "ram_allocation_ratio": "1.1", "disk_allocation_ratio": "0.7"}
INITIAL_RATIOS = {
    "initial_cpu_allocation_ratio": "16.0",
    "initial_ram_allocation_ratio": "1.5",
    "initial_disk_allocation_ratio": "1.0",
}


@pytest.mark.parametrize(
    "options",
    [
        INITIAL_RATIOS,  # Nova 26.2's defaults; those of 27.0 and later are the exporter's
        {**INITIAL_RATIOS, **RATIOS},
        {**RATIOS, **RESERVES, "reserved_host_cpus": "1"},
        {**RATIOS, "reserved_host_disk_mb": "1024"},
        {**RATIOS, "vcpu_pin_set": ONLINE},
        {**RATIOS, "compute.cpu_shared_set": ONLINE},
        {**RATIOS, "compute.cpu_dedicated_set": ONLINE},
        {**RATIOS, "compute.cpu_shared_set": ONLINE, "compute.cpu_dedicated_set": ALL_ONLINE},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_inventory_is_novas(
    options: Mapping[str, str], libvirtd: LibvirtDaemon, nova: NovaOracle, tmp_path: Path
) -> None:
    """Shows total, reserve, ratio and the most for one guest, and that no class is more or less than Nova's.

    Both read the options as a nova.conf has them.
    """
    truth = nova.get_inventories(libvirtd.uri, libvirtd.images, options=options)
    nova_conf = write_nova_conf(tmp_path / "nova.conf", options)
    with _serve(libvirtd, nova_conf=str(nova_conf)) as exporter:
        scrape = exporter.scrape()

    said = {
        labels["resource_class"]: {
            "total": int(total),
            "max_unit": int(total),
            "reserved": int(scrape.value("hypervisor_reserved", **labels)),
            "allocation_ratio": scrape.value("hypervisor_allocation_ratio", **labels),
            "min_unit": 1,
            "step_size": 1,
        }
        for labels, total in scrape.series("hypervisor_inventory")
    }
    assert said == truth
    for resource_class, inventory in truth.items():
        capacity = int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])
        assert scrape.value("hypervisor_capacity", resource_class=resource_class) == capacity


# Claims.


def test_a_guest_of_any_flavor_claims_what_nova_asks_placement_for(nova: NovaOracle) -> None:
    """Shows it for flavors with swap, ephemeral disk, pinned, mixed and isolated vCPUs, and extra specs.

    The guest's XML is as Nova writes it for such a flavor: pins, emulator, volumes and all.
    """
    choice = random.Random(5)
    flavors = [(_draw_flavor(choice), choice.random() < 0.3) for _ in range(300)]
    truth = nova.get_claims(flavors)
    for (flavor, is_volume_backed), expected in zip(flavors, truth, strict=True):
        guest = parse_guest(_as_nova_writes(flavor, is_volume_backed))
        assert guest.nova_flavor is not None
        claim = claim_of(guest, (), dedicated_cpus=frozenset(range(100, 200)))
        assert {each.value: amount for each, amount in claim.items() if amount} == expected, flavor


def _draw_flavor(choice: random.Random) -> dict[str, Any]:
    vcpus = choice.randint(1, 8)
    return {
        "name": "drawn",
        "vcpus": vcpus,
        "memory_mb": choice.choice([1, 512, 8192, 8193]),
        "root_gb": choice.choice([0, 1, 80]),
        "ephemeral_gb": choice.choice([0, 0, 20]),
        "swap": choice.choice([0, 1, 1023, 1024, 1025, 4096]),
        "extra_specs": _draw_extra_specs(choice, vcpus),
    }


def _draw_extra_specs(choice: random.Random, vcpus: int) -> dict[str, str]:
    specs = {"hw_rng:allowed": "True"}
    for resource_class in (ResourceClass.MEMORY_MB, ResourceClass.DISK_GB):
        if choice.random() < 0.1:
            specs[f"resources:{resource_class.value}"] = str(choice.choice([0, 3, 700]))
    policy = choice.choice(["shared", "dedicated", "mixed", ""])
    if policy == "" and choice.random() < 0.3:
        return {**specs, "resources:VCPU": str(vcpus)}
    if policy == "mixed" and vcpus == 1:
        policy = "dedicated"
    if policy:
        specs["hw:cpu_policy"] = policy
    if policy == "mixed":
        specs["hw:cpu_dedicated_mask"] = f"^0-{choice.randint(0, vcpus - 2)}"
    if policy in ("dedicated", "mixed") and choice.random() < 0.3:
        specs["hw:emulator_threads_policy"] = "isolate"
    return specs


def _as_nova_writes(flavor: Mapping[str, Any], is_volume_backed: bool) -> str:
    """Return a domain of the flavor on a host whose CPUs from 100 on are dedicated and the others shared."""
    specs = flavor["extra_specs"]
    policy = specs.get("hw:cpu_policy")
    shared = {"dedicated": 0, "mixed": int(specs.get("hw:cpu_dedicated_mask", "-0").rpartition("-")[2]) + 1}
    first_pinned = shared.get(policy, flavor["vcpus"])
    pins = "".join(
        f"<vcpupin vcpu='{vcpu}' cpuset='{'0-3' if vcpu < first_pinned else 100 + vcpu}'/>"
        for vcpu in range(flavor["vcpus"])
    )
    emulator = "199" if "hw:emulator_threads_policy" in specs else f"{100 + flavor['vcpus'] - 1}"
    extra = "".join(
        f"<nova:extraSpec name={quoteattr(name)}>{text}</nova:extraSpec>" for name, text in specs.items()
    )
    metadata = nova_metadata(
        flavor["name"],
        vcpus=flavor["vcpus"],
        memory=flavor["memory_mb"],
        disk=flavor["root_gb"],
        ephemeral=flavor["ephemeral_gb"],
        swap=flavor["swap"],
        has_image=not is_volume_backed,
    ).replace("</nova:flavor>", f"<nova:extraSpecs>{extra}</nova:extraSpecs></nova:flavor>")
    disk = file_disk(Path("/volume"), serial=VOLUME) if is_volume_backed else ""
    cputune = f"{pins}<emulatorpin cpuset='{emulator}'/>" if policy in ("dedicated", "mixed") else ""
    domain = ElementTree.fromstring(
        guest_xml("guest", metadata=metadata, cputune=cputune, disks=[disk]).replace(
            "<memory", f"<uuid>{VOLUME}</uuid><memory", 1
        )
    )
    return ElementTree.tostring(domain, encoding="unicode")


# NUMA cells.


def test_as_many_guests_fit_into_the_cells_as_nova_puts_there(nova: NovaOracle) -> None:
    """Shows it for random hosts and flavors with pinned and shared vCPUs, pages of all kinds and ratios.

    Guests that take one cell each: for those that take several, Nova does not look for the best way. Large
    pages in one cell only: Nova keeps to the size that it found in the first cell it tried.
    """
    choice = random.Random(6)
    hosts = [_draw_host(choice) for _ in range(800)]
    if int(read_versions()["Nova"].partition(".")[0]) <= 26:
        # It let pinned guests have memory that is set aside for huge pages; Nova 31 and 34 do not.
        hosts = [host for host in hosts if not _is_pinned_without_page_size(host["flavor"])]
    truth = nova.count_fitting(hosts)
    assert sum(count > 0 for count in truth) > 150
    for host, expected in zip(hosts, truth, strict=True):
        assert _count_fitting(host) == expected, host


def test_guests_of_parts_that_differ_fit_as_nova_has_it(nova: NovaOracle) -> None:
    """Shows it for mixed guests of two cells on random hosts: Nova never puts more there, and mostly as many.

    Nova tries one guest after the other, and does not look for the best way. On a host with as many cells as
    the guest, all alike, there is one way or its mirror image.
    """
    if int(read_versions()["Nova"].partition(".")[0]) < 28:
        pytest.skip("Nova refuses guests with a cell without pinned vCPUs before 28.0 (its bug 1994526)")
    choice = random.Random(7)
    hosts = [_draw_uneven(choice) for _ in range(300)]
    truth = nova.count_fitting(hosts)
    said = [_count_fitting(host) for host in hosts]
    assert sum(count > 0 for count in truth) > 100
    assert all(count >= of_nova for count, of_nova in zip(said, truth, strict=True))
    assert sum(count == of_nova for count, of_nova in zip(said, truth, strict=True)) > 200
    # The first cell of each guest has two shared vCPUs, the second four pinned ones.
    example = {"vcpus": 6, "memory_mb": 512, "extra_specs": _uneven_specs(["0-1", "2-5"], [256, 256], "^0-1")}
    host = {**_draw_uneven(choice), "flavor": example, "cells": [_make_uneven_cell(0), _make_uneven_cell(1)]}
    assert nova.count_fitting([host]) == [4] == [_count_fitting(host)]


def test_guests_with_a_thread_policy_fit_as_nova_has_it(nova: NovaOracle) -> None:
    """Shows it for random hosts: with one thread in each core or two, and with cpu_dedicated_set or not."""
    choice = random.Random(8)
    hosts = [_draw_threads(choice) for _ in range(400)]
    truth = nova.count_fitting(hosts)
    assert sum(count > 0 for count in truth) > 100
    for host, expected in zip(hosts, truth, strict=True):
        assert _count_fitting(host) == expected, host


def _draw_threads(choice: random.Random) -> dict[str, Any]:
    threads, is_legacy = choice.choice([1, 2]), choice.random() < 0.5
    cells = []
    for number in range(choice.randint(1, 2)):
        cpus = list(range(16 * number, 16 * number + choice.choice([2, 4, 8, 16])))
        shared = choice.choice([0, 1, 2])
        cell = {
            **_make_uneven_cell(number),
            "cpuset": cpus if is_legacy else cpus[:shared],
            "pcpuset": cpus if is_legacy else cpus[shared:],
            "siblings": [cpus[start : start + threads] for start in range(0, len(cpus), threads)],
        }
        cells.append(cell)
    specs = {"hw:numa_nodes": "1", "hw:cpu_policy": "dedicated"}
    if policy := choice.choice(["require", "isolate", "prefer", ""]):
        specs["hw:cpu_thread_policy"] = policy
    return {
        "cells": cells,
        "limits": {"cpu_allocation_ratio": 4.0, "ram_allocation_ratio": 1.0},
        "flavor": {"vcpus": choice.randint(1, 5), "memory_mb": 64, "extra_specs": specs},
    }


def test_no_guest_that_needs_a_cell_fits_on_a_host_without(nova: NovaOracle) -> None:
    hosts = [{**_draw_host(random.Random(seed)), "cells": []} for seed in range(20)]
    assert nova.count_fitting(hosts) == [_count_fitting(host) for host in hosts] == [0] * 20


def _draw_uneven(choice: random.Random) -> dict[str, Any]:
    first, second = choice.randint(1, 3), choice.randint(1, 4)
    vcpus = first + second
    memory = [choice.choice([64, 128, 512]), choice.choice([64, 256])]
    specs = _uneven_specs(
        [f"0-{first - 1}", f"{first}-{vcpus - 1}"], memory, f"^0-{choice.randint(0, vcpus - 2)}"
    )
    return {
        "cells": [_make_uneven_cell(number, memory_mb=choice.choice([1024, 4096])) for number in range(2)],
        "limits": {"cpu_allocation_ratio": choice.choice([1.0, 4.0]), "ram_allocation_ratio": 1.0},
        "flavor": {"vcpus": vcpus, "memory_mb": sum(memory), "extra_specs": specs},
    }


def _uneven_specs(cpus: list[str], memory: list[int], mask: str) -> dict[str, str]:
    by_cell = {f"hw:numa_cpus.{number}": each for number, each in enumerate(cpus)}
    by_cell |= {f"hw:numa_mem.{number}": str(each) for number, each in enumerate(memory)}
    return {"hw:numa_nodes": "2", "hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": mask, **by_cell}


def _make_uneven_cell(number: int, *, memory_mb: int = 4096) -> dict[str, Any]:
    cpus = list(range(16 * number, 16 * number + 16))
    return {
        "id": number,
        "cpuset": cpus[:8],
        "pcpuset": cpus[8:],
        "siblings": [[cpu] for cpu in cpus],
        "memory": memory_mb,
        "mempages": [[4, memory_mb * 256, 0]],
    }


def _is_pinned_without_page_size(flavor: Mapping[str, Any]) -> bool:
    return "hw:cpu_policy" in flavor["extra_specs"] and "hw:mem_page_size" not in flavor["extra_specs"]


def _draw_host(choice: random.Random) -> dict[str, Any]:
    pages = choice.choice(["", "large", "2048", "1GB", "4"])
    cells = []
    for number in range(1 if pages == "large" else choice.randint(1, 3)):
        cpus = list(range(16 * number, 16 * number + choice.choice([2, 4, 8, 16])))
        shared = choice.choice([0, 1, 2, len(cpus) // 2])
        mempages = [
            [4, choice.choice([512, 1024, 2048, 3000]) * 256, choice.choice([0, 0, 100, 10**9])],
            [2048, choice.choice([0, 8, 100, 1000]), choice.choice([0, 0, 1, 7, 64])],
            [2**20, choice.choice([0, 1]), choice.choice([0, 0, 0, 1])],
        ]
        cells.append(
            {
                "id": number,
                "cpuset": cpus[:shared],
                "pcpuset": cpus[shared:],
                "siblings": [cpus[start : start + 2] for start in range(0, len(cpus), 2)],
                # As libvirt has it: what is not set aside for large pages are small ones.
                "memory": sum(size_kib * total for size_kib, total, _ in mempages) // 1024,
                "mempages": mempages,
            }
        )
    vcpus = choice.randint(1, 6)
    specs = {"hw:numa_nodes": "1"}
    if policy := choice.choice(["dedicated", "mixed", ""]):
        specs["hw:cpu_policy"] = policy if vcpus > 1 else "dedicated"
    if specs.get("hw:cpu_policy") == "mixed":
        specs["hw:cpu_dedicated_mask"] = f"^0-{choice.randint(0, vcpus - 2)}"
    if pages:
        specs["hw:mem_page_size"] = pages
    memory_mb = choice.choice([16, 100, 101, 256, 1024])
    return {
        "cells": cells,
        "limits": {
            "cpu_allocation_ratio": choice.choice([1.0, 2.5, 4.0]),
            "ram_allocation_ratio": choice.choice([1.0, 1.5]),
        },
        "flavor": {"vcpus": vcpus, "memory_mb": memory_mb, "extra_specs": specs},
    }


def _count_fitting(host: Mapping[str, Any]) -> int:
    """Return the exporter's slots on a host that has plenty of all but its cells."""
    topology = [
        HostNumaCell(
            id=cell["id"],
            cpus=frozenset(cell["cpuset"] + cell["pcpuset"]),
            cpuset=frozenset(cell["cpuset"]),
            pcpuset=frozenset(cell["pcpuset"]),
            memory_kib=cell["memory"] * 1024,
            memory_free_bytes=None,
            mempages=tuple(
                MemoryPages(size_kib=size, total=total, free=None, reserved=reserved)
                for size, total, reserved in cell["mempages"]
            ),
            pinned_cpus=frozenset(),
            siblings=tuple(frozenset(siblings) for siblings in cell["siblings"]),
        )
        for cell in host["cells"]
    ]
    options = HypervisorConfig(uri="test:///default", **host["limits"])
    rooms = get_cell_rooms(topology, options, claims=(), still_to_come=(), isolated_cpus=frozenset())
    plenty = [make_inventory(each, 10**9) for each in ResourceClass]
    (found,) = get_flavor_slots([_make_flavor(host["flavor"])], plenty, rooms)
    return found.slots


def _make_flavor(flavor: Mapping[str, Any]) -> Flavor:
    specs = flavor["extra_specs"]
    shared = {"dedicated": 0, "mixed": int(specs.get("hw:cpu_dedicated_mask", "-0").rpartition("-")[2]) + 1}
    vcpus = shared.get(specs.get("hw:cpu_policy"), flavor["vcpus"])
    pages = specs.get("hw:mem_page_size")
    return Flavor(
        name="drawn",
        vcpus=vcpus,
        pcpus=flavor["vcpus"] - vcpus,
        memory_mb=flavor["memory_mb"],
        disk_gb=0,
        numa_cells=int(specs["hw:numa_nodes"]),
        page_size_kib=None if pages is None else PAGE_SIZE.parse(pages),
        layout=_make_layout(specs, shared=vcpus),
        cpu_thread_policy=specs.get("hw:cpu_thread_policy"),
    )


def _make_layout(specs: Mapping[str, str], *, shared: int) -> tuple[FlavorCell, ...]:
    """Return what each cell of a guest needs whose first vCPUs are shared; nothing if they are alike."""
    cells = []
    for number in range(int(specs["hw:numa_nodes"])):
        if f"hw:numa_mem.{number}" not in specs:
            return ()
        cpus = parse_cpu_spec(specs[f"hw:numa_cpus.{number}"])
        vcpus = sum(cpu < shared for cpu in cpus)
        memory_kib = int(specs[f"hw:numa_mem.{number}"]) * 1024
        cells.append(FlavorCell(vcpus=vcpus, pcpus=len(cpus) - vcpus, memory_kib=memory_kib))
    return tuple(cells)


# A real libvirtd, with guests of all kinds.


FLAVORS = {
    "m1.small": {"vcpus": 1, "memory_mb": 64, "disk_gb": 1},
    "pinned": {"vcpus": 1, "memory_mb": 64, "disk_gb": 0, "pinned": True},
}
OPTIONS = {
    "cpu_shared_set": ONLINE,
    "cpu_dedicated_set": ALL_ONLINE,
    "cpu_allocation_ratio": 32.0,
    "disk_allocation_ratio": 64.0,
}


def _define_guests(libvirtd: LibvirtDaemon) -> None:
    images = libvirtd.images
    root = make_qcow2(images / "root", GIB)
    libvirtd.start_guest(
        guest_xml(
            "running",
            metadata=nova_metadata("m1.large", vcpus=4, memory=512, disk=10, ephemeral=5, swap=1025),
            disks=[file_disk(root)],
        )
    )
    libvirtd.define(
        guest_xml(
            "older",
            metadata=nova_metadata("m0.old", vcpus=2, memory=100, disk=3, version="1.0"),
            vcpus=1,
        )
    )
    libvirtd.define(
        guest_xml(
            "volume-backed",
            metadata=nova_metadata("m1.large", vcpus=4, memory=512, disk=10, has_image=False),
            disks=[file_disk(images / "volume", format="raw", serial=VOLUME)],
        )
    )
    libvirtd.define(
        guest_xml(
            "passed-through",
            metadata=nova_metadata("m1.large", vcpus=4, memory=512, disk=10, has_image=False),
            disks=[block_disk(Path("/dev/no-such-volume"), device="lun")],
        )
    )
    libvirtd.define(
        guest_xml(
            "pinned",
            metadata=nova_metadata("c1", vcpus=1, memory=10, disk=0),
            cputune=f"<vcpupin vcpu='0' cpuset='{ONLINE}'/>",
        )
    )
    libvirtd.define(
        guest_xml(
            "by-hand",
            vcpus=1,
            max_vcpus=3,
            memory_mib=48,
            disks=[
                file_disk(make_qcow2(images / "thin", 2 * GIB + 1)),
                file_disk(make_raw(images / "sparse", GIB), format="raw", target="vdb"),
            ],
        )
    )
    libvirtd.define(
        guest_xml("broken", metadata=nova_metadata("m1.odd", vcpus="many", memory=1, disk=1), memory_mib=32)
    )


def _read_classes(scrape: Scrape, name: str) -> dict[str, float]:
    return {labels["resource_class"]: value for labels, value in scrape.series(name)}


def test_guests_of_all_kinds_claim_what_they_are_due(libvirtd: LibvirtDaemon) -> None:
    """Shows both namespaces, none, broken metadata, volumes to boot from, pinning; most are shut off.

    The broken one costs only itself: it claims what libvirt gives it, and is told of.
    """
    with _serve(libvirtd, **OPTIONS) as exporter:
        before = exporter.scrape()
        _define_guests(libvirtd)
        scrape = exporter.scrape()
        later = exporter.scrape()

    assert set(_read_classes(before, "hypervisor_claimed").values()) == {0}
    assert _read_classes(scrape, "hypervisor_claimed") == {
        "VCPU": 4 + 2 + 4 + 4 + 0 + 3 + 1,
        "PCPU": 1,
        "MEMORY_MB": 512 + 100 + 512 + 512 + 10 + 48 + 32,
        "DISK_GB": (10 + 5 + 2) + 3 + 0 + 0 + 0 + 4 + 0,
    }
    errors = [each.value("hypervisor_refresh_errors_total", reason="metadata") for each in (before, later)]
    assert errors[0] == 0
    assert errors[1] >= 1
    assert later.value("hypervisor_up") == 1
    lines = [line for line in later.log.splitlines() if "broken" in line]
    assert len(lines) == 1, later.log
    assert "<nova:vcpus> is 'many'" in lines[0]


def test_as_many_guests_of_a_flavor_can_be_defined_as_there_are_slots(libvirtd: LibvirtDaemon) -> None:
    """Shows that every guest of a flavor takes one slot of it, down to none, and that nothing goes below."""
    with _serve(libvirtd, **{**OPTIONS, "cpu_allocation_ratio": 3.0}) as exporter:
        seen = []
        for number in range(5):
            scrape = exporter.scrape()
            seen.append(scrape.value("hypervisor_flavor_slots", flavor="m1.small"))
            limits = _read_limits(scrape, "m1.small")
            libvirtd.define(
                guest_xml(f"guest{number}", metadata=nova_metadata("m1.small", vcpus=1, memory=64, disk=1))
            )
    assert seen == [3, 2, 1, 0, 0]
    assert limits == {"VCPU"}


def _read_limits(scrape: Scrape, flavor: str) -> set[str]:
    return {
        labels["resource_class"]
        for labels, value in scrape.series("hypervisor_flavor_slots_limited_by")
        if labels["flavor"] == flavor and value
    }


def test_a_pinned_guest_takes_the_slot_of_another_until_it_is_undefined(libvirtd: LibvirtDaemon) -> None:
    options = {"cpu_shared_set": ONLINE, "cpu_dedicated_set": ONLINE}
    with _serve(libvirtd, **options) as exporter:
        before = exporter.scrape().value("hypervisor_flavor_slots", flavor="pinned")
        guest = libvirtd.define(guest_xml("pinned", cputune=f"<vcpupin vcpu='0' cpuset='{ONLINE}'/>"))
        taken = exporter.scrape()
        guest.undefine()
        after = exporter.scrape().value("hypervisor_flavor_slots", flavor="pinned")
    assert (before, after) == (1, 1)
    assert taken.value("hypervisor_flavor_slots", flavor="pinned") == 0
    assert _read_limits(taken, "pinned") == {"PCPU"}


def test_flavors_are_learnt_from_guests(libvirtd: LibvirtDaemon) -> None:
    """Shows that each readable flavor is there once, beside those of the configuration."""
    _define_guests(libvirtd)
    with _serve(libvirtd, **OPTIONS) as exporter:
        scrape = exporter.scrape()
    names = [labels["flavor"] for labels, _ in scrape.series("hypervisor_flavor_slots")]
    assert sorted(names) == ["c1", "m0.old", "m1.large", "m1.small", "pinned"]


def test_none_of_it_costs_a_warm_scrape_a_call_to_libvirt(libvirtd: LibvirtDaemon) -> None:
    """Shows that the calls of a warm scrape are the same with and without flavors, guests and collectors."""
    with _serve(libvirtd, **OPTIONS) as exporter:
        exporter.scrape()
        without_guests = exporter.scrape().value("hypervisor_refresh_libvirt_calls")
        _define_guests(libvirtd)
        exporter.scrape()
        with_guests = exporter.scrape().value("hypervisor_refresh_libvirt_calls")
    with _serve(libvirtd, flavors={}, **OPTIONS) as exporter:
        exporter.scrape()
        without_flavors = exporter.scrape("/metrics?collect[]=domains").value(
            "hypervisor_refresh_libvirt_calls"
        )
    assert without_guests == with_guests == without_flavors


@contextmanager
def _serve(
    libvirtd: LibvirtDaemon, *, flavors: Mapping[str, Any] = FLAVORS, **options: Any
) -> Iterator[RunningExporter]:
    """Serve with these options of the hypervisor's, every scrape reading anew."""
    settings = {
        "cache_ttl": "0s",
        "resync_interval": "1h",
        "flavors": flavors,
        "flavors_from_guests": bool(flavors),
        "hypervisors": [{"uri": libvirtd.uri_read_only, "instances_path": str(libvirtd.images), **options}],
    }
    with serve(settings) as exporter:
        yield exporter

"""Storage that hypervisors share, on the page, in the table and in JSON: once in every total."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FlavorSlots, HostView, ResourceClass, Storage
from exporter.page.document import render_json
from exporter.page.fleet import Fleet, make_fleet
from exporter.page.table import render_table
from exporter.page.text_table import Medium
from exporter.web.page import render_page
from tests.support.records import GIB, make_inventory, make_snapshot, make_storage_identity, make_view

NFS = "nfs:nfs01:/export/nova"


def view(
    target: str,
    *,
    storage_id: str | None = NFS,
    size: int = 1000,
    used: int = 250,
    free: int = 740,
    growth: int | None = 100,
    capacity: int = 1000,
    claimed: int | None = 300,
    slots: int = 20,
    request: int = 30,
    **changes: Any,
) -> HostView:
    """Return the view of a host on an NFS export of 1000 GiB; all amounts are in GiB."""
    identity = make_storage_identity(id=storage_id) if storage_id is not None else None
    flavor = FlavorSlots(
        flavor="m1.disk",
        slots=slots,
        limited_by=frozenset({ResourceClass.VCPU}),
        request={ResourceClass.DISK_GB: request} if request else {},
    )
    inventory = make_inventory(ResourceClass.DISK_GB, capacity, claimed=claimed)
    resources = {
        "hypervisor_hostname": target,
        "storage": Storage(size_bytes=size * GIB, used_bytes=used * GIB, free_bytes=free * GIB),
        "storage_identity": identity,
        "storage_overcommitted_bytes": None if growth is None else growth * GIB,
        "inventories": (inventory,),
        "flavor_slots": (flavor,),
        **changes,
    }
    return make_view(target=target, snapshot=make_snapshot(target=target, **resources), age_seconds=3.0)


def of_page(fleet: Fleet) -> str:
    return render_page(fleet, metrics_path="/metrics", address="kvm01:9177").body.decode()


def test_a_shared_storage_is_in_the_totals_once_with_the_growth_and_the_claims_of_all() -> None:
    """It was read at different moments: the smaller size, the larger use and the smaller capacity count."""
    fleet = make_fleet(
        [
            view("a", growth=400, claimed=500),
            view("b", used=260, free=730, growth=350, capacity=980, claimed=400),
            view("c", storage_id="host:c", size=100, used=10, free=90, growth=5, capacity=100, claimed=60),
        ]
    )
    disk = fleet.disk
    assert (disk.total, disk.used, disk.free) == (1100 * GIB, 270 * GIB, 820 * GIB)
    assert (disk.capacity, disk.claimed, disk.growth) == (1080 * GIB, 960 * GIB, 755 * GIB)
    (storage,) = fleet.storages
    assert (storage.id, storage.names) == (NFS, ("a", "b"))
    # Neither of the two promises more than is free. Both together do.
    assert storage.amount.over == 20 * GIB
    assert all(row.disk.amount.over == 0 for row in fleet.rows)


def test_a_hypervisors_own_numbers_stay_novas() -> None:
    rows = {row.name: row for row in make_fleet([view("a"), view("b", claimed=700)]).rows}
    assert rows["b"].disk.amount.total == 1000 * GIB
    assert rows["b"].disk.amount.claimed == 700 * GIB
    assert (rows["a"].sharers, rows["b"].sharers) == (2, 2)


def test_one_that_offers_nothing_does_not_close_the_storage_for_the_others() -> None:
    fleet = make_fleet([view("a", capacity=0), view("b")])
    assert fleet.disk.capacity == 1000 * GIB
    assert make_fleet([view("a", capacity=0), view("b", capacity=0)]).disk.capacity == 0


def test_slots_are_no_more_than_the_storage_has_room_for() -> None:
    """1000 GiB less 900 have room for 3 guests of 30 GiB; a flavor that claims no disk is not limited."""
    views = [view("a", claimed=500), view("b", claimed=400, slots=5)]
    (room,) = make_fleet([*views, view("c", storage_id=None, slots=2)]).flavors
    assert (room.slots, room.best_slots) == (3 + 2, 3)
    (room,) = make_fleet([view("a", claimed=600), view("b", claimed=600)]).flavors
    assert room.slots == 0
    (room,) = make_fleet([view("a", claimed=600, request=0), view("b", claimed=600, request=0)]).flavors
    assert (room.slots, room.best_slots) == (40, 20)


def test_what_is_not_known_of_one_is_not_known_of_the_growth_and_left_out_of_the_claims() -> None:
    fleet = make_fleet([view("a"), view("b", growth=None, claimed=None)])
    assert (fleet.disk.total, fleet.disk.claimed, fleet.disk.growth) == (1000 * GIB, 300 * GIB, None)
    # Its mount hangs: that it shares the storage is known, and nothing else.
    fleet = make_fleet([view("a", storage=None), view("b")])
    assert (fleet.disk.total, fleet.disk.claimed, fleet.disk.growth) == (1000 * GIB, 300 * GIB, None)


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "nfs", "ceph", "own"]), st.integers(0, 1200), st.integers(0, 90)),
        max_size=8,
    )
)
def test_no_storage_is_counted_twice_and_none_is_lost(hosts: list[tuple[str | None, int, int]]) -> None:
    views, storages, claims = [], set(), 0
    for number, (kind, claimed, slots) in enumerate(hosts):
        storage_id = f"host:{number}" if kind == "own" else kind
        storages.add(storage_id or f"unknown {number}")
        claims += claimed
        views.append(view(f"kvm{number}", storage_id=storage_id, claimed=claimed, slots=slots))
    fleet = make_fleet(views)
    assert (fleet.disk.total or 0) == 1000 * GIB * len(storages)
    assert (fleet.disk.capacity or 0) == 1000 * GIB * len(storages)
    assert (fleet.disk.claimed or 0) == claims * GIB
    for room in fleet.flavors:
        assert room.best_slots <= room.slots <= sum(slots for _, _, slots in hosts)


def test_the_page_says_whose_storage_it_is() -> None:
    fleet = make_fleet(
        [view("a"), view("b"), view("c"), view("d", storage_id="host:d"), view("e", storage_id="ceph")]
    )
    page = of_page(fleet)
    assert page.count(f"shared with 2 others: {NFS}") == 3
    assert "3 hypervisors: a, b, c" in page
    assert "The storage that 3 hypervisors share counts once." in page
    assert page.count("on ceph") == 1
    assert "host:d" not in page
    # The heading of the storages is gone where there are none.
    assert "Shared storage</h2>" in page
    assert "Shared storage</h2>" not in of_page(make_fleet([view("a")]))


def test_of_many_that_share_only_some_are_named() -> None:
    views = [view(f"kvm{number:02}", storage_id=storage) for number in range(12) for storage in ("nfs",)]
    assert "12 hypervisors: kvm00, kvm01, kvm02, kvm03, kvm04, kvm05, kvm06, kvm07 and 4 more" in of_page(
        make_fleet(views)
    )
    page = of_page(make_fleet([view("a"), view("b"), view("c", storage_id="x"), view("d", storage_id="x")]))
    assert "The 2 storages that 4 hypervisors share count once each." in page


def test_the_table_says_it_too() -> None:
    text = render_table(make_fleet([view("a"), view("b"), view("c", storage_id="host:c")]), Medium())
    header, *rows = text.split("\n\n")[1].splitlines()
    column = header.index("SHARED")
    assert [row[column : column + 5].strip() for row in rows] == ["by 2", "by 2", "", "once"]
    assert "The storage that 2 hypervisors share counts once.\n" in text
    assert f"  {NFS}: 250 GiB of 1 TiB used, 60 % claimed; 2 hypervisors: a, b\n" in text
    assert "SHARED" not in render_table(make_fleet([view("a")]), Medium())


def test_the_document_has_them() -> None:
    document = json.loads(render_json(make_fleet([view("a"), view("b", storage_id=None)]), now=1.75e9))
    assert document["fleet"]["shared_storages"] == []
    storages = {each["target"]: each["storage"] for each in document["hypervisors"]}
    assert storages == {
        "a": {"id": NFS, "kind": "nfs", "source": "nfs01:/export/nova", "hypervisors": 1},
        "b": None,
    }
    document = json.loads(render_json(make_fleet([view("a"), view("b")]), now=1.75e9))
    (storage,) = document["fleet"]["shared_storages"]
    assert (storage["id"], storage["hypervisors"]) == (NFS, ["a", "b"])
    assert storage["disk"] == document["fleet"]["disk"]
    assert storage["disk"]["claimed_bytes"] == 600 * GIB


def test_a_storages_name_is_plain_text() -> None:
    """It comes from mounts and libvirt: anything may be in it."""
    page = of_page(make_fleet([view("a", storage_id="<b>\n"), view("b", storage_id="<b>\n")]))
    assert "<b>\n" not in page.partition("Shared storage</h2>")[2].partition("</h3>")[0]
    assert re.search(r"&lt;b&gt;\\n</h3>", page)

"""Which storage a hypervisor's numbers are of."""

from __future__ import annotations

import pytest

from exporter.model import StorageIdentity
from exporter.virt.storage.identity import StorageSource, make_id, make_storage_identity

NFS = StorageSource(kind="nfs", source="NFS01:/nova/", shared_id="nfs:nfs01:/nova")
LOCAL = StorageSource(kind="file system", source="/var/lib/nova/instances")


def test_shared_storage_has_the_same_id_on_each_hypervisor() -> None:
    first = make_storage_identity(NFS, hostname="kvm01", storage_id=None)
    second = make_storage_identity(NFS, hostname="kvm02", storage_id=None)
    assert first == second == StorageIdentity(id="nfs:nfs01:/nova", kind="nfs", source="NFS01:/nova/")


def test_what_is_not_known_to_be_shared_has_the_hosts_own_id() -> None:
    first = make_storage_identity(LOCAL, hostname="kvm01", storage_id=None)
    second = make_storage_identity(LOCAL, hostname="kvm02", storage_id=None)
    assert first == StorageIdentity(id="host:kvm01", kind="file system", source="/var/lib/nova/instances")
    assert second is not None
    assert second.id == "host:kvm02"


@pytest.mark.parametrize("found", [NFS, LOCAL])
def test_the_id_of_the_configuration_replaces_any_other(found: StorageSource) -> None:
    identity = make_storage_identity(found, hostname="kvm01", storage_id="san01/vms")
    assert identity == StorageIdentity(id="san01/vms", kind=found.kind, source=found.source)


def test_what_was_not_found_has_no_identity_but_the_configured_one() -> None:
    assert make_storage_identity(None, hostname="kvm01", storage_id=None) is None
    assert make_storage_identity(None, hostname="kvm01", storage_id="san01/vms") == StorageIdentity(
        id="san01/vms", kind="storage_id", source="san01/vms"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x" * 300 + "a", "x" * 300 + "b"),
        ("a\nb", "a\tb"),
        ("a\ud800", "a\udfff"),
        ("x" * 120 + "\n", "x" * 120 + "\t"),
    ],
)
def test_ids_that_a_label_cannot_hold_stay_different(first: str, second: str) -> None:
    ids = {make_id("nfs", first), make_id("nfs", second)}
    assert len(ids) == 2
    for each in ids:
        assert len(each) <= 128
        assert each.isprintable()


def test_kind_and_source_are_cut_to_what_a_label_holds() -> None:
    identity = make_storage_identity(
        StorageSource(kind="nfs", source="nfs01:/" + "x" * 300), hostname="kvm01", storage_id=None
    )
    assert identity is not None
    assert len(identity.source) == 128

"""Which storage the numbers are of: one id, equal on all hypervisors that see the same storage.

There is no guess. Storage that is not known to be shared has an id of its own on each hypervisor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from exporter.label import MAX_LABEL_LENGTH, make_label_value
from exporter.model import StorageIdentity

_DIGEST_LENGTH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageSource:
    """What storage is, as one hypervisor sees it.

    :ivar kind: "file system", "nfs", "rbd", …
    :ivar source: where it is, for people
    :ivar shared_id: its id if other hypervisors can see it too; None if nothing says so
    """

    kind: str
    source: str
    shared_id: str | None = None


def make_storage_identity(
    found: StorageSource | None, *, hostname: str, storage_id: str | None
) -> StorageIdentity | None:
    """Return the identity of a hypervisor's storage; None if nothing is known of it.

    :param found: what was found; None if it was not found yet
    :param hostname: the hypervisor's, which no other hypervisor has
    :param storage_id: the id of the configuration, which replaces any other
    """
    if found is None:
        if storage_id is None:
            return None
        found = StorageSource(kind="storage_id", source=storage_id)
    own_id = make_id("host", hostname)
    return StorageIdentity(
        id=storage_id or found.shared_id or own_id,
        kind=make_label_value(found.kind),
        source=make_label_value(found.source),
    )


def make_id(kind: str, *parts: str) -> str:
    """Return an id as a label value: "nfs:nfs01:/export/nova".

    If a label value cannot hold it, it is cut and ends with a digest. So two different ones stay different.
    """
    text = ":".join((kind, *parts))
    if make_label_value(text) == text:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    beginning = make_label_value(text[: MAX_LABEL_LENGTH - _DIGEST_LENGTH - 1])
    return f"{beginning}#{digest}"

"""Guests that move from one libvirtd of this machine to another, by a Unix socket."""

from __future__ import annotations

from typing import Any

import libvirt

from tests.support.libvirtd import LibvirtDaemon

# A host UUID of its own, without which libvirt takes the two for one, and moves nothing.
OTHER_HOST = 'listen_tls = 0\nhost_uuid = "5f4e5a5a-0a3f-4d3e-8a52-1c6d6a1c9c11"\n'

# Its disk is a file that both see, which they do not know. As Nova has it, it is defined where it runs.
_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_UNSAFE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


def migrate(source: LibvirtDaemon, destination: LibvirtDaemon, name: str) -> Any:
    """Move a running guest, and return it as the destination has it. It takes two seconds.

    :param destination: started with `OTHER_HOST` among its settings, if the source was not
    """
    where = {libvirt.VIR_MIGRATE_PARAM_URI: f"unix:{destination.sandbox.root}/migration.sock"}
    domain = source.connection.lookupByName(name)
    return domain.migrate3(destination.connection, where, _FLAGS)

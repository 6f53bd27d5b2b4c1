"""What tests do to a hypervisor, whichever it is: each function takes a connection, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def perform(connection: Any, operation: str, *arguments: str) -> None:
    """Do one of the operations below, by its name.

    :raises libvirt.libvirtError: when libvirt objects
    """
    OPERATIONS[operation](connection, *arguments)


def remove_domains(connection: Any) -> None:
    """Remove all domains; libvirt's test driver starts with one."""
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefine()


def remove_pools(connection: Any) -> None:
    """Remove all storage pools; libvirt's test driver starts with one."""
    for pool in connection.listAllStoragePools():
        pool.destroy()
        pool.undefine()


def define(connection: Any, xml: str) -> None:
    """Define a domain; it stays shut off."""
    connection.defineXML(xml)


def start(connection: Any, name: str) -> None:
    """Start a domain."""
    connection.lookupByName(name).create()


def suspend(connection: Any, name: str) -> None:
    """Pause a domain."""
    connection.lookupByName(name).suspend()


def resume(connection: Any, name: str) -> None:
    """Let a paused domain go on."""
    connection.lookupByName(name).resume()


def destroy(connection: Any, name: str) -> None:
    """Switch a domain off; its definition stays."""
    connection.lookupByName(name).destroy()


def undefine(connection: Any, name: str) -> None:
    """Remove a domain's definition."""
    connection.lookupByName(name).undefine()


def define_pool(connection: Any, xml: str) -> None:
    """Define a storage pool and start it."""
    connection.storagePoolDefineXML(xml).create()


def create_volume(connection: Any, pool: str, xml: str) -> None:
    """Create a volume in a pool."""
    connection.storagePoolLookupByName(pool).createXML(xml)


OPERATIONS: dict[str, Callable[..., None]] = {
    operation.__name__: operation
    for operation in (
        remove_domains,
        remove_pools,
        define,
        start,
        suspend,
        resume,
        destroy,
        undefine,
        define_pool,
        create_volume,
    )
}

"""The exporter for hypervisors of libvirt's test driver. Each hypervisor gets its own host name.

The test driver answers with the machine's host name, so that all of them would be refused as the first one's
duplicates. Here the name of a hypervisor's file is put after it. Paths of the test driver lead nowhere, so
that the exporter would ask its pools; here they are read, as those of a real hypervisor are. Nothing else
differs from the real command.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import Any

from exporter import cli
from exporter.config.settings import HypervisorConfig
from exporter.virt import hypervisor
from exporter.virt.hypervisor import LibvirtHypervisor


class NamedHypervisor(LibvirtHypervisor):
    """A hypervisor of the test driver, test:///PATH/NAME.xml."""

    def __init__(self, uri: str, *more: Any) -> None:
        super().__init__(uri, *more)
        self._name = PurePath(uri).stem

    def get_hostname(self) -> str:
        """Return the machine's host name and the file's name."""
        return f"{super().get_hostname()}-{self._name}"


if __name__ == "__main__":
    is_local = HypervisorConfig.is_local
    hypervisor.LibvirtHypervisor = NamedHypervisor  # type: ignore[misc]
    HypervisorConfig.is_local = property(lambda self: self.is_embedded or is_local.fget(self))  # type: ignore[assignment, method-assign, attr-defined]
    sys.exit(cli.main())

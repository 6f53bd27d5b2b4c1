"""Guests that run Linux: Debian's kernel and busybox, which scripts/fetch-guest-kernel gets.

They boot in a few seconds, and then only tell libvirt of their memory, as a guest with a balloon driver does.
"""

from __future__ import annotations

import functools
import lzma
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import guest_xml
from tests.support.libvirtd import LibvirtDaemon

_FETCHED = Path(__file__).resolve().parents[2] / ".cache" / "guest-kernel"

MEMORY_MIB = 128

# The drivers of the balloon and of where it is plugged in. A kernel may have some of them built in.
_DRIVERS = ("virtio_pci", "virtio_balloon")

# The kernel's command line has `filled=MEBIBYTES`, which becomes a variable of the first process.
_INIT = """#!/busybox sh
for module in {modules}; do /busybox insmod /$module; done
/busybox dd if=/dev/zero of=/filled bs=1M count=$filled
while :; do /busybox sleep 1000; done
"""


def start_linux_guest(
    libvirtd: LibvirtDaemon, name: str, *, filled_mib: int = 0, period_seconds: int | None = 1
) -> Any:
    """Start a guest of `MEMORY_MIB` that tells libvirt of its memory. If it cannot be had, skip the test.

    :param filled_mib: how much of its memory it fills
    :param period_seconds: how often QEMU asks it; None: never, as libvirt does by itself
    """
    if not (_FETCHED / "vmlinuz").exists():
        reason = _FETCHED.with_suffix(".missing")
        why = reason.read_text().strip() if reason.exists() else "scripts/fetch-guest-kernel was not run"
        pytest.skip(f"a kernel for guests is not here: {why}")
    initrd = libvirtd.images / "initrd"
    initrd.write_bytes(_initrd())
    boot = (
        f"<kernel>{_FETCHED / 'vmlinuz'}</kernel><initrd>{initrd}</initrd>"
        f"<cmdline>quiet panic=1 filled={filled_mib}</cmdline>"
    )
    period = "" if period_seconds is None else f"<stats period='{period_seconds}'/>"
    balloon = f"<memballoon model='virtio'>{period}</memballoon>"
    return libvirtd.start_guest(guest_xml(name, memory_mib=MEMORY_MIB, boot=boot, balloon=balloon))


@functools.cache
def _initrd() -> bytes:
    """Return the archive that the kernel unpacks and starts `/init` of."""
    modules: dict[str, bytes] = {}
    for driver in _DRIVERS:
        _add_module(modules, driver)
    executable = stat.S_IFREG | 0o755
    return b"".join(
        (
            _entry("dev", stat.S_IFDIR | 0o755),
            _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            _entry("dev/zero", stat.S_IFCHR | 0o600, device=(1, 5)),
            _entry("busybox", executable, (_FETCHED / "busybox").read_bytes()),
            _entry("init", executable, _INIT.format(modules=" ".join(modules)).encode()),
            *(_entry(name, stat.S_IFREG | 0o644, content) for name, content in modules.items()),
            _entry("TRAILER!!!", 0),
        )
    )


def _add_module(modules: dict[str, bytes], name: str) -> None:
    """Add a module behind those that it needs, which it names itself."""
    content = _read_module(name)
    if not content or name in modules:
        return
    needed = re.search(rb"\0depends=([^\0]*)", content)
    for each in needed[1].decode().split(",") if needed else ():
        _add_module(modules, each)
    modules[name] = content


def _read_module(name: str) -> bytes:
    plain, compressed = _FETCHED / f"{name}.ko", _FETCHED / f"{name}.ko.xz"
    if compressed.exists():  # from Debian 13 on
        return lzma.decompress(compressed.read_bytes())
    return plain.read_bytes() if plain.exists() else b""


def _entry(name: str, mode: int, content: bytes = b"", *, device: tuple[int, int] = (0, 0)) -> bytes:
    """Return a member of a cpio archive of the kind "newc", which the kernel reads."""
    path = name.encode() + b"\0"
    # Number, mode, owner, group, links, time, size, device (2), the device it is (2), the name's length, sum.
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

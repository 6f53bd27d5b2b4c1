"""Where the target paths of storage pools lie, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.model import StoragePool
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.masks import find_mask
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.storage.mounted import Mounted, find_mounted, read_mounted, read_volume_group
from exporter.virt.storage.pool_identity import see_pool
from exporter.virt.storage.pools import SeenPool


class PoolPlaces:
    """Looks where pools lie. A path that hangs lies where it was last seen. Not thread-safe.

    :param hung_reads: remembers hung reads of files
    :param clock: monotonic seconds
    """

    def __init__(self, hung_reads: HungReads, *, clock: Callable[[], float]) -> None:
        self._reader = FileReader(_read_place, path=str, hung=hung_reads, clock=clock)
        self._known: dict[str, Mounted | None] = {}

    def see(
        self, pools: Sequence[StoragePool], refresh_timeout: RefreshTimeout, *, hostname: str
    ) -> tuple[tuple[SeenPool, ...], bool]:
        """Return pools of a hypervisor on this machine, and whether each is seen where it lies."""
        paths = sorted({path for pool in pools if (path := _get_folder(pool)) is not None})
        hung: set[str] = set()
        for path, mounted in zip(paths, self._reader.run(paths, refresh_timeout), strict=True):
            if not isinstance(mounted, Hung):
                self._known[path] = mounted
            elif path not in self._known:
                hung.add(path)
        self._known = {path: self._known[path] for path in paths if path in self._known}
        return tuple(self._see(pool, hostname) for pool in pools), not hung

    def _see(self, pool: StoragePool, hostname: str) -> SeenPool:
        path = _get_folder(pool)
        mounted = None if path is None else self._known.get(path)
        source = pool.source
        if source is not None and source.type == "netfs" and source.target_path:
            mounted = find_mounted(source.target_path)
        volume_group = None
        if source is not None and source.type == "logical" and source.name:
            volume_group = read_volume_group(source.name)
        return see_pool(pool, hostname=hostname, mounted=mounted, volume_group=volume_group)


def _read_place(path: str) -> Mounted | None:
    """Return the file system that holds a path; None if it is not known, or not the host's. May hang.

    Folders that a sandbox hides lie on one file system: that of the sandbox.
    """
    return read_mounted(path) if find_mask(path) is None else None


def _get_folder(pool: StoragePool) -> str | None:
    """Return the target path that has to be looked at. That of netfs is a mount point, which says enough."""
    source = pool.source
    return source.target_path or None if source is not None and source.type in ("dir", "fs") else None

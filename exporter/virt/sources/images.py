"""Images: how large each guest's disks can grow. If a file can be read here, its header has the size.

An unprivileged exporter may stat its host's images but not open them. Images of a remote hypervisor are not
here at all. stat gives the allocated size on each scrape. The full size almost never changes, so libvirt is
asked for it once: for the storage volume at this path, which asks no guest. Only if no storage pool has the
image, the guest is asked (virDomainGetBlockInfo). That takes its job and asks its monitor. So it is done once
for each image, again if the file or the guest's disk changes, and every hour. A frozen guest does not answer
until it continues. Until then the call holds the guest's job, even after this process has ended. So only a
few guests may hang at once, whichever client asked them. If a size is known already, only a guest that is
seen to run is asked (exporter.virt.guests.liveness).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from exporter.compute.source import Job, Settings, Source
from exporter.errors import ConnectionLostError, HypervisorError, NoAnswerError
from exporter.model import Disk, Guest, ImageSize, UnsizedImage
from exporter.virt.calls import WaitingHypervisor
from exporter.virt.files import FileReader, Hung, HungReads
from exporter.virt.guests.calls import GuestCalls, GuestJob
from exporter.virt.guests.disks import ImageReader, UnopenedImage
from exporter.virt.guests.liveness import Liveness
from exporter.virt.masks import find_mask
from exporter.virt.refresh_timeout import RefreshTimeout
from exporter.virt.storage.volumes import VolumeSizes

ASK_SECONDS = 60.0
# If an image without a storage pool is enlarged in place, only asking its guest again shows this.
ASK_GUEST_AGAIN_SECONDS = 3600.0
# Wait this long after an error, or if the size is known and the guest does not run, for example because it is
# paused. A guest that did not answer is asked sooner.
RETRY_SECONDS = 60.0
RETRY_GUEST_SECONDS = 5.0
# The number of guests whose monitors may hang at once. Above that, a guest is asked only if it is seen to
# run, and this is checked again soon. (A guest may freeze just after it was seen to run: then one more may
# hang.)
MAX_HUNG_GUESTS = 2
MAX_HUNG_RUNNING_GUESTS = 3
LOOK_AGAIN_SECONDS = 1.0
# A volume's size almost never changes, so libvirt is asked for it again only this often.
MAX_AGE_RESYNCS = 5
_KIND = "image sizes"
_DOES_NOT_ANSWER = "its size is not known, because the guest does not answer"
_MAY_NOT_ANSWER = (
    "its size is not asked for, because other guests do not answer and this one is not seen to run"
)


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image whose size scrapes need.

    :ivar seen: what this process can see of it; None if nothing, for example on another machine
    """

    disk: Disk
    seen: UnopenedImage | None

    @property
    def file(self) -> tuple[int, int] | None:
        """Identifies the file, if another one gets the same path."""
        return None if self.seen is None else self.seen.file


@dataclass(frozen=True, slots=True)
class _Known:
    size: ImageSize | UnsizedImage
    file: tuple[int, int] | None
    ask_again_at: float
    told_at: float


class Images(Source):
    """The sizes of all guests' images: read by this process if possible, else from libvirt.

    Not thread-safe, except the jobs of `list_jobs`.

    :param hung_reads: remembers hung reads of files
    :param sizes: the sizes from libvirt
    :param clock: monotonic seconds
    """

    name = "images"
    needs = frozenset({"guests"})

    def __init__(
        self,
        hung_reads: HungReads,
        sizes: ImageSizes,
        settings: Settings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._is_local = settings.hypervisor.is_local
        self._reader = ImageReader(find_mask=find_mask)
        self._files = FileReader(self._reader.read, path=_path_of, hung=hung_reads, clock=clock)
        self._sizes = sizes

    @property
    def hung(self) -> int:
        """How many calls for storage volumes are past their timeout. Guests counts those about guests."""
        return self._sizes.hung

    def get_ages(self) -> Mapping[str, float]:
        """Return the age of the oldest size that counts and is libvirt's; 0 where none is."""
        return {"the oldest size of an image": self._sizes.get_age()}

    def list_jobs(self) -> Sequence[Job]:
        """Return the job that asks libvirt for unknown sizes."""
        return [Job(key="sizes", run=self._sizes.read)] if self._sizes.needs_reading() else ()

    def configure(self, settings: Settings) -> None:
        """Read files or not, and use these times, from now on."""
        self._is_local = settings.hypervisor.is_local
        self._sizes.configure(settings)

    def read(
        self, guests: Mapping[str, Guest | None], refresh_timeout: RefreshTimeout
    ) -> dict[str, list[ImageSize | UnsizedImage]]:
        """Return every image's size, by guest's UUID."""
        disks = [
            (guest.uuid, disk) for guest in guests.values() if guest is not None for disk in guest.images
        ]
        seen = self._read_files([disk for _, disk in disks], refresh_timeout)
        wanted: dict[str, list[WantedImage]] = {}
        images: dict[str, list[ImageSize | UnsizedImage]] = {
            guest.uuid: [] for guest in guests.values() if guest is not None
        }
        for (uuid, disk), size in zip(disks, seen, strict=True):
            if isinstance(size, ImageSize | UnsizedImage):
                images[uuid].append(size)
                continue
            image = WantedImage(disk, size)
            wanted.setdefault(uuid, []).append(image)
            images[uuid].append(self._sizes.get(uuid, image))
        self._sizes.want(wanted)
        return images

    def _read_files(
        self, disks: Sequence[Disk], refresh_timeout: RefreshTimeout
    ) -> list[ImageSize | UnsizedImage | UnopenedImage | None]:
        """Return what this process can read of each image; None if it can read nothing."""
        if not self._is_local:
            return [None] * len(disks)
        self._reader.forget_others({disk.path for disk in disks if disk.path})
        return [
            UnsizedImage(f"{size.path}: its file system does not answer") if isinstance(size, Hung) else size
            for size in self._files.run(disks, refresh_timeout)
        ]


def _path_of(disk: Disk) -> str:
    return disk.path or ""


class ImageSizes:
    """libvirt's sizes of the images that scrapes need, by domain's UUID and disk.

    :param calls: asks about one guest at a time
    :param volumes: asks for storage volumes
    :param clock: monotonic seconds
    """

    def __init__(
        self, calls: GuestCalls, volumes: VolumeSizes, settings: Settings, *, clock: Callable[[], float]
    ) -> None:
        self._calls = calls
        self._liveness = Liveness(calls, clock=clock)
        self._volumes = volumes
        self._max_age = MAX_AGE_RESYNCS * settings.resync_interval
        self._clock = clock
        self._wanted: Mapping[str, Sequence[WantedImage]] = {}
        self._known: dict[tuple[str, Disk], _Known] = {}
        self._lock = threading.Lock()

    @property
    def hung(self) -> int:
        """How many calls for storage volumes are left waiting: 0 or 1."""
        return self._volumes.hung

    def configure(self, settings: Settings) -> None:
        """Use these times from now on."""
        self._max_age = MAX_AGE_RESYNCS * settings.resync_interval

    def get_age(self) -> float:
        """Return how many seconds ago the oldest size was told that is known; 0 where none is."""
        now = self._clock()
        known = [each for each in dict(self._known).values() if isinstance(each.size, ImageSize)]
        return max((now - each.told_at for each in known), default=0.0)

    def get(self, uuid: str, image: WantedImage) -> ImageSize | UnsizedImage:
        """Return what is known about an image.

        The allocated size comes from this process, if it can see the file.
        """
        known = self._known.get((uuid, image.disk))
        if known is None or known.file != image.file:
            return UnsizedImage(None)
        if image.seen is None or isinstance(known.size, UnsizedImage):
            return known.size
        return ImageSize(virtual_bytes=known.size.virtual_bytes, allocated_bytes=image.seen.allocated_bytes)

    def want(self, images: Mapping[str, Sequence[WantedImage]]) -> None:
        """Set the images that are needed from now on. Forget all others.

        :param images: each domain's, by its UUID
        """
        self._wanted = images
        wanted = {(uuid, image.disk) for uuid, each in images.items() for image in each}
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if key in wanted}

    def needs_reading(self) -> bool:
        """Whether `read` would ask for an image."""
        return bool(self._list_due())

    def read(self) -> None:
        """Ask for what is due. Called between scrapes, by any thread.

        :raises HypervisorError: if the connection is lost or cannot be opened
        """
        self._ask_for_volumes()
        due = self._list_due()
        # Also look at guests that do not answer, even if none of their images is known.
        slow = self._calls.slow | self._liveness.busy
        self._liveness.forget_others(self._wanted.keys() | slow)
        self._liveness.look(due.keys() | slow)
        running = [uuid for uuid in due if self._liveness.is_running(uuid)]
        unanswered = self._ask_guests(running, due, may_hang=MAX_HUNG_RUNNING_GUESTS)
        others = [uuid for uuid in due if uuid not in running and self._lacks_a_size(uuid, due[uuid])]
        unanswered |= self._ask_guests(others, due, may_hang=MAX_HUNG_GUESTS)
        for uuid, images in self._list_due().items():
            if uuid in unanswered:
                self._put_off(uuid, images, _DOES_NOT_ANSWER, seconds=RETRY_GUEST_SECONDS)
            elif uuid in due:
                seconds = LOOK_AGAIN_SECONDS
                if self._liveness.is_still(uuid) and not self._lacks_a_size(uuid, images):
                    seconds = RETRY_SECONDS  # nothing is missing meanwhile
                self._put_off(uuid, images, _MAY_NOT_ANSWER, seconds=seconds)

    def _ask_guests(
        self, uuids: Sequence[str], images: Mapping[str, Sequence[WantedImage]], *, may_hang: int
    ) -> frozenset[str]:
        """Ask guests, and return the UUIDs of those that do not answer.

        :param may_hang: how many guests may hang, including those that already do
        """
        hung = self._liveness.busy | self._calls.list_waiting(_KIND)
        jobs = [
            GuestJob(uuid=uuid, kind=_KIND, ask=partial(self._ask, uuid, images[uuid]))
            for uuid in uuids
            if uuid not in hung
        ]
        slow = self._calls.ask(jobs, seconds=ASK_SECONDS, may_hang=may_hang - len(hung)).slow
        return slow | hung.intersection(uuids)

    def _lacks_a_size(self, uuid: str, images: Sequence[WantedImage]) -> bool:
        """Whether one of the images has no usable size."""
        return any(isinstance(self.get(uuid, image), UnsizedImage) for image in images)

    def _ask_for_volumes(self) -> None:
        """Ask storage pools for what is due. The rest stays due; the guests are asked for it."""
        due = [(uuid, image) for uuid, images in self._list_due().items() for image in images]
        sizes = self._volumes.ask({image.disk.path for _, image in due if image.disk.path})
        for uuid, image in due:
            size = sizes.get(image.disk.path or "")
            if size is not None:
                now = self._clock()
                self._keep(uuid, image, _Known(size, image.file, now + self._max_age, now))

    def _list_due(self) -> dict[str, list[WantedImage]]:
        due = {
            uuid: [image for image in images if self._is_due(uuid, image)]
            for uuid, images in self._wanted.items()
        }
        return {uuid: images for uuid, images in due.items() if images}

    def _is_due(self, uuid: str, image: WantedImage) -> bool:
        known = self._known.get((uuid, image.disk))
        if known is None or known.file != image.file:
            return True
        return self._clock() > known.ask_again_at

    def _ask(self, uuid: str, images: Sequence[WantedImage], hypervisor: WaitingHypervisor) -> None:
        for image in images:
            self._keep(uuid, image, self._ask_for(uuid, image, hypervisor))

    def _ask_for(self, uuid: str, image: WantedImage, hypervisor: WaitingHypervisor) -> _Known:
        try:
            size = hypervisor.get_block_size(uuid, image.disk.target)
        except (ConnectionLostError, NoAnswerError):
            raise
        except HypervisorError as error:
            unsized = UnsizedImage(f"disk {image.disk.target}: {error}")
            return _Known(unsized, image.file, self._clock() + RETRY_SECONDS, self._clock())
        # If this process can see the file, it knows the allocated size, and notices a new file.
        max_age = ASK_GUEST_AGAIN_SECONDS if image.seen else self._max_age
        return _Known(size, image.file, self._clock() + max_age, self._clock())

    def _put_off(self, uuid: str, images: Sequence[WantedImage], why: str, *, seconds: float) -> None:
        """Ask again later. Until then use what is known.

        :param why: the reason of the missing size; reported if it is missing a second time
        """
        for image in images:
            known, now = self._known.get((uuid, image.disk)), self._clock()
            told_at = now if known is None else known.told_at
            if known is None or known.file != image.file:
                size: ImageSize | UnsizedImage = UnsizedImage(None)
            elif isinstance(known.size, UnsizedImage):
                size = UnsizedImage(f"disk {image.disk.target}: {why}")
            else:
                size = known.size
            self._keep(uuid, image, _Known(size, image.file, now + seconds, told_at))

    def _keep(self, uuid: str, image: WantedImage, known: _Known) -> None:
        with self._lock:
            if any(each.disk == image.disk for each in self._wanted.get(uuid, ())):
                self._known[uuid, image.disk] = known

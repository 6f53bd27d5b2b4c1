"""Image sizes out of stat and header, and how far an image may still grow."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from exporter.model import ImageSize, UnsizedImage
from exporter.virt.guests.disks import ImageReader, UnopenedImage, overcommitted_bytes
from tests.support.records import GIB, MIB, make_disk
from tests.support.somebody_else import as_root_if_root, as_somebody_else


def write_qcow2(path: Path, size: int, *, allocated: int = 4096, magic: bytes = b"QFI\xfb") -> Path:
    """Write what of a qcow2 image is looked at: magic, version, virtual size."""
    header = struct.pack(">4sIQIIQ", magic, 3, 0, 0, 16, size)
    path.write_bytes(header + b"\1" * (allocated - len(header)))
    return path


def test_a_qcow2_image_says_its_size_in_its_header(tmp_path: Path) -> None:
    path = write_qcow2(tmp_path / "disk", 10 * GIB)
    size = ImageReader().read(make_disk(path=str(path)))
    assert size == ImageSize(virtual_bytes=10 * GIB, allocated_bytes=path.stat().st_blocks * 512)


def test_a_raw_image_is_as_large_as_its_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 7 * MIB)
    size = ImageReader().read(make_disk(path=str(path), driver_format="raw"))
    assert size == ImageSize(virtual_bytes=7 * MIB, allocated_bytes=path.stat().st_blocks * 512)


@pytest.mark.parametrize("driver_format", [None, "vmdk", "raw"])
def test_every_other_format_is_taken_as_raw(tmp_path: Path, driver_format: str | None) -> None:
    path = write_qcow2(tmp_path / "disk", 10 * GIB)
    size = ImageReader().read(make_disk(path=str(path), driver_format=driver_format))
    assert isinstance(size, ImageSize)
    assert size.virtual_bytes == 4096


def test_an_image_that_grew_is_read_again_and_another_is_not(tmp_path: Path) -> None:
    """Shows that a header is kept for as long as its file is not written, and no longer."""
    path = write_qcow2(tmp_path / "disk", 1 * GIB)
    reader, disk = ImageReader(), make_disk(path=str(path))
    first = reader.read(disk)
    assert reader.read(disk) is first
    write_qcow2(path, 2 * GIB, allocated=8192)
    second = reader.read(disk)
    assert isinstance(second, ImageSize)
    assert second.virtual_bytes == 2 * GIB


def test_one_file_may_be_two_formats(tmp_path: Path) -> None:
    path = write_qcow2(tmp_path / "disk", 1 * GIB)
    reader = ImageReader()
    sizes = [reader.read(make_disk(path=str(path), driver_format=name)) for name in ("qcow2", "raw")]
    assert [size.virtual_bytes for size in sizes if isinstance(size, ImageSize)] == [1 * GIB, 4096]


def test_forgotten_images_are_read_anew(tmp_path: Path) -> None:
    path = write_qcow2(tmp_path / "disk", 1 * GIB)
    reader, disk = ImageReader(), make_disk(path=str(path))
    first = reader.read(disk)
    reader.forget_others({str(path)})
    assert reader.read(disk) is first
    reader.forget_others(set())
    again = reader.read(disk)
    assert again == first
    assert again is not first


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"QFI\xfb", "too short for a qcow2 header"),
        (b"", "too short for a qcow2 header"),
        (b"KDMV" + bytes(60), "not a qcow2 image, though the domain's XML says so"),
    ],
)
def test_what_is_no_qcow2_image_is_unsized(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert ImageReader().read(make_disk(path=str(path))) == UnsizedImage(f"{path}: {reason}")


def test_what_is_no_file_is_unsized_and_never_opened(tmp_path: Path) -> None:
    """Shows that a FIFO does not block, and that neither it nor a directory is taken for an empty image."""
    fifo, directory = tmp_path / "fifo", tmp_path / "directory"
    os.mkfifo(fifo)
    directory.mkdir()
    for path in (fifo, directory):
        for driver_format in ("qcow2", "raw"):
            disk = make_disk(path=str(path), driver_format=driver_format)
            assert ImageReader().read(disk) == UnsizedImage(f"{path}: not a regular file")


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_a_size_that_no_image_can_have_is_not_believed(tmp_path: Path, size: int) -> None:
    """The header is a guest's owner's to write; one image must not make a host's disk numbers absurd."""
    unsized = ImageReader().read(make_disk(path=str(write_qcow2(tmp_path / "disk", size))))
    assert isinstance(unsized, UnsizedImage)
    assert "which no image can have" in str(unsized.reason)
    largest = ImageReader().read(make_disk(path=str(write_qcow2(tmp_path / "largest", 2**63 - 1))))
    assert isinstance(largest, ImageSize)


def test_neither_links_nor_device_nodes_are_followed_into_anything(tmp_path: Path) -> None:
    """A circle of links, a link to a device, and a header that names a backing file, which nobody opens."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, reason in (("a", "Too many levels of symbolic links"), ("zero", "not a regular file")):
        unsized = ImageReader().read(make_disk(path=str(tmp_path / name)))
        assert isinstance(unsized, UnsizedImage)
        assert reason in str(unsized.reason)
    fifo = tmp_path / "backing"
    os.mkfifo(fifo)
    name = str(fifo).encode()
    overlay = tmp_path / "overlay"
    overlay.write_bytes(
        struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 104, len(name), 16, MIB).ljust(104, b"\0") + name
    )
    size = ImageReader().read(make_disk(path=str(overlay)))
    assert isinstance(size, ImageSize)
    assert size.virtual_bytes == MIB


def test_a_sparse_raw_image_of_exabytes_is_sized_by_its_stat(tmp_path: Path) -> None:
    """Nothing of it is read, so its size costs nothing."""
    path = tmp_path / "disk"
    path.touch()
    largest = 2**40
    while True:
        try:
            os.truncate(path, largest * 2)
        except OSError:
            break
        largest *= 2
    size = ImageReader().read(make_disk(path=str(path), driver_format="raw"))
    assert size == ImageSize(virtual_bytes=largest, allocated_bytes=path.stat().st_blocks * 512)


def test_an_image_that_may_not_be_opened_tells_what_is_allocated_of_it() -> None:
    """Shows that a user who may not read an image sees it grow, and when another file takes its place."""
    reader = ImageReader()
    with as_somebody_else() as folder:
        with as_root_if_root():
            write_qcow2(folder / "disk", 3 * GIB).chmod(0)
        disk = make_disk(path=str(folder / "disk"))
        status = (folder / "disk").stat()
        seen = reader.read(disk)
        assert seen == UnopenedImage(status.st_blocks * 512, (status.st_dev, status.st_ino))
        raw = make_disk(path=disk.path, driver_format="raw")
        assert reader.read(raw) == ImageSize(
            virtual_bytes=status.st_size, allocated_bytes=status.st_blocks * 512
        )


def test_an_image_in_a_folder_that_may_not_be_entered_is_left_to_libvirt() -> None:
    with as_somebody_else() as folder:
        with as_root_if_root():
            (folder / "locked").mkdir()
            write_qcow2(folder / "locked/disk", 3 * GIB)
            (folder / "locked").chmod(0)
        assert ImageReader().read(make_disk(path=str(folder / "locked/disk"))) is None
        with as_root_if_root():
            (folder / "locked").chmod(0o700)


def test_an_image_that_is_gone_is_unsized_and_read_when_it_is_back(tmp_path: Path) -> None:
    path = write_qcow2(tmp_path / "disk", 1 * GIB)
    reader, disk = ImageReader(), make_disk(path=str(path))
    assert isinstance(reader.read(disk), ImageSize)
    path.unlink()
    assert reader.read(disk) == UnsizedImage(f"{path}: No such file or directory")
    write_qcow2(path, 3 * GIB)
    assert isinstance(reader.read(disk), ImageSize)


def test_a_path_that_no_system_call_takes_is_unsized() -> None:
    assert isinstance(ImageReader().read(make_disk(path="/a\0b")), UnsizedImage)
    assert isinstance(ImageReader().read(make_disk(path="/" + "a" * 300)), UnsizedImage)


@pytest.mark.parametrize(
    ("driver_format", "virtual", "allocated", "growth"),
    [
        ("qcow2", 10 * GIB, 1 * GIB, 9 * GIB),
        ("qcow2", 1 * GIB, 2 * GIB, 0),  # its own tables and snapshots
        ("raw", 10 * GIB, 4 * GIB, 6 * GIB),
        ("raw", 1 * GIB, 2 * GIB, 0),  # space behind its end; Nova would let the others grow by less
        (None, 1 * GIB, 2 * GIB, 0),
        (None, 3 * GIB, 0, 3 * GIB),
    ],
)
def test_an_image_may_grow_by_what_it_has_not_got_yet(
    driver_format: str | None, virtual: int, allocated: int, growth: int
) -> None:
    size = ImageSize(virtual_bytes=virtual, allocated_bytes=allocated)
    assert overcommitted_bytes(make_disk(driver_format=driver_format), size) == growth

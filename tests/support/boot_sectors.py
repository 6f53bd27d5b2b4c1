"""Guests that do a known amount of work: a boot sector of some bytes, and nothing of an operating system.

SeaBIOS reads one sector of the first disk to 0000:7C00 and jumps there, in the processor's 16-bit mode. What
such a guest does is known to the byte: it writes with the BIOS' own calls, and drives a network card itself.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.guests import MIB

SECTOR = 512

# Where the network card of `card_interface` is on the guest's PCI bus.
CARD_SLOT = 5

_LOADED_AT = 0x7C00
_PACKET_AT = 0x1E0  # the disk address packet, behind the code: what is to be written, and where
_SIGNATURE = b"\x55\xaa"  # without it the BIOS does not boot from the disk

_BEGIN = bytes.fromhex(
    "fa"  # cli
    "31c0 8ed8 8ec0 8ed0"  # xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax
    "bc007c"  # mov sp, 0x7c00: the stack is below the code
    "fb"  # sti
)
_SPIN = bytes.fromhex("ebfe")  # jmp to itself
_SLEEP = bytes.fromhex("fa f4 ebfd")  # cli; hlt, which nothing ends any more; jmp to the hlt


def boot_sector(
    *,
    writes: int = 0,
    sectors: int = 1,
    frames: int = 0,
    frame_bytes: int = 60,
    spins: bool = False,
    goes_on: bool = False,
) -> bytes:
    """Return the first sector of a disk, whose guest writes, then sends, and then sleeps without any CPU.

    The disk has to have room for all that is written, behind this sector.

    :param writes: how many write requests it makes, one after the other, from the second sector on
    :param sectors: how many sectors of 512 bytes each of these has, 127 at most
    :param frames: how many frames it sends by a network card, that of `card_interface`
    :param frame_bytes: how long each is, 60 to 512 bytes
    :param spins: whether it burns its CPU in the end, instead of sleeping
    :param goes_on: whether it writes again and again, with a sleep of some ms in between, and never sends
    """
    code = _BEGIN
    if goes_on:
        again = _write(writes, sectors) + bytes.fromhex("f4")  # hlt, until the timer's next tick
        # mov dword [packet + 8], 1: from the second sector again
        again += b"\x66\xc7\x06" + struct.pack("<HI", _LOADED_AT + _PACKET_AT + 8, 1)
        code += again + b"\xe9" + struct.pack("<h", -len(again) - 3)  # jmp to the first write
    else:
        if writes:
            code += _write(writes, sectors)
        if frames:
            code += _send(frames, frame_bytes)
        code += _SPIN if spins else _SLEEP
    assert len(code) <= _PACKET_AT
    # Its own size, the sectors to write, from where (offset, segment), and the first one's number.
    packet = struct.pack("<HHHHQ", 16, sectors, _LOADED_AT, 0, 1)
    return code.ljust(_PACKET_AT, b"\0") + packet.ljust(SECTOR - _PACKET_AT - 2, b"\0") + _SIGNATURE


def make_boot_disk(path: Path, sector: bytes, *, size: int = MIB) -> Path:
    """Make a raw image that begins with this boot sector."""
    with path.open("wb") as file:
        file.write(sector)
        file.truncate(size)
    return path


def _write(writes: int, sectors: int) -> bytes:
    begin = b"\xbd" + struct.pack("<H", writes)  # mov bp, writes
    loop = (
        b"\xbe"
        + struct.pack("<H", _LOADED_AT + _PACKET_AT)  # mov si, packet
        + bytes.fromhex("b80043 b280")  # mov ax, 0x4300 (extended write); mov dl, 0x80 (the first disk)
        + bytes.fromhex("55 cd13 5d")  # push bp; int 0x13; pop bp
        + b"\x66\x81\x06"
        + struct.pack("<HI", _LOADED_AT + _PACKET_AT + 8, sectors)  # add dword [packet + 8], sectors
        + bytes.fromhex("4d")  # dec bp
    )
    return begin + loop + b"\x75" + struct.pack("<b", -len(loop) - 2)  # jnz to the loop's begin


def _send(frames: int, frame_bytes: int) -> bytes:
    """Drive an RTL8139. Its four registers for sending are used in turn; what is sent is this sector.

    Its registers are in I/O space: at 0x10 the states of what is sent, at 0x20 its addresses, at 0x37 the
    command. To write a length into a state sends the frame; bit 15 of the state says that this is done.
    """
    begin = (
        _configure(0x04)
        + bytes.fromhex("66b807000000 66ef")  # mov eax, 7 (I/O, memory, DMA); out dx, eax
        + _configure(0x10)
        + bytes.fromhex("66ed 25fcff 89c3")  # in eax, dx; and ax, 0xfffc; mov bx, ax: where its registers are
        + bytes.fromhex("8d5737 b004 ee")  # lea dx, [bx + 0x37]; mov al, 4 (sending); out dx, al
        + b"\xb9"
        + struct.pack("<H", frames)  # mov cx, frames
        + bytes.fromhex("31ff")  # xor di, di: four times the register's number
    )
    loop = (
        bytes.fromhex("8d5120")  # lea dx, [bx + di + 0x20]
        + b"\x66\xb8"
        + struct.pack("<I", _LOADED_AT)  # mov eax, this sector
        + bytes.fromhex("66ef 83ea10")  # out dx, eax; sub dx, 0x10
        + b"\x66\xb8"
        + struct.pack("<I", frame_bytes)  # mov eax, its length
        + bytes.fromhex("66ef")  # out dx, eax
        + bytes.fromhex("66ed f6c480 74f9")  # in eax, dx; test ah, 0x80; jz to the in
        + bytes.fromhex("83c704 83e70f")  # add di, 4; and di, 15
    )
    return begin + loop + b"\xe2" + struct.pack("<b", -len(loop) - 2)  # loop


def _configure(register: int) -> bytes:
    """Have DX name this register of the card's PCI configuration."""
    address = 1 << 31 | CARD_SLOT << 11 | register
    # mov eax, address; mov dx, 0xcf8; out dx, eax; mov dl, 0xfc
    return b"\x66\xb8" + struct.pack("<I", address) + bytes.fromhex("baf80c 66ef b2fc")

"""All that strangers do to a port at once, until this process is ended: `python -m bench.attackers PORT CA`.

Some of them know a password, which makes more of the exporter theirs to abuse.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import ssl
import sys
from collections.abc import Awaitable, Callable

INSIDER = ("insider", "a password that leaked")
HOST = "127.0.0.1"
_READ_BYTES = 65536


def main() -> None:
    """Attack for ever."""
    port, authority = int(sys.argv[1]), sys.argv[2]
    asyncio.run(_attack(port, ssl.create_default_context(cafile=authority)))


async def _attack(port: int, context: ssl.SSLContext) -> None:
    async def connect(*, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not tls:
            return await asyncio.open_connection(HOST, port, limit=_READ_BYTES)
        return await asyncio.open_connection(
            HOST, port, limit=_READ_BYTES, ssl=context, server_hostname="localhost"
        )

    attackers: list[tuple[int, Callable[[Connect], Awaitable[None]]]] = [
        (300, _read_nothing),
        (300, _say_nothing),
        (100, _say_little),
        (20, _say_nonsense),
        (40, _guess),
        (10, _look_at_the_page),
        (5, _reload),
    ]
    await asyncio.gather(*(_repeat(attacker, connect) for count, attacker in attackers for _ in range(count)))


Connect = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def _repeat(attacker: Callable[[Connect], Awaitable[None]], connect: Connect) -> None:
    while True:
        await asyncio.sleep(random.uniform(0, 2))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            await attacker(connect)


async def _read_nothing(connect: Connect) -> None:
    """Ask many times at once, and read no answer until the exporter has enough of it."""
    _reader, writer = await connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined] # that of a socket has it
    writer.write(_request("GET", "/metrics") * 100)
    await asyncio.sleep(random.uniform(20, 60))
    writer.transport.abort()


async def _say_nothing(connect: Connect) -> None:
    reader, writer = await connect(tls=False)
    with contextlib.closing(writer):
        await reader.read(1)


async def _say_little(connect: Connect) -> None:
    """Send a request byte by byte."""
    _reader, writer = await connect()
    with contextlib.closing(writer):
        for byte in _request("GET", "/metrics"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)


async def _say_nonsense(connect: Connect) -> None:
    """Bytes that are no TLS, and then some that are no HTTP, or that are two requests to others."""
    _reader, writer = await connect(tls=False)
    writer.write(random.randbytes(1000))
    writer.close()
    reader, writer = await connect()
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAAAAAXX0\r\n\r\n"
    writer.write(random.choice([chunked, random.randbytes(5000), b"GET /" + b"a" * 100_000]))
    with contextlib.closing(writer):
        await reader.read(_READ_BYTES)


async def _guess(connect: Connect) -> None:
    reader, writer = await connect()
    with contextlib.closing(writer):
        for number in range(50):
            user = random.choice(["prometheus", "admin"])
            password = f"guess {number} {random.random()}"
            writer.write(_request("GET", "/metrics", user=user, password=password))
            await _read_answer(reader)


async def _look_at_the_page(connect: Connect) -> None:
    reader, writer = await connect()
    with contextlib.closing(writer):
        for number in itertools.count():
            writer.write(_request("GET", "/", host=f"host{number}"))
            await _read_answer(reader)


async def _reload(connect: Connect) -> None:
    reader, writer = await connect()
    with contextlib.closing(writer):
        while True:
            writer.write(_request("POST", "/-/reload"))
            await _read_answer(reader)


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await reader.readexactly(1)
        head += byte
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


def _request(
    method: str, path: str, *, user: str = INSIDER[0], password: str = INSIDER[1], host: str = "localhost"
) -> bytes:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {credentials}\r\n\r\n".encode()


if __name__ == "__main__":
    main()

"""All that strangers do to a port at once: `python -m bench.attackers PORT CA`, until it is terminated.

Some of them know a password, which makes more of the exporter theirs to abuse. At the end it says, as JSON,
how often each attack was begun.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import random
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable

INSIDER = ("insider", "a password that leaked")
HOST = "127.0.0.1"
# Not Prometheus' own address: two clients with the same one are treated alike, so that guesses may keep the
# right password out once.
_FROM = ("127.0.0.2", 0)
_READ_BYTES = 65536
_ANNOUNCED_BYTES = 130_000  # OpenSSL takes a ClientHello of 131,396 bytes


async def _attack(port: int, authority: str) -> None:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # connections that the exporter ends are no news
    target = Target(port, authority)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    tasks = [
        asyncio.ensure_future(_repeat(attacker, target))
        for attacker, (count, _what) in ATTACKERS.items()
        for _ in range(count)
    ]
    ends = asyncio.ensure_future(over.wait())
    await asyncio.wait([*tasks, ends], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()  # raises what is wrong with an attacker
    print(json.dumps({ATTACKERS[attacker][1]: target.begun[attacker] for attacker in ATTACKERS}), flush=True)


class Target:
    """The exporter's port, and how often each attack on it was begun."""

    def __init__(self, port: int, authority: str) -> None:
        self.port = port
        self.authority = authority
        self.begun: Counter[Attacker] = Counter()
        self._context = ssl.create_default_context(cafile=authority)

    async def connect(self, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection."""
        if not tls:
            return await asyncio.open_connection(HOST, self.port, limit=_READ_BYTES, local_addr=_FROM)
        return await asyncio.open_connection(
            HOST,
            self.port,
            limit=_READ_BYTES,
            local_addr=_FROM,
            ssl=self._context,
            server_hostname="localhost",
        )

    def make_client_hello(self) -> bytes:
        """Return the first bytes of a handshake."""
        outgoing = ssl.MemoryBIO()
        tls = self._context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()


Attacker = Callable[[Target], Awaitable[None]]


async def _repeat(attacker: Attacker, target: Target) -> None:
    while True:
        await asyncio.sleep(random.uniform(0, 2))
        target.begun[attacker] += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            await attacker(target)


async def _read_nothing(target: Target) -> None:
    """Ask many times at once, and read no answer until the exporter has enough of it."""
    _reader, writer = await target.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined] # that of a socket has it
    writer.write(_request("GET", "/metrics") * 100)
    await asyncio.sleep(random.uniform(20, 60))
    writer.transport.abort()


async def _ask_ahead(target: Target) -> None:
    """Send one request after the other, each in a packet of its own, and read no answer."""
    _reader, writer = await target.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined] # that of a socket has it
    password = random.choice([INSIDER[1], "a wrong one"])
    request = _request("GET", random.choice(["/metrics", "/-/healthy"]), password=password)
    with contextlib.closing(writer):
        while not writer.is_closing():
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(random.uniform(0.005, 0.1))


async def _say_nothing(target: Target) -> None:
    reader, writer = await target.connect(tls=False)
    with contextlib.closing(writer):
        await reader.read(1)


async def _say_little(target: Target) -> None:
    """Send a request byte by byte."""
    _reader, writer = await target.connect()
    with contextlib.closing(writer):
        for byte in _request("GET", "/metrics"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)


async def _say_nonsense(target: Target) -> None:
    """Bytes that are no TLS, and then some that are no HTTP, or that are two requests to others."""
    _reader, writer = await target.connect(tls=False)
    writer.write(random.randbytes(1000))
    writer.close()
    reader, writer = await target.connect()
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAAAAAXX0\r\n\r\n"
    writer.write(random.choice([chunked, random.randbytes(5000), b"GET /" + b"a" * 100_000]))
    with contextlib.closing(writer):
        await reader.read(_READ_BYTES)


async def _churn(target: Target) -> None:
    """Shake hands, and go."""
    _reader, writer = await target.connect()
    writer.close()


async def _shake_half(target: Target) -> None:
    """Begin a handshake and leave it at that: with a part of the first message, all of it, or a long one."""
    hello = target.make_client_hello()
    announced = b"\x01" + _ANNOUNCED_BYTES.to_bytes(3, "big")
    half = [hello[: len(hello) // 2], hello, _make_record(announced), _make_records(announced, 129_000)]
    reader, writer = await target.connect(tls=False)
    with contextlib.closing(writer):
        writer.write(random.choice(half))
        await asyncio.wait_for(_read_to_the_end(reader), random.uniform(1, 10))


async def _shake_long(target: Target) -> None:
    """Send a first message of a million bytes."""
    reader, writer = await target.connect(tls=False)
    with contextlib.closing(writer):
        writer.write(_make_records(b"\x01" + (1_000_000).to_bytes(3, "big"), 1_000_000))
        await writer.drain()
        await _read_to_the_end(reader)


async def _renegotiate(target: Target) -> None:
    """Ask for a new handshake on an old connection, as OpenSSL's client does when it reads an R."""
    arguments = ["-connect", f"{HOST}:{target.port}", "-tls1_2", "-CAfile", target.authority]
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        for _ in range(20):
            process.stdin.write(b"R\n")
            await process.stdin.drain()
            await asyncio.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _guess(target: Target) -> None:
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        for number in range(50):
            user = random.choice(["prometheus", "admin"])
            password = f"guess {number} {random.random()}"
            await _ask(reader, writer, _request("GET", "/metrics", user=user, password=password))


async def _look_at_the_page(target: Target) -> None:
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        for number in itertools.count():
            await _ask(reader, writer, _request("GET", "/", host=f"host{number}"))


async def _reload(target: Target) -> None:
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        while True:
            await _ask(reader, writer, _request("POST", "/-/reload"))


async def _probe(target: Target) -> None:
    """Have it connect to thousands of hypervisors, none of which answers."""
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        while True:
            number = random.randrange(2**16)
            address = f"127.1.{number // 256}.{number % 256}"
            path = f"/probe?target={address}&module={random.choice(['hung', 'down'])}"
            await _ask(reader, writer, _request("GET", path, timeout=random.choice(["0.05", "1", "10"])))


async def _give_no_time(target: Target) -> None:
    """Say that the scraper does not wait."""
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        for timeout in itertools.cycle(["0.000001", "1e-300", "-1", "nan", "0"]):
            path = random.choice(["/metrics", f"/probe?target=well{random.randrange(50):02d}"])
            await _ask(reader, writer, _request("GET", path, timeout=timeout))
            await asyncio.sleep(0.1)


async def _debug(target: Target) -> None:
    """Have it read hypervisors again, the well ones and the hung ones."""
    reader, writer = await target.connect()
    with contextlib.closing(writer):
        while True:
            name = f"{random.choice(['well', 'hung'])}{random.randrange(50):02d}"
            await _ask(reader, writer, _request("GET", f"/probe?target={name}&debug=true"))


# How many there are of each, and what they do.
ATTACKERS: dict[Attacker, tuple[int, str]] = {
    _read_nothing: (300, "send 100 requests at once and read nothing"),
    _ask_ahead: (50, "send a request every few milliseconds and read nothing"),
    _say_nothing: (300, "send nothing"),
    _say_little: (100, "send a byte a second"),
    _say_nonsense: (20, "send what is no TLS or no HTTP"),
    _churn: (50, "shake hands over TLS and go"),
    _shake_half: (100, "send a part of a handshake"),
    _shake_long: (5, "begin a handshake with a million bytes"),
    _renegotiate: (2, "ask for renegotiation"),
    _guess: (40, "guess passwords"),
    _look_at_the_page: (10, "open the page without a pause, with a password of their own, as all below"),
    _reload: (5, "reload without a pause"),
    _probe: (10, "probe thousands of hypervisors that hang or refuse"),
    _give_no_time: (5, "scrape with a timeout of a microsecond"),
    _debug: (5, "ask for `debug=true`"),
}


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send a request and read its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


async def _read_to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(_READ_BYTES):
        pass


def _make_record(content: bytes) -> bytes:
    """Return a record of TLS with a part of a handshake."""
    return b"\x16\x03\x01" + len(content).to_bytes(2, "big") + content


def _make_records(head: bytes, length: int) -> bytes:
    """Return records with a message of so many bytes, or the first ones of it."""
    message = head + bytes(length)
    return b"".join(_make_record(message[at : at + 16_000]) for at in range(0, len(message), 16_000))


def _request(
    method: str,
    path: str,
    *,
    user: str = INSIDER[0],
    password: str = INSIDER[1],
    host: str = "localhost",
    timeout: str = "10",
) -> bytes:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Basic {credentials}",
        f"X-Prometheus-Scrape-Timeout-Seconds: {timeout}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


if __name__ == "__main__":
    asyncio.run(_attack(int(sys.argv[1]), sys.argv[2]))

"""A handshake's messages are short, or the handshake is over before memory is set aside for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from exporter.web.handshake import MAX_MESSAGE_BYTES, Handshake, LongMessageError
from exporter.web.streams import TlsStream
from tests.web.authority import Authority

CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"


def make_record(content: bytes) -> bytes:
    return b"\x16\x03\x01" + len(content).to_bytes(2, "big") + content


def make_message(length: int) -> bytes:
    return b"\x01" + length.to_bytes(3, "big")


LONG = make_record(make_message(MAX_MESSAGE_BYTES + 1))


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("server", "localhost"))
    return context


@pytest.fixture
def trust(context: ssl.SSLContext, tmp_path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))


class Client:
    """A client whose bytes are sent by the test."""

    def __init__(self, end: socket.socket, trust: ssl.SSLContext) -> None:
        self._end = end
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def step(self) -> bytes:
        """Return what the client says next in its handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    async def hear(self) -> None:
        self._incoming.write(await asyncio.get_running_loop().sock_recv(self._end, 65536))


def open_with(context: ssl.SSLContext, trust: ssl.SSLContext, *, instead_of_retry: bytes = b"") -> str | None:
    """Return the version that a client and a server agree upon.

    :param instead_of_retry: what the client says instead of its second message
    """

    async def run() -> str | None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        with ours, theirs:
            client = Client(theirs, trust)
            opening = asyncio.create_task(TlsStream(ours, context).open())
            theirs.send(client.step())
            await client.hear()
            if instead_of_retry:
                theirs.send(instead_of_retry)
                await opening
            theirs.send(client.step())
            while client.tls.version() is None:
                await client.hear()
                theirs.send(client.step())
            await opening
            return client.tls.version()

    return asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_usual_handshake_goes_through(
    context: ssl.SSLContext, trust: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trust.maximum_version = version
    assert open_with(context, trust) == version.name.replace("_", ".")


def test_a_handshake_with_a_retry_goes_through_unless_its_second_message_is_long(
    context: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    """The server wants another curve than the client offers at first."""
    context.set_ecdh_curve("secp521r1")
    assert open_with(context, trust) == "TLSv1.3"
    with pytest.raises(LongMessageError):
        open_with(context, trust, instead_of_retry=CHANGE_CIPHER_SPEC + LONG)


def test_a_long_first_message_ends_the_connection_at_its_first_bytes(context: ssl.SSLContext) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            theirs.send(LONG)
            with pytest.raises(LongMessageError):
                await asyncio.wait_for(TlsStream(ours, context).open(), 20)

    asyncio.run(run())


@pytest.mark.parametrize("at_once", [1, 3, 100_000])
def test_messages_may_begin_and_end_anywhere_in_records_and_reads(at_once: int) -> None:
    longest = make_message(MAX_MESSAGE_BYTES) + bytes(MAX_MESSAGE_BYTES)
    messages = make_message(2) + b"ab" + longest + make_message(0) + make_message(MAX_MESSAGE_BYTES + 1)

    def check(record_bytes: int, messages: bytes) -> None:
        handshake = Handshake()
        sent = b"".join(
            make_record(messages[at : at + record_bytes]) for at in range(0, len(messages), record_bytes)
        )
        for at in range(0, len(sent), at_once):
            handshake.check(sent[at : at + at_once])

    for record_bytes in (1, 5, 16_000):
        check(record_bytes, messages[:-1])
        with pytest.raises(LongMessageError):
            check(record_bytes, messages)


def test_what_is_encrypted_is_not_looked_at() -> None:
    handshake = Handshake()
    handshake.check(make_record(make_message(1) + b"a") + CHANGE_CIPHER_SPEC + LONG)
    handshake.check(LONG)

"""The plain part of a TLS handshake, read beside OpenSSL: a message that announces too much is refused.

OpenSSL sets memory aside for what a message announces, up to 128 KiB, when only its first four bytes have
come. So 512 clients that have sent nine bytes each would use 58 MiB more than clients that have sent nothing.
"""

from __future__ import annotations

# A client's first message has 300 bytes to 2 KiB. Its certificates in TLS 1.2 may be longer.
MAX_MESSAGE_BYTES = 16 * 1024

_CHANGE_CIPHER_SPEC, _HANDSHAKE = 20, 22
_RECORD_HEADER_BYTES, _MESSAGE_HEADER_BYTES = 5, 4
# The "random" of a HelloRetryRequest (RFC 8446, 4.1.3). After it the client's next message is plain, too.
_HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class LongMessageError(OSError):
    """A message of the handshake is too long."""


class Handshake:
    """Checks the lengths of a client's messages until they are encrypted."""

    def __init__(self) -> None:
        self._header = bytearray()  # of the next record, as far as it has come
        self._record_left = 0  # bytes that are still to come
        self._is_handshake = False
        self._message_header = bytearray()
        self._message_left = 0
        self._is_encrypted = False
        self._is_retried = False

    def note_sent(self, sent: bytes) -> None:
        """Note what the server answers."""
        self._is_retried = self._is_retried or _HELLO_RETRY in sent

    def check(self, received: bytes) -> None:
        """Check the next bytes of the client.

        :raises LongMessageError: if they begin a message that is longer than MAX_MESSAGE_BYTES
        """
        while received and not self._is_encrypted:
            if self._record_left:
                part, received = received[: self._record_left], received[self._record_left :]
                self._record_left -= len(part)
                if self._is_handshake:
                    self._check_messages(part)
            else:
                received = _fill(self._header, received, _RECORD_HEADER_BYTES)
                if len(self._header) == _RECORD_HEADER_BYTES:
                    self._begin_record()

    def _begin_record(self) -> None:
        kind, length = self._header[0], int.from_bytes(self._header[3:], "big")
        self._header.clear()
        self._is_handshake, self._record_left = kind == _HANDSHAKE, length
        # After a retry, clients of TLS 1.3 send this without a meaning.
        is_plain = self._is_handshake or (kind == _CHANGE_CIPHER_SPEC and self._is_retried)
        self._is_encrypted = not is_plain

    def _check_messages(self, part: bytes) -> None:
        """Check the messages in a part of a record. They may begin and end anywhere in it."""
        while part:
            skipped = min(self._message_left, len(part))
            self._message_left -= skipped
            part = _fill(self._message_header, part[skipped:], _MESSAGE_HEADER_BYTES)
            if len(self._message_header) == _MESSAGE_HEADER_BYTES:
                self._message_left = int.from_bytes(self._message_header[1:], "big")
                self._message_header.clear()
                if self._message_left > MAX_MESSAGE_BYTES:
                    raise LongMessageError(f"a handshake message of {self._message_left} bytes")


def _fill(header: bytearray, received: bytes, length: int) -> bytes:
    """Move bytes into a header until it has this length. Return the others."""
    missing = length - len(header)
    header += received[:missing]
    return received[missing:]

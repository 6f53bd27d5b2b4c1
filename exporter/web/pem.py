"""PEM as others write it: between the blocks may stand anything, in any encoding.

Distributions' bundles have comments in UTF-8, Windows writes a byte order mark, UTF-16 and CRLF, and `cat`
puts a mark into the middle of a file. OpenSSL finds only blocks that begin a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.config.files import find_encoding

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_EDGES = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
_LABELS = 3

_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True)
class Block:
    """A block of PEM: its label, such as "CERTIFICATE", and its text, as OpenSSL reads it."""

    label: str
    text: str


def list_blocks(content: bytes) -> list[Block]:
    """Return all blocks of a file, in their order."""
    found = _BLOCK.finditer(_decode(content))
    return [Block(match[1], _EDGES.sub("", match[0]) + "\n") for match in found]


def explain_missing_block(content: bytes) -> str:
    """Return what a file is that does not have the block that is wanted."""
    if not content.strip(b"\0 \t\r\n"):
        return "it is empty"
    labels = list(dict.fromkeys(block.label for block in list_blocks(content)))
    if labels:
        return f"found {', '.join(labels[:_LABELS])}"
    if begun := _BEGIN.search(_decode(content)):
        return f"the END line of its {begun[1]} is missing"
    if _is_der(content):
        return "found DER (binary); openssl x509 or pkey -inform der -in FILE writes PEM"
    return "not PEM"


def _is_der(content: bytes) -> bool:
    """Whether it is one sequence that is as long as the file (X.690)."""
    if len(content) < 2 or content[0] != _SEQUENCE:
        return False
    length, start = content[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[2:start], "big")
    return start + length == len(content)


def _decode(content: bytes) -> str:
    """Return the text, with one kind of line ends. PEM itself is ASCII; what is not is of no account."""
    text = content.decode(find_encoding(content), "ignore")
    return text.encode("ascii", "ignore").decode().replace("\r\n", "\n").replace("\r", "\n")

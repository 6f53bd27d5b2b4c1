"""Parse libvirt's XML with limits: owners of guests choose parts of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar
from xml.etree import ElementTree

# Fifty times the XML of a large guest. To parse it never needs more than 45 MiB: that is the worst case,
# small elements with one attribute each.
MAX_CHARACTERS = 2**20

# The maximum of libvirt's unsigned 64-bit numbers. A sample can hold it too.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
# Of the odd parts of one document, so many are named.
_MAX_NAMED_PARTS = 5


T = TypeVar("T")

PCI_ADDRESS_FIELDS = ("domain", "bus", "slot", "function")


class XmlError(ValueError):
    """It is not XML, or not XML that libvirt would write. The message is one line."""


class OddParts:
    """The parts of a document that are not as libvirt writes them. Each is left out and named."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._messages)

    def read(self, what: str, read: Callable[[], T]) -> T | None:
        """Return a part; None if it is odd.

        :param what: the subject of a message: "<vcpupin>"
        """
        try:
            return read()
        except (ValueError, KeyError) as error:
            self._messages.append(f"{what}: {explain_odd(error)}")
            return None

    def describe(self) -> str:
        """Return one line that names them."""
        named, others = self._messages[:_MAX_NAMED_PARTS], len(self._messages[_MAX_NAMED_PARTS:])
        return "; ".join([*named, *([f"and {others} more"] if others else [])])


def explain_odd(error: ValueError | KeyError) -> str:
    """Return what is wrong with a part: an attribute that is missing, or its value."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root element.

    A document type is refused, and with it every custom entity. libvirt writes neither, and nested entities
    can grow to gigabytes.

    :raises XmlError: when it is no XML, too long, or has a document type
    """
    if len(text) > MAX_CHARACTERS:
        raise XmlError(f"{len(text)} characters of XML, {MAX_CHARACTERS} at most are read")
    if "<!DOCTYPE" in text:
        raise XmlError("a document type, which libvirt never writes")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeError) as error:
        raise XmlError(str(error)) from error


def parse_pci_address(element: ElementTree.Element) -> str:
    """Return the address of a PCI device out of an <address>: "0000:84:00.1".

    :raises ValueError: if one of its numbers is missing, or odd
    """
    return format_pci_address(*(int(element.get(name, ""), 16) for name in PCI_ADDRESS_FIELDS))


def format_pci_address(domain: int, bus: int, slot: int, function: int) -> str:
    """Return the address of a PCI device as Nova and Linux write it.

    :raises ValueError: if one of its numbers is below 0
    """
    if min(domain, bus, slot, function) < 0:
        raise ValueError("a PCI address with a number below 0")
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def whole_number(text: str) -> int:
    """Return the number in an element or attribute.

    :raises ValueError: if it is not a number, is below 0, or larger than any of libvirt's
    """
    digits = text.strip()
    if not _WHOLE_NUMBER.fullmatch(digits):
        raise ValueError(f"{digits[:40]!r} is not a whole number that libvirt writes")
    return int(digits)

"""The XML that libvirt answers with, parsed with bounds: parts of it are a guest's owner's to choose."""

from __future__ import annotations

import re
from xml.etree import ElementTree

# Fifty times what a large guest has. Nothing that fits takes more than 45 MiB while it is parsed: that is
# what the worst takes, small elements with an attribute each.
MAX_CHARACTERS = 2**20

# What an unsigned number of libvirt's, of 64 bits, may be at most; a sample can hold it, too.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)


class XmlError(ValueError):
    """It is no XML, or none that libvirt would write; the message is one line."""


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root element.

    A document type is refused, and with it every entity of somebody's own: libvirt writes neither, and nested
    entities grow to gigabytes.

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


def whole_number(text: str) -> int:
    """Return the number that an element or attribute holds.

    :raises ValueError: when it is none, or longer than any of libvirt's
    """
    digits = text.strip()
    if not _WHOLE_NUMBER.fullmatch(digits):
        raise ValueError(f"{digits[:40]!r} is no whole number of libvirt's")
    return int(digits)

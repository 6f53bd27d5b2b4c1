"""The XML that libvirt answers with, parsed with bounds: parts of it are a guest's owner's to choose."""

from __future__ import annotations

from xml.etree import ElementTree

# A hundred times what a large guest has; a million empty elements in it take 50 MiB while they are parsed.
MAX_CHARACTERS = 2 * 2**20


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

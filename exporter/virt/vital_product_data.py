"""XML of node devices whose vital product data are not escaped.

A network card says what it likes in them: a serial number such as "A&B1". libvirt before 10.1 writes them
into its XML as they are, which then is no XML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from exporter.virt.libvirt_xml import MAX_CHARACTERS, XmlError, parse_xml

_BEGIN = re.compile(r"<capability type=['\"]vpd['\"]>")
_END = "</capability>"
# The tags of https://libvirt.org/formatnode.html. What is between two of them is a text of the card.
_TAG = re.compile(
    r"(</?(?:capability|fields|name|change_level|manufacture_id|part_number|serial_number|asset_tag"
    r"|vendor_field|system_field)(?: \w+=(?:'\w*'|\"\w*\"))?>)"
)
_NO_XML_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class DeviceXml:
    """A node device.

    :ivar is_repaired: whether its vital product data were not XML
    """

    element: ElementTree.Element
    is_repaired: bool


def parse_device_xml(text: str) -> DeviceXml:
    """Parse virNodeDeviceGetXMLDesc. Escape or leave out the vital product data if it is no XML.

    :raises XmlError: when it is no XML even so
    """
    try:
        return DeviceXml(parse_xml(text), is_repaired=False)
    except XmlError as error:
        begin = _BEGIN.search(text)
        end = -1 if begin is None else text.find(_END, begin.end())
        if begin is None or end < 0 or len(text) > MAX_CHARACTERS:
            raise
        end += len(_END)
        before, vpd, after = text[: begin.start()], text[begin.start() : end], text[end:]
        for repaired in (before + _escape_texts(vpd) + after, before + after):
            element = _try_to_parse(repaired)
            if element is not None:
                return DeviceXml(element, is_repaired=True)
        raise error from None


def _try_to_parse(text: str) -> ElementTree.Element | None:
    try:
        return parse_xml(text)
    except XmlError:
        return None


def _escape_texts(vpd: str) -> str:
    """Return the vital product data with every text escaped, as a text that libvirt did not escape."""
    parts = _TAG.split(vpd)  # texts, with a tag between each two
    parts[::2] = [escape(_NO_XML_CHARACTER.sub("\ufffd", text)) for text in parts[::2]]
    return "".join(parts)

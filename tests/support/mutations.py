"""Documents with one odd part: every attribute, text and element of them in turn."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from xml.etree import ElementTree

VALUES = {
    "garbled": "?!<&\u00a0",
    "empty": "",
    "negative": "-1",
    "a fraction": "1.5",
    "no number": "many",
    "over-long": "9" * 5000,
    "larger than any": "99999999999999999999999",
}


def mutate(xml: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed, and the document in which only that is."""
    root = ElementTree.fromstring(xml)
    for index, element in enumerate(root.iter()):
        for attribute in element.attrib:
            for kind, value in VALUES.items():
                yield f"{element.tag}@{attribute} {kind}", _change(root, index, attribute, value)
            yield f"{element.tag}@{attribute} deleted", _change(root, index, attribute, None)
        if (element.text or "").strip():
            for kind, value in VALUES.items():
                yield f"{element.tag} {kind}", _change(root, index, "", value)
            yield f"{element.tag} nested", _nest(root, index)
        if index:
            yield f"{element.tag} deleted", _delete(root, index)
            yield f"{element.tag} twice", _double(root, index)


def _find(root: ElementTree.Element, index: int) -> tuple[ElementTree.Element, ElementTree.Element]:
    """Return a copy of the document, and of it the element with this number."""
    copied = deepcopy(root)
    return copied, list(copied.iter())[index]


def _change(root: ElementTree.Element, index: int, attribute: str, value: str | None) -> str:
    copied, element = _find(root, index)
    if not attribute:
        element.text = value
    elif value is None:
        del element.attrib[attribute]
    else:
        element.set(attribute, value)
    return ElementTree.tostring(copied, encoding="unicode")


def _nest(root: ElementTree.Element, index: int) -> str:
    copied, element = _find(root, index)
    inner = ElementTree.SubElement(element, element.tag)
    inner.text, element.text = element.text, None
    return ElementTree.tostring(copied, encoding="unicode")


def _find_parent(copied: ElementTree.Element, element: ElementTree.Element) -> ElementTree.Element:
    return next(parent for parent in copied.iter() if element in list(parent))


def _delete(root: ElementTree.Element, index: int) -> str:
    copied, element = _find(root, index)
    _find_parent(copied, element).remove(element)
    return ElementTree.tostring(copied, encoding="unicode")


def _double(root: ElementTree.Element, index: int) -> str:
    copied, element = _find(root, index)
    _find_parent(copied, element).append(deepcopy(element))
    return ElementTree.tostring(copied, encoding="unicode")

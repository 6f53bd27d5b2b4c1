"""libvirt's connection URIs: where the hypervisor is, and the URI without its passwords.

The format is driver[+transport]://[user[:password]@][host][:port]/path[?parameters]
(https://libvirt.org/uri.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_URI = re.compile(
    r"""(?P<driver>[a-z][a-z0-9]*) (?:\+(?P<transport>[a-z0-9]+))? :
    (?: // (?:[^/?#]*@)? (?P<host>[\w.~-]*|\[[0-9a-f:.]+(?:%[\w.~-]+)?\]) (?::\d{0,5})? | (?!//) )
    (?:/[^?#]*)? (?:\?[^#]*)? (?:\#.*)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

# A password goes from the colon after the user to the last @ of the text, as it may have any character that
# somebody forgot to escape. Digits before a slash are a port, not a password. The user is after "://", or at
# the beginning of a text that is not a URI.
_PASSWORD = re.compile(
    r"(://[^/?#:@\[]*|^[^/?#:@\[]*(?=:(?!//))):(?!\d+(?:[/?#]|$)).*@",
    re.DOTALL,
)
_SECRET_PARAMETER = re.compile("pass|pwd|secret|token", re.IGNORECASE)

_USER = re.compile(r"://[^/?#]*@")
_AUTH_PARAMETER = re.compile("^[^=]*(?:auth|key|pki|user)", re.IGNORECASE)

_QUOTED_LENGTH = 60


@dataclass(frozen=True, slots=True)
class LibvirtUri:
    """The parts of a URI that say where the hypervisor is."""

    driver: str
    transport: str | None
    host: str

    @classmethod
    def parse(cls, uri: str) -> LibvirtUri:
        """Parse a URI such as "qemu+ssh://root@kvm02/system".

        :raises ValueError: if it is not a URI; the message is empty, so that it cannot contain a password
        """
        match = _URI.fullmatch(uri)
        if match is None or " " in uri or not uri.isprintable():
            raise ValueError
        transport = match["transport"]
        return cls(match["driver"].lower(), transport and transport.lower(), match["host"] or "")

    @property
    def is_embedded(self) -> bool:
        """Whether it is libvirt's test driver, which has pools but no file system."""
        return self.driver == "test"

    @property
    def is_local(self) -> bool:
        """Whether the hypervisor is this machine.

        A host or a transport makes it remote, even if it is this machine: then paths belong to that host.
        """
        return not self.is_embedded and not self.host and self.transport in (None, "unix")


def redact_uri(uri: str) -> str:
    """Return the URI without passwords: neither between user and host nor in a parameter.

    Any text is accepted, because a text that is not a URI may also contain a password.
    """
    return _replace_passwords(uri, "")


def hide_user(uri: str) -> str:
    """Return the URI without user and password, and without the values of parameters about either."""
    address, mark, query = _USER.sub("://***@", redact_uri(uri)).partition("?")
    parameters = [
        f"{parameter.partition('=')[0]}=***" if _AUTH_PARAMETER.search(unquote(parameter)) else parameter
        for parameter in re.split("[&;]", query)
    ]
    return address + mark + "&".join(parameters)


def redact_in(text: str, uri: str) -> str:
    """Return the text without the passwords of the URI. The text may quote all of the URI or a part."""
    text = text.replace(uri, redact_uri(uri))
    address, _, query = uri.partition("?")
    for match in _PASSWORD.finditer(address):
        secret = match[0].removeprefix(match[1])  # ":password@"
        text = text.replace(secret, "@").replace(unquote(secret), "@")
    for parameter in re.split("[&;]", query):
        if _SECRET_PARAMETER.search(unquote(parameter.partition("=")[0])):
            text = text.replace(parameter, "***")
    return text


def quote(text: str) -> str:
    """Quote a text for one line of a log: shortened, escaped, with *** for a password."""
    harmless = _replace_passwords(text, ":***")
    if len(harmless) > _QUOTED_LENGTH:
        harmless = harmless[:_QUOTED_LENGTH] + "…"
    return repr(harmless)


def _replace_passwords(uri: str, replacement: str) -> str:
    address, mark, query = _PASSWORD.sub(rf"\1{replacement}@", uri).partition("?")
    parameters = re.split("[&;]", query)
    harmless = [text for text in parameters if not _SECRET_PARAMETER.search(unquote(text.partition("=")[0]))]
    if len(harmless) == len(parameters):
        return address + mark + query
    return address + (mark + "&".join(harmless) if harmless else "")

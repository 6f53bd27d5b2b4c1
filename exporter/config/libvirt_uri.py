"""libvirt's connection URIs: where the hypervisor is, and the URI without its passwords.

The format is driver[+transport]://[user[:password]@][host][:port]/path[?parameters]
(https://libvirt.org/uri.html).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

_URI = re.compile(
    r"""(?P<driver>[a-z][a-z0-9]*) (?:\+(?P<transport>[a-z0-9]+))? :
    (?: // (?:[^/?#]*@)? (?P<host>[\w.~-]*|\[[0-9a-f:.]+(?:%[\w.~-]+)?\]) (?::\d{0,5})? | (?!//) )
    (?P<path>/[^?#]*)? (?:\?[^#]*)? (?:\#.*)?""",
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

_PROXY_USER = re.compile(":.*@", re.DOTALL)

_USER = re.compile(r"://[^/?#]*@")
_AUTH_PARAMETER = re.compile("^[^=]*(?:auth|key|pki|user)", re.IGNORECASE)

_QUOTED_LENGTH = 60

# libvirt's driver for VMware runs in the client. If one of its parameters has another form, the driver (seen
# in libvirt 9.0) ends the process by a signal. So these say exactly what it accepts.
_VMWARE_DRIVERS = ("esx", "gsx", "vpx")
_DRIVERS_WITH_GROUPS = ("qemu", "lxc", "ch")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,5})")  # strtol(3)
_PROXY_TYPE = re.compile("(?:http|socks|socks5|socks4|socks4a)://")
_MAX_PORT = 65535

_HTTPS_PORT = 443
# Without a transport, a host is asked over TLS.
_DEFAULT_PORTS = {None: 16514, "tls": 16514, "tcp": 16509, "ssh": 22, "libssh": 22, "libssh2": 22}


@dataclass(frozen=True, slots=True)
class LibvirtUri:
    """The parts of a URI that say where the hypervisor is."""

    driver: str
    transport: str | None
    host: str
    path: str = ""

    @classmethod
    def parse(cls, uri: str) -> LibvirtUri:
        """Parse a URI such as "qemu+ssh://root@kvm02/system".

        :raises ValueError: if it is not a URI; the message is empty, so that it cannot contain a password
        """
        match = _URI.fullmatch(uri)
        if match is None or " " in uri or not uri.isprintable():
            raise ValueError
        transport = match["transport"]
        return cls(
            match["driver"].lower(), transport and transport.lower(), match["host"] or "", match["path"] or ""
        )

    @property
    def is_embedded(self) -> bool:
        """Whether it is libvirt's test driver, which has pools but no file system."""
        return self.driver == "test"

    @property
    def has_control_groups(self) -> bool:
        """Whether its guests are processes in control groups that libvirt makes: not those of a session."""
        return self.driver in _DRIVERS_WITH_GROUPS and self.path in ("", "/", "/system")

    @property
    def has_process_files(self) -> bool:
        """Whether libvirtd writes its guests' processes to /run/libvirt/qemu: not those of a session."""
        return self.driver == "qemu" and self.has_control_groups

    @property
    def is_local(self) -> bool:
        """Whether it names neither a host nor a transport over a network: connecting uses none.

        Another URI may still be this machine's (`settings.is_this_machine`).
        """
        return not self.is_embedded and not self.host and self.transport in (None, "unix")


def find_default_port(uri: str) -> int | None:
    """Return the port at which libvirt asks the host of a URI; None if there is no connection over a network.

    :param uri: can be parsed, and has a host
    """
    parsed = LibvirtUri.parse(uri)
    if parsed.is_embedded:
        return None
    if parsed.transport is None and parsed.driver in _VMWARE_DRIVERS:
        return _HTTPS_PORT
    return _DEFAULT_PORTS.get(parsed.transport)


def bracket_address(host: str) -> str:
    """Return a host as a URI has it: an IPv6 address in brackets."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return host if address.scope_id is not None else f"[{host}]"


def check_parameters(uri: str) -> None:
    """Refuse a parameter that libvirt's client does not survive.

    :param uri: can be parsed
    :raises ValueError: saying what the parameter has to be, without its value, which may have a password
    """
    parsed = LibvirtUri.parse(uri)
    if parsed.driver not in _VMWARE_DRIVERS or parsed.transport is not None:
        return
    for parameter in re.split("[&;]", uri.partition("#")[0].partition("?")[2]):
        name, _, value = parameter.partition("=")
        # To libvirt, which is written in C, a text ends at its first null byte.
        name, value = (unquote(text).partition("\0")[0] for text in (name, value))
        check = _VMWARE_PARAMETERS.get(name.lower())
        if check is not None:
            check(name.lower(), value)


def _check_transport(name: str, value: str) -> None:
    if value not in ("http", "https"):
        raise ValueError(f"{name} is http or https")


def _check_yes_or_no(name: str, value: str) -> None:
    if _parse_number(value) not in (0, 1):
        raise ValueError(f"{name} is 0 or 1")


def _check_proxy(name: str, value: str) -> None:
    has_type = _PROXY_TYPE.match(value)
    host, colon, port = (value[has_type.end() :] if has_type else value).partition(":")
    number = _parse_number(port)
    is_port = number is not None and 1 <= number <= _MAX_PORT
    if (not has_type and "://" in value) or (colon and not (host and is_port)):
        raise ValueError(
            f"{name} is HOST or HOST:PORT; http://, socks4://, socks4a:// or socks5:// may precede"
        )


def _parse_number(text: str) -> int | None:
    """Return the number as C reads it; None if there is none, or it is too long to be valid."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else int(match[1] + match[2])


_VMWARE_PARAMETERS = {
    "transport": _check_transport,
    "no_verify": _check_yes_or_no,
    "auto_answer": _check_yes_or_no,
    "proxy": _check_proxy,
}


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
        if _is_secret(parameter):
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
    harmless = [text for text in parameters if not _is_secret(text)]
    if len(harmless) == len(parameters):
        return address + mark + query
    return address + (mark + "&".join(harmless) if harmless else "")


def _is_secret(parameter: str) -> bool:
    """Whether a parameter is a password, or a proxy with one."""
    name, _, value = map(unquote, parameter.partition("="))
    return bool(_SECRET_PARAMETER.search(name)) or (
        "proxy" in name.lower() and bool(_PROXY_USER.search(value))
    )

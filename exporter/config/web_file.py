"""The web configuration file of the Prometheus family: TLS, headers, users, a rate limit.

It has the format of Prometheus' exporter-toolkit, so one file serves node_exporter and this exporter. It is
read as strictly as our own file. Options that Python's TLS does not support are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.config.keys import Key, ListKey
from exporter.config.kinds import DURATION, Kind
from exporter.config.mistakes import Mistakes
from exporter.config.sections import read_keys, read_mapping
from exporter.config.strict_yaml import Item, read_yaml
from exporter.deprecation import Deprecation
from exporter.errors import ConfigError

# Go's names of the cipher suites before TLS 1.3, and OpenSSL's names.
CIPHER_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
# The suites of TLS 1.3 may be listed too. They are always offered: neither Go nor Python can select them.
_ALWAYS_OFFERED = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")

# Go's names of the policies. The second is an older name of the third.
_ANY_CERTIFICATE = ("RequireAnyClientCert", "RequireClientCert")
CLIENT_AUTH_TYPES = (
    "NoClientCert",
    "RequestClientCert",
    *_ANY_CERTIFICATE,
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
VERIFYING_TYPES = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

# With a cost of 16, one password takes 4 s of a core. That is too long for a scrape.
_MAX_BCRYPT_COST = 15
_BCRYPT_HASH = re.compile(r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsSettings:
    """How the server speaks TLS.

    Each certificate or key is either a file, relative to the web configuration's folder, or PEM text.
    """

    cert_file: str | None = None
    cert: str | None = None
    key_file: str | None = None
    key: str | None = field(default=None, repr=False)
    client_ca_file: str | None = None
    client_ca: str | None = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    curve_preferences: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """A token bucket: one request each `interval` seconds, and `burst` at once."""

    interval: float = 0.0
    burst: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class WebFile:
    """What the file says.

    :ivar users: each user's bcrypt hash by name; empty if no password is needed
    :ivar notes: valid settings that are deprecated, or have no effect here, one line each
    """

    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit = RateLimit()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _SecretKey:
    """A key whose value no message may show."""

    kind: Kind[Any]
    deprecated: Deprecation | None = None

    def read(self, item: Item) -> object:
        """Return the value.

        :raises ConfigError: if it is not of the key's kind
        """
        try:
            return self.kind.read(item.value, "something else")
        except ValueError as error:
            raise ConfigError([f"{item.place}: {error}"]) from error


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _parse_header(value: object) -> str:
    """Return a header's value as Go sends it: line ends become blanks, and those at both ends are cut off."""
    text = re.sub(r"[\r\n]", " ", _parse_text(value)).strip(" \t")
    if not all(letter.isprintable() or letter == "\t" for letter in text):
        raise ValueError
    return text


def _parse_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _parse_burst(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError
    return value


def _parse_hash(value: object) -> str:
    match = _BCRYPT_HASH.fullmatch(_parse_text(value))
    if match is None:
        raise ValueError
    if int(match["cost"]) > _MAX_BCRYPT_COST:
        raise ValueError(f"a cost of {_MAX_BCRYPT_COST} at most")
    return match[0]


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    return parse


def _choice(what: str, choices: tuple[str, ...]) -> Kind[str]:
    return Kind(f"{what}: {', '.join(choices)}", _one_of(*choices))


_FILE = Kind("the path of a file", _parse_text)
_PEM = Kind("a certificate or key as PEM text", _parse_text)
_BOOLEAN = Kind("true or false", _parse_boolean)
_NAME = Kind("one line of text", _parse_text)
_HEADER = Kind("text without control characters", _parse_header)
_VERSION = _choice("a version", VERSIONS)

_TLS_KEYS: Mapping[str, Key | ListKey | _SecretKey] = {
    "cert": _SecretKey(_PEM),
    "cert_file": Key(_FILE, "The server's certificate, with any intermediate ones after it."),
    "key": _SecretKey(_PEM),
    "key_file": Key(_FILE, "The certificate's key."),
    "client_auth_type": Key(_choice("a policy", CLIENT_AUTH_TYPES), "Whether clients need a certificate."),
    "client_ca": _SecretKey(_PEM),
    "client_ca_file": Key(_FILE, "The authorities that sign clients' certificates."),
    "client_allowed_sans": ListKey(_NAME, "Names of which a client's certificate must bear one."),
    "min_version": Key(_VERSION, "The oldest version of TLS."),
    "max_version": Key(_VERSION, "The newest version of TLS."),
    "cipher_suites": ListKey(
        _choice("a cipher suite", (*CIPHER_SUITES, *_ALWAYS_OFFERED)), "Cipher suites up to TLS 1.2."
    ),
    "curve_preferences": ListKey(_choice("a curve", tuple(CURVES)), "The curve for the key exchange."),
    "prefer_server_cipher_suites": Key(_BOOLEAN, "Whether the server's order of ciphers counts."),
}
_HEADER_KEYS = {
    "Content-Security-Policy": Key(_HEADER, "Sent with each response."),
    "Strict-Transport-Security": Key(_HEADER, "Sent with each response."),
    "X-Content-Type-Options": Key(_choice("a value", ("nosniff",)), "Sent with each response."),
    "X-Frame-Options": Key(_choice("a value", ("deny", "sameorigin")), "Sent with each response."),
    "X-XSS-Protection": Key(_HEADER, "Sent with each response."),
}
_RATE_KEYS = {
    "interval": Key(DURATION, "Time between two requests; 0 for no limit."),
    "burst": Key(Kind("a whole number, 1 or more", _parse_burst), "Requests at once."),
}
_HASH_KEY = _SecretKey(Kind("a password hashed with bcrypt, as htpasswd -nB writes it", _parse_hash))
_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")


def load_web_file(path: Path) -> WebFile:
    """Read a web configuration file.

    The certificates and keys that it names are checked later, when they are loaded.

    :raises ConfigError: with every mistake in it
    """
    mistakes = Mistakes()
    items = read_mapping(read_yaml(path, mistakes), _SECTIONS, mistakes)
    tls = _read_tls(items.get("tls_server_config"), path, mistakes)
    http = _section(items, "http_server_config", ("http2", "headers"), mistakes)
    http2 = read_keys(http, {"http2": Key(_BOOLEAN, "Whether HTTP/2 is offered.")}, mistakes)
    headers = _section(http, "headers", _HEADER_KEYS, mistakes)
    users = _read_users(items.get("basic_auth_users"), mistakes)
    limit = _section(items, "rate_limit", _RATE_KEYS, mistakes)
    file = WebFile(
        tls=tls,
        headers=read_keys(headers, _HEADER_KEYS, mistakes),
        users=users,
        rate_limit=RateLimit(**read_keys(limit, _RATE_KEYS, mistakes)),
        notes=(*mistakes.warnings, *_list_notes(path, tls, http2)),
    )
    if file.rate_limit.interval and "burst" not in limit:
        mistakes.add(items["rate_limit"].place, "found no burst, expected a whole number, 1 or more")
    mistakes.raise_if_any()
    return file


def _list_notes(path: Path, tls: TlsSettings | None, http2: Mapping[str, bool]) -> Iterator[str]:
    if http2.get("http2"):
        yield f"{path}: http2: true has no effect, HTTP/1.1 is served"
    if tls is not None and tls.client_auth_type == "RequestClientCert":
        yield f"{path}: client_auth_type RequestClientCert: clients are not asked, since any answer would do"


def _section(
    items: Mapping[str, Item], name: str, keys: Mapping[str, Any] | tuple[str, ...], mistakes: Mistakes
) -> dict[str, Item]:
    return read_mapping(items[name], keys, mistakes) if name in items else {}


def _read_users(item: Item | None, mistakes: Mistakes) -> dict[str, str]:
    if item is None:
        return {}
    names = item.value if isinstance(item.value, dict) else {}
    entries = read_mapping(item, names, mistakes)
    for name, child in entries.items():
        if not name or ":" in name or not name.isprintable():
            found = "found a user's name that HTTP cannot carry"
            mistakes.add(child.place, f"{found}, expected one line without a colon")
    return read_keys(entries, dict.fromkeys(entries, _HASH_KEY), mistakes)


def _read_tls(item: Item | None, path: Path, mistakes: Mistakes) -> TlsSettings | None:
    if item is None or not item.value:
        return None
    items = read_mapping(item, _TLS_KEYS, mistakes)
    values = read_keys(items, _TLS_KEYS, mistakes)
    for name in ("cert_file", "key_file", "client_ca_file"):
        if name in values:
            values[name] = str(path.parent / values[name])
    settings = TlsSettings(**values)
    for mistake in _find_mistakes(settings, items):
        mistakes.add(item.place, mistake)
    return settings


def _find_mistakes(tls: TlsSettings, items: Mapping[str, Item]) -> Iterator[str]:
    """Yield conflicts between keys, and unsupported values."""
    for name, needed in (("cert", True), ("key", True), ("client_ca", False)):
        given = [each for each in (name, f"{name}_file") if each in items]
        if len(given) > 1:
            yield f"found both {name} and {name}_file, expected one of them"
        if needed and not given:
            yield f"found neither {name} nor {name}_file, expected one of them"
    has_ca = "client_ca" in items or "client_ca_file" in items
    if tls.client_auth_type in _ANY_CERTIFICATE:
        yield (
            f"client_auth_type {tls.client_auth_type} cannot be honoured: Python's TLS verifies every"
            " certificate that it asks for; RequireAndVerifyClientCert can be"
        )
    if tls.client_auth_type in VERIFYING_TYPES and not has_ca:
        yield f"client_auth_type {tls.client_auth_type} needs client_ca or client_ca_file"
    if has_ca and tls.client_auth_type == "NoClientCert":
        yield "found client_ca without a client_auth_type that uses it"
    if tls.client_allowed_sans and tls.client_auth_type not in VERIFYING_TYPES:
        yield f"client_allowed_sans needs a client_auth_type of {' or '.join(VERIFYING_TYPES)}"
    if VERSIONS.index(tls.min_version) > VERSIONS.index(tls.max_version):
        yield f"min_version {tls.min_version} is above max_version {tls.max_version}"
    if len(tls.curve_preferences) > 1:
        yield "curve_preferences cannot be honoured: Python's TLS takes one curve, not several"
    if tls.cipher_suites and not set(tls.cipher_suites) & set(CIPHER_SUITES) and tls.max_version != "TLS13":
        yield "cipher_suites has none that max_version allows"

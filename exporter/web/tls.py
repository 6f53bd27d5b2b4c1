"""TLS contexts from the web configuration, and further checks of a client's certificate."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from exporter.config.files import read_file
from exporter.config.web_file import CIPHER_SUITES, CURVES, TlsSettings
from exporter.errors import ConfigError
from exporter.web.pem import explain_missing_block, list_blocks

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_VERIFY_MODES = {
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_CERTIFICATE = re.compile("(?:X509 )?CERTIFICATE")
_KEY = re.compile("(?:[A-Z0-9]+ )?PRIVATE KEY")
# The kinds of names in SSLObject.getpeercert's result that can allow a client.
_SAN_KINDS = ("DNS", "IP Address", "email", "URI")


def make_ssl_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return a server's context with these settings.

    :raises ConfigError: if a certificate or key cannot be read, or has the wrong form
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Versions that OpenSSL's own policy forbids stay forbidden.
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    context.set_alpn_protocols(["http/1.1"])
    # A new handshake on an old connection (TLS 1.2) costs the server most. OpenSSL 3 refuses it by default.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # PROTOCOL_TLS_SERVER prefers the server's order of ciphers by default.
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_ciphers(context, tls)
    _load_certificate(context, tls)
    _load_client_authorities(context, tls)
    return context


def _set_ciphers(context: ssl.SSLContext, tls: TlsSettings) -> None:
    suites = [CIPHER_SUITES[name] for name in tls.cipher_suites if name in CIPHER_SUITES]
    if suites:
        context.set_ciphers(":".join(suites))
    if not tls.curve_preferences:
        return
    (curve,) = tls.curve_preferences  # load_web_file refuses more: Python's TLS supports only one
    try:
        context.set_ecdh_curve(CURVES[curve])
    except (ssl.SSLError, ValueError) as error:
        message = f"curve_preferences: {curve} is not supported: this Python's TLS does not have it"
        raise ConfigError([message]) from error


def _load_certificate(context: ssl.SSLContext, tls: TlsSettings) -> None:
    where = f"cert {tls.cert_file or '(inline)'}, key {tls.key_file or '(inline)'}"
    expected = "expected a PEM certificate and its key"
    found = {}
    for what, content, label in (
        ("cert", _read("cert", tls.cert_file, tls.cert), _CERTIFICATE),
        ("key", _read("key", tls.key_file, tls.key), _KEY),
    ):
        found[what] = "".join(_list_texts(content, label))
        if not found[what]:
            raise ConfigError([f"{where}: {what}: {explain_missing_block(content)}, {expected}"])
    with _as_file(found["cert"]) as certificate_path, _as_file(found["key"]) as key_path:
        try:
            # Without a password argument, OpenSSL would ask the terminal for the password of an encrypted
            # key.
            context.load_cert_chain(certificate_path, key_path, password=_refuse_encrypted)
        except ssl.SSLError as error:
            reason = error.reason or "one of them is not complete"
            raise ConfigError([f"{where}: {reason.replace('_', ' ').lower()}, {expected}"]) from error


def _refuse_encrypted() -> str:
    raise ConfigError(["the key is encrypted, expected one without a password"])


def _load_client_authorities(context: ssl.SSLContext, tls: TlsSettings) -> None:
    mode = _VERIFY_MODES.get(tls.client_auth_type)
    if mode is None:
        return
    context.verify_mode = mode
    content = _read("client_ca", tls.client_ca_file, tls.client_ca)
    authorities = _list_texts(content, _CERTIFICATE)
    where = f"client_ca {tls.client_ca_file or '(inline)'}"
    if not authorities:
        raise ConfigError(
            [f"{where}: {explain_missing_block(content)}, expected certificates of authorities"]
        )
    for number, authority in enumerate(authorities, start=1):
        _load_authority(context, authority, f"{where}: its certificate number {number}")


def _load_authority(context: ssl.SSLContext, authority: str, what: str) -> None:
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError([f"{what} cannot be read, expected a PEM certificate"]) from error


def is_allowed(tls: TlsSettings, certificate: Any) -> bool:
    """Whether a client's verified certificate has one of the allowed names, or no names are required.

    :param certificate: the result of SSLObject.getpeercert; None or empty if the client has none
    """
    if not tls.client_allowed_sans or not certificate:
        return not tls.client_allowed_sans or tls.client_auth_type == "VerifyClientCertIfGiven"
    names = {
        str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name
        for kind, name in certificate.get("subjectAltName", ())
        if kind in _SAN_KINDS
    }
    return not names.isdisjoint(tls.client_allowed_sans)


def read_expiry(tls: TlsSettings) -> float:
    """Return when the server's certificate expires, in seconds since the epoch.

    :raises ConfigError: if it cannot be read, or is not a certificate
    """
    content = _read("cert", tls.cert_file, tls.cert)
    try:
        pem = _list_texts(content, _CERTIFICATE)[0]
        return _find_not_after(ssl.PEM_cert_to_DER_cert(pem.strip()))
    except (ValueError, IndexError) as error:
        where = f"cert {tls.cert_file or '(inline)'}"
        raise ConfigError([f"{where}: no certificate, expected one in PEM"]) from error


def _find_not_after(der: bytes) -> float:
    """Return notAfter of a certificate: the second timestamp in `validity` (RFC 5280, TBSCertificate).

    Python's ssl shows only the fields of a peer's certificate, not those of our own.
    """
    _, certificate, _ = _read_element(der)
    _, body, _ = _read_element(certificate)
    tag, _, rest = _read_element(body)
    fields = rest if tag == 0xA0 else body  # the version, which is missing in certificates of version 1
    for _ in range(3):  # serial number, signature algorithm, issuer
        _, _, fields = _read_element(fields)
    _, validity, _ = _read_element(fields)
    _, _, rest = _read_element(validity)
    tag, not_after, _ = _read_element(rest)
    form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"  # UTCTime, or GeneralizedTime from 2050 on
    return datetime.strptime(not_after.decode("ascii"), form).replace(tzinfo=timezone.utc).timestamp()


def _read_element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return the first element's tag and content, and the rest (X.690, 8.1)."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return tag, der[start : start + length], der[start + length :]


def _list_texts(content: bytes, label: re.Pattern[str]) -> list[str]:
    """Return the PEM blocks of this kind."""
    return [block.text for block in list_blocks(content) if label.fullmatch(block.label)]


def _read(what: str, path: str | None, text: str | None) -> bytes:
    if path is None:
        return (text or "").encode()
    try:
        return read_file(Path(path))
    except OSError as error:
        raise ConfigError([f"{what}_file {path}: cannot be read: {error.strerror}"]) from error


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Show PEM as a file, because OpenSSL reads only files.

    They are never written to a disk (memfd_create).
    """
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

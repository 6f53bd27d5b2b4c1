"""Files as others write them: each is read, or one clear line says what is wrong with it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.config.load import load_config
from exporter.config.nova_conf import read_nova_conf
from exporter.config.settings import Flags
from exporter.config.web_file import TlsSettings, load_web_file
from exporter.errors import ConfigError
from exporter.web.passwords import _has_hash
from exporter.web.pem import list_blocks
from exporter.web.tls import make_ssl_context, read_expiry

pytest.importorskip("trustme", reason="certificates are made with trustme, which only the dev extra brings")
from tests.web.authority import Authority, hash_password  # it imports trustme

WELL: dict[str, Callable[[bytes], bytes]] = {
    "as OpenSSL writes it": lambda pem: pem,
    "a comment in UTF-8": lambda pem: "# Zürich, Ελλάδα\n".encode() + pem,
    "a comment in Latin-1": lambda pem: "# Zürich\n".encode("latin-1") + pem,
    "a byte order mark": lambda pem: b"\xef\xbb\xbf" + pem,
    "a byte order mark after a comment": lambda pem: b"# A\n\xef\xbb\xbf" + pem,
    "UTF-16": lambda pem: pem.decode().encode("utf-16"),
    "UTF-16, big end first": lambda pem: b"\xfe\xff" + pem.decode().encode("utf-16-be"),
    "UTF-32": lambda pem: pem.decode().encode("utf-32"),
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "CR": lambda pem: pem.replace(b"\n", b"\r"),
    "the end of a DOS file": lambda pem: pem.replace(b"\n", b"\r\n") + b"\x1a",
    "text after it": lambda pem: pem + "Ende: ü\n".encode("latin-1"),
    "zeros after it": lambda pem: pem + bytes(100),
    "zeros before it": lambda pem: bytes(2) + pem,
    "no line end": lambda pem: pem.rstrip(b"\n"),
    "indented": lambda pem: b"".join(b"    " + line for line in pem.splitlines(keepends=True)),
    "blanks at the ends of lines": lambda pem: pem.replace(b"\n", b"  \n"),
    "parameters before it": lambda pem: (
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + pem
    ),
}
ODD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda _: b"", "it is empty"),
    "blanks": (lambda _: b"\r\n \n", "it is empty"),
    "DER": (lambda pem: _make_der(pem), "found DER (binary)"),
    "cut off": (lambda pem: pem[: len(pem) // 2], "is missing"),
    "any bytes": (lambda _: bytes(range(256)) * 9, "not PEM"),
    "another thing": (
        lambda _: b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        "found X509 CRL",
    ),
}


def _make_der(pem: bytes) -> bytes:
    """Return the first block as DER."""
    return base64.b64decode("".join(list_blocks(pem)[0].text.splitlines()[1:-1]))


class Files:
    """A server's certificate and key, and the authority of clients; one of them as a test says."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        certificate, key = authority.issue("server", "localhost")
        self.paths = {"cert_file": certificate, "key_file": key, "client_ca_file": authority.certificate}

    def load(self) -> None:
        tls = TlsSettings(
            **{name: str(path) for name, path in self.paths.items()},
            client_auth_type="RequireAndVerifyClientCert",
        )
        make_ssl_context(tls)
        read_expiry(tls)


NAMES = ["cert_file", "key_file", "client_ca_file"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WELL)
def test_pem_is_found_whatever_stands_around_it(tmp_path: Path, name: str, kind: str) -> None:
    files = Files(tmp_path)
    path = files.paths[name]
    path.write_bytes(WELL[kind](path.read_bytes()))
    files.load()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_pem_is_named_in_one_line(tmp_path: Path, name: str, kind: str) -> None:
    files = Files(tmp_path)
    path = files.paths[name]
    change, reason = ODD[kind]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError) as caught:
        files.load()
    (line,) = caught.value.mistakes
    assert f"{name.removesuffix('_file')} {path}" in line
    assert reason in line
    assert "expected " in line
    assert "\n" not in line


def test_a_key_in_the_place_of_a_certificate_is_named(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.paths["cert_file"], files.paths["key_file"] = files.paths["key_file"], files.paths["cert_file"]
    with pytest.raises(ConfigError, match=r"cert: found (EC )?PRIVATE KEY, expected a PEM certificate"):
        files.load()


def test_a_certificate_and_its_key_may_be_in_one_file(tmp_path: Path) -> None:
    files = Files(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(files.paths["key_file"].read_bytes() + files.paths["cert_file"].read_bytes())
    files.paths["cert_file"] = files.paths["key_file"] = both
    files.load()


def test_all_of_a_bundle_count_however_they_were_put_together(tmp_path: Path) -> None:
    """As of `cat` of files with a byte order mark each, and with comments in several encodings."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    authorities = [Authority(folder) for folder in folders]
    bundle = b"".join(
        f"# Zertifizierungsstelle Ü{number}\n".encode("latin-1" if number % 2 else "utf-8")
        + b"\xef\xbb\xbf"
        + authority.certificate.read_bytes().rstrip(b"\n")
        for number, authority in enumerate(authorities)
    )
    files = Files(tmp_path)
    files.paths["client_ca_file"].write_bytes(bundle)
    tls = TlsSettings(
        **{name: str(path) for name, path in files.paths.items()},
        client_auth_type="RequireAndVerifyClientCert",
    )
    assert len(make_ssl_context(tls).get_ca_certs()) == 3


def test_one_odd_certificate_of_a_bundle_is_named_by_its_number(tmp_path: Path) -> None:
    files = Files(tmp_path)
    path = files.paths["client_ca_file"]
    path.write_bytes(path.read_bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match="its certificate number 2 cannot be read"):
        files.load()


TEXTS: dict[str, tuple[Callable[[str], bytes], bool]] = {
    "UTF-8": (lambda text: text.encode(), True),
    "a byte order mark": (lambda text: text.encode("utf-8-sig"), True),
    "CRLF": (lambda text: text.replace("\n", "\r\n").encode(), True),
    "CR": (lambda text: text.replace("\n", "\r").encode(), True),
    "nothing": (lambda _: b"", True),
    "no line end": (lambda text: text.rstrip().encode(), True),
    "a comment in UTF-8": (lambda text: f"# Zürich\n{text}".encode(), True),
    "UTF-16": (lambda text: text.encode("utf-16"), False),
    "UTF-32": (lambda text: text.encode("utf-32"), False),
    "a comment in Latin-1": (lambda text: f"# Zürich\n{text}".encode("latin-1"), False),
    "the end of a DOS file": (lambda text: text.encode() + b"\x1a", False),
    "zeros": (lambda _: bytes(100), False),
    "any bytes": (lambda _: bytes(range(256)), False),
}
DOCUMENTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "configuration": ("log: {level: info}\n", lambda path: load_config(path, Flags())),
    "web configuration": ("http_server_config: {http2: false}\n", load_web_file),
    "nova.conf": ("[DEFAULT]\nmy_ip = 192.0.2.1\n", lambda path: read_nova_conf(path)),
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_is_read_or_one_line_says_why_not(tmp_path: Path, document: str, kind: str) -> None:
    text, load = DOCUMENTS[document]
    change, is_read = TEXTS[kind]
    is_nova = document == "nova.conf"
    if is_nova:
        # Its comments are in the locale's encoding.
        is_read = is_read or kind == "a comment in Latin-1"
    path = tmp_path / "file"
    path.write_bytes(change(text))
    if is_read:
        load(path)
        return
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(line.startswith(str(path)) and "\n" not in line for line in caught.value.mistakes)
    assert all(line.isprintable() for line in caught.value.mistakes)
    assert len(caught.value.mistakes) == 1 or kind == "any bytes"


def test_a_password_may_be_in_another_encoding_as_with_node_exporter() -> None:
    """As of a terminal in Latin-1: its bytes were hashed, and a client there sends the same bytes."""
    password = "Zürich".encode("latin-1")
    hashed = hash_password("Zürich")
    assert _has_hash("Zürich", hashed)
    assert not _has_hash(password.decode("utf-8", "surrogateescape"), hashed)
    import bcrypt

    hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    assert _has_hash(password.decode("utf-8", "surrogateescape"), hashed)

"""TLS as the web configuration says it: handshakes between two ends in memory, without a socket."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.config.web_file import TlsSettings
from exporter.errors import ConfigError
from exporter.web.tls import is_allowed, make_ssl_context, read_expiry

pytest.importorskip("trustme", reason="certificates are made with trustme, which only the dev extra brings")
from tests.support.descriptors import count_descriptors
from tests.web.authority import Authority  # it imports trustme

DAY = 24 * 60 * 60


class Lab:
    """An authority, a server's certificate, and clients that trust it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.certificate, self.key = self.authority.issue("server", "localhost")

    def settings(self, **changes: Any) -> TlsSettings:
        files = {"cert_file": str(self.certificate), "key_file": str(self.key)}
        return TlsSettings(**{**files, **changes})

    def make_client(self, *files: Path) -> ssl.SSLContext:
        """Return a client that has the certificate and the key in these files, if any."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if files:
            context.load_cert_chain(*files)
        return context


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def shake_hands(tls: TlsSettings, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the two ends of a connection, the client's and the server's.

    :raises ssl.SSLError: if they come to no agreement
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    ours = make_ssl_context(tls).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.read(1)  # with TLS 1.3 a client learns only now that its certificate is refused
    assert ours.version() == theirs.version()
    return theirs, ours


def test_a_client_sees_the_certificate_of_the_file_and_gets_http_1_1(lab: Lab) -> None:
    client, server = shake_hands(lab.settings(), lab.make_client())
    assert ("DNS", "localhost") in client.getpeercert()["subjectAltName"]
    assert (server.version(), server.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")


def test_certificate_and_key_may_stand_in_the_configuration_itself(lab: Lab) -> None:
    """They are shown to OpenSSL as files that no disk ever has, and that are gone afterwards."""
    before = count_descriptors()
    tls = TlsSettings(cert=lab.certificate.read_text(), key=lab.key.read_text())
    shake_hands(tls, lab.make_client())
    assert count_descriptors() == before


@pytest.mark.parametrize(
    ("least", "most", "client_most", "version"),
    [
        ("TLS12", "TLS13", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLS12", "TLS13", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("TLS12", "TLS12", ssl.TLSVersion.TLSv1_3, "TLSv1.2"),
        ("TLS13", "TLS13", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLS13", "TLS13", ssl.TLSVersion.TLSv1_2, None),
    ],
)
def test_the_version_is_the_newest_that_both_take(
    lab: Lab, least: str, most: str, client_most: ssl.TLSVersion, version: str | None
) -> None:
    client = lab.make_client()
    client.maximum_version = client_most
    tls = lab.settings(min_version=least, max_version=most)
    if version is None:
        with pytest.raises(ssl.SSLError):
            shake_hands(tls, client)
    else:
        assert shake_hands(tls, client)[1].version() == version


AES128, AES256 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
OPENSSL_AES128, OPENSSL_AES256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize(
    ("suites", "is_servers_order", "cipher"),
    [
        ((AES128,), True, OPENSSL_AES128),
        ((AES256,), True, OPENSSL_AES256),
        ((AES256, AES128), True, OPENSSL_AES256),
        ((AES256, AES128), False, OPENSSL_AES128),
        ((AES256, "TLS_AES_128_GCM_SHA256"), True, OPENSSL_AES256),
        (("TLS_AES_128_GCM_SHA256",), False, OPENSSL_AES128),
    ],
)
def test_ciphers_are_those_of_the_list_in_the_order_of_who_is_preferred(
    lab: Lab, suites: tuple[str, ...], is_servers_order: bool, cipher: str
) -> None:
    """The client prefers AES128. Suites of TLS 1.3 in the list are left to OpenSSL."""
    client = lab.make_client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(f"{OPENSSL_AES128}:{OPENSSL_AES256}")
    tls = lab.settings(cipher_suites=suites, prefer_server_cipher_suites=is_servers_order)
    _, server = shake_hands(tls, client)
    assert server.cipher()[0] == cipher


@pytest.mark.parametrize(
    ("curves", "is_agreed"), [((), True), (("CurveP384",), True), (("CurveP256",), False)]
)
def test_the_curve_is_the_one_that_is_configured(lab: Lab, curves: tuple[str, ...], is_agreed: bool) -> None:
    """The client takes P-384 only."""
    client = lab.make_client()
    client.set_ecdh_curve("secp384r1")
    with contextlib.nullcontext() if is_agreed else pytest.raises(ssl.SSLError):
        shake_hands(lab.settings(curve_preferences=curves), client)


@pytest.mark.parametrize(
    ("policy", "without", "good", "strange"),
    [
        ("NoClientCert", True, True, True),
        ("VerifyClientCertIfGiven", True, True, False),
        ("RequireAndVerifyClientCert", False, True, False),
    ],
)
def test_a_clients_certificate_is_asked_for_and_verified_as_the_policy_says(
    lab: Lab, policy: str, without: bool, good: bool, strange: bool
) -> None:
    mine = lab.authority.issue("good", "prometheus.example")
    others = Authority(lab.directory, "strange-ca").issue("strange", "prometheus.example")
    tls = lab.settings(client_auth_type=policy, client_ca_file=str(lab.authority.certificate))
    for files, is_welcome in (((), without), (mine, good), (others, strange)):
        with contextlib.nullcontext() if is_welcome else pytest.raises(ssl.SSLError):
            shake_hands(tls, lab.make_client(*files))


def test_a_clients_authorities_may_stand_in_the_configuration_itself(lab: Lab) -> None:
    text = "# Behörde\n" + lab.authority.certificate.read_text()
    tls = lab.settings(client_auth_type="RequireAndVerifyClientCert", client_ca=text)
    _, server = shake_hands(tls, lab.make_client(*lab.authority.issue("good", "prometheus.example")))
    assert is_allowed(tls, server.getpeercert())


CERTIFICATE = {
    "subjectAltName": (
        ("DNS", "prometheus.example"),
        ("IP Address", "2001:DB8:0:0:0:0:0:1\n"),
        ("email", "ops@example.com"),
        ("URI", "spiffe://example/prometheus"),
        ("Registered ID", "1.2.3"),
    )
}


@pytest.mark.parametrize(
    ("name", "is_welcome"),
    [
        ("prometheus.example", True),
        ("2001:db8::1", True),
        ("ops@example.com", True),
        ("spiffe://example/prometheus", True),
        ("1.2.3", False),
        ("other.example", False),
    ],
)
def test_a_client_is_allowed_by_one_of_its_names(name: str, is_welcome: bool) -> None:
    tls = TlsSettings(client_auth_type="RequireAndVerifyClientCert", client_allowed_sans=("x", name))
    assert is_allowed(tls, CERTIFICATE) == is_welcome


@pytest.mark.parametrize("certificate", [None, {}])
@pytest.mark.parametrize(
    ("policy", "names", "is_welcome"),
    [
        ("NoClientCert", (), True),
        ("VerifyClientCertIfGiven", ("a",), True),
        ("RequireAndVerifyClientCert", ("a",), False),
    ],
)
def test_a_client_without_a_certificate_is_allowed_where_none_is_required(
    policy: str, names: tuple[str, ...], is_welcome: bool, certificate: Any
) -> None:
    tls = TlsSettings(client_auth_type=policy, client_allowed_sans=names)
    assert is_allowed(tls, certificate) == is_welcome


def test_where_no_names_are_required_every_verified_client_is_allowed() -> None:
    assert is_allowed(TlsSettings(client_auth_type="RequireAndVerifyClientCert"), {"subjectAltName": ()})
    tls = TlsSettings(client_auth_type="RequireAndVerifyClientCert", client_allowed_sans=("a",))
    assert not is_allowed(tls, {"subject": ()})


@pytest.mark.parametrize("days", [30, -1, 365 * 60], ids=["valid", "expired", "beyond 2050"])
def test_the_end_of_our_certificate_is_read_from_it(lab: Lab, days: int) -> None:
    certificate, _ = lab.authority.issue("other", "localhost", days=days)
    at = read_expiry(lab.settings(cert_file=str(certificate)))
    assert at == pytest.approx(time.time() + days * DAY, abs=60)
    text = "Subject: what openssl writes above it\n" + certificate.read_text() + "and its key below\n"
    assert read_expiry(TlsSettings(cert=text)) == at


def test_the_end_of_our_certificate_is_the_same_in_every_time_zone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for zone in ("UTC", "Asia/Tokyo", "UTC+5"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        seen.add(read_expiry(lab.settings()))
    monkeypatch.undo()
    time.tzset()
    assert len(seen) == 1


def test_a_certificate_that_cannot_be_read_has_no_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_expiry(TlsSettings(cert_file=str(tmp_path / "gone")))
    assert list(caught.value.mistakes) == [
        f"cert_file {tmp_path}/gone: cannot be read: No such file or directory"
    ]


def refuse(tls: TlsSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        make_ssl_context(tls)
    (mistake,) = caught.value.mistakes
    return mistake


def test_what_cannot_be_used_is_named_with_its_file_and_why(lab: Lab, tmp_path: Path) -> None:
    gone, words = str(tmp_path / "gone"), tmp_path / "words"
    words.write_text("no certificate")
    _, other_key = lab.authority.issue("other", "localhost")
    encrypted = tmp_path / "encrypted"
    command = ["openssl", "pkey", "-in", lab.key, "-out", encrypted, "-aes128", "-passout", "pass:x"]
    subprocess.run(command, check=True)
    expected = "expected a PEM certificate and its key"
    certificate, key = lab.certificate, lab.key
    assert (
        refuse(lab.settings(cert_file=gone)) == f"cert_file {gone}: cannot be read: No such file or directory"
    )
    assert (
        refuse(lab.settings(key_file=gone)) == f"key_file {gone}: cannot be read: No such file or directory"
    )
    endless = refuse(lab.settings(key_file="/dev/zero"))
    assert endless == "key_file /dev/zero: cannot be read: it is larger than 16 MiB"
    assert (
        refuse(lab.settings(key_file=str(encrypted)))
        == "the key is encrypted, expected one without a password"
    )
    mismatch = refuse(lab.settings(key_file=str(other_key)))
    assert mismatch == f"cert {certificate}, key {other_key}: key values mismatch, {expected}"
    nothing = refuse(lab.settings(cert_file=str(words)))
    assert nothing.startswith(f"cert {words}, key {key}: ")
    assert nothing.endswith(expected)
    inline = refuse(TlsSettings(cert="a", key="b"))
    assert inline.startswith("cert (inline), key (inline): ")


def test_authorities_that_cannot_be_used_are_named(lab: Lab, tmp_path: Path) -> None:
    policy = {"client_auth_type": "RequireAndVerifyClientCert"}
    gone, words = str(tmp_path / "gone"), tmp_path / "words"
    words.write_bytes(b"\xff no certificate, as a file in DER is none")
    expected = "not PEM, expected certificates of authorities"
    assert refuse(lab.settings(**policy, client_ca_file=str(words))) == f"client_ca {words}: {expected}"
    assert refuse(lab.settings(**policy, client_ca="words")) == f"client_ca (inline): {expected}"
    missing = refuse(lab.settings(**policy, client_ca_file=gone))
    assert missing == f"client_ca_file {gone}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
    ],
    ids=["nothing", "no end", "no base64", "no fields"],
)
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_expiry(TlsSettings(cert=text))
    assert list(caught.value.mistakes) == ["cert (inline): no certificate, expected one in PEM"]

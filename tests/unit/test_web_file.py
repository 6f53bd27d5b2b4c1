"""The web configuration file: what the Prometheus family writes in it, and every mistake by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.config import web_file
from exporter.config.web_file import RateLimit, TlsSettings, load_web_file
from exporter.deprecation import Deprecation
from exporter.errors import ConfigError

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
MISTAKES = sorted((Path(__file__).parent / "web_file_mistakes").glob("*.yaml"))
EXPECT = "# expect: "


def write(directory: Path, text: str) -> Path:
    file = directory / "web.yml"
    file.write_text(text)
    return file


def test_everything_that_the_toolkit_documents_is_understood(tmp_path: Path) -> None:
    """One file with every section, relative paths taken from where it is."""
    file = load_web_file(
        write(
            tmp_path,
            f"""
tls_server_config:
  cert_file: server.crt
  key_file: /etc/ssl/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.example]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  curve_preferences: [CurveP256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: false
  headers: {{X-Frame-Options: deny, Strict-Transport-Security: max-age=1}}
basic_auth_users: {{prometheus: {HASH}}}
rate_limit: {{interval: 1s, burst: 5}}
""",
        )
    )
    assert file.tls == TlsSettings(
        cert_file=f"{tmp_path}/server.crt",
        key_file="/etc/ssl/server.key",
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file=f"{tmp_path}/ca.pem",
        client_allowed_sans=("prometheus.example",),
        cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        curve_preferences=("CurveP256",),
        prefer_server_cipher_suites=False,
    )
    assert file.headers == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=1"}
    assert file.users == {"prometheus": HASH}
    assert file.rate_limit == RateLimit(interval=1.0, burst=5)
    assert file.notes == ()


def test_an_empty_file_is_plain_http_for_everybody(tmp_path: Path) -> None:
    """As the toolkit has it."""
    file = load_web_file(write(tmp_path, ""))
    assert (file.tls, file.users, file.headers) == (None, {}, {})


def test_a_header_becomes_what_go_would_send(tmp_path: Path) -> None:
    """A YAML block ends in a line end, and a folded one may hold some; beyond ASCII there is UTF-8."""
    text = """
http_server_config:
  headers:
    Content-Security-Policy: |
      default-src 'self';
      img-src *
    X-XSS-Protection: " 1; r\u00fcckw\u00e4rts\t"
"""
    headers = load_web_file(write(tmp_path, text)).headers
    assert headers == {
        "Content-Security-Policy": "default-src 'self'; img-src *",
        "X-XSS-Protection": "1; rückwärts",
    }


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    """Neither is refused, since the same file serves other exporters."""
    text = "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}"
    text += "\nhttp_server_config: {http2: true}"
    notes = load_web_file(write(tmp_path, text)).notes
    assert [note.replace(f"{tmp_path}/", "") for note in notes] == [
        "web.yml: http2: true has no effect, HTTP/1.1 is served",
        "web.yml: client_auth_type RequestClientCert: clients are not asked, since any answer would do",
    ]


def test_a_deprecated_key_works_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = web_file._RATE_KEYS
    monkeypatch.setitem(keys, "interval", replace(keys["interval"], deprecated=Deprecation("1.3", "every")))
    file = load_web_file(write(tmp_path, "rate_limit: {interval: 2s, burst: 3}"))
    assert file.rate_limit == RateLimit(interval=2, burst=3)
    assert file.notes == (
        f"{tmp_path}/web.yml:1: rate_limit.interval: Deprecated since 1.3, use every instead",
    )


@pytest.mark.parametrize("file", MISTAKES, ids=lambda file: file.stem)
def test_a_mistake_is_answered_with_exactly_its_message(file: Path) -> None:
    """Where, what was found, what was expected; keys, hashes and passwords are never quoted."""
    expected = file.read_text().splitlines()[0].removeprefix(EXPECT)
    with pytest.raises(ConfigError) as caught:
        load_web_file(file)
    assert [mistake.replace(f"{file.parent}/", "") for mistake in caught.value.mistakes] == [expected]
    assert "canary" not in str(caught.value)


def test_the_most_that_a_limit_allows_is_allowed(tmp_path: Path) -> None:
    costly = HASH.replace("$10$", "$15$")
    file = load_web_file(
        write(tmp_path, f"basic_auth_users: {{a: {costly}}}\nrate_limit: {{interval: 1s, burst: 1}}\n")
    )
    assert file.users == {"a": costly}
    assert file.rate_limit == RateLimit(interval=1.0, burst=1)

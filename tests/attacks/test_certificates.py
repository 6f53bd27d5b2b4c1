"""A client's certificate whose authority was replaced."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from tests.attacks.clients import GET, read_response
from tests.support.waiting import wait_until
from tests.web.authority import Authority
from tests.web.served import Served, serve_web


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A web configuration that lets in clients of the authority in clients.pem: the old one."""
    tls = {
        "cert_file": "server.crt",
        "key_file": "server.key",
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "clients.pem",
    }
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"tls_server_config": tls}))
    return web


def issue_all(folder: Path) -> tuple[ssl.SSLContext, Authority]:
    """Return a client with a certificate of the old authority, and the new authority."""
    old, new = Authority(folder, "old"), Authority(folder, "new")
    old.issue("server", "localhost")
    shutil.copy(old.certificate, folder / "clients.pem")
    context = ssl.create_default_context(cafile=str(old.certificate))
    context.load_cert_chain(*old.issue("client", "prometheus.example"))
    return context, new


def replace_authority(web: Path, new: Authority, served: Served) -> None:
    new.certificate.replace(web.with_name("clients.pem"))
    wait_until(lambda: "web configuration reloaded" in served.log, "the new authority", seconds=20)


def test_a_kept_connection_ends_when_the_authority_behind_it_is_replaced(tmp_path: Path, web: Path) -> None:
    """The certificate was good when the connection was made; its next request is not answered any more."""
    context, new = issue_all(tmp_path)
    with serve_web(web) as served, connect(served.port, context) as client:
        for _ in range(2):
            client.sendall(GET)
            assert b"hypervisor_up" in read_response(client)
        replace_authority(web, new, served)
        client.sendall(GET)
        with pytest.raises(ConnectionError):
            read_response(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_does_not_outlive_the_authority_behind_it(
    tmp_path: Path, web: Path, version: ssl.TLSVersion
) -> None:
    """A client that resumes a session shows no certificate again."""
    context, new = issue_all(tmp_path)
    context.minimum_version = context.maximum_version = version
    with serve_web(web) as served:
        answer, session = ask(served.port, context)
        assert b"hypervisor_up" in answer
        replace_authority(web, new, served)
        with pytest.raises(OSError, match=r"alert|reset|closed|EOF|[Bb]roken pipe"):
            ask(served.port, context, session)


def connect(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(client, server_hostname="localhost", session=session)


def ask(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None]:
    """Return the answer over a new connection, and its TLS session, which the next one may resume."""
    with connect(port, context, session) as client:
        client.sendall(GET)
        return read_response(client), client.session

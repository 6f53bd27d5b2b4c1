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
from tests.web.served import serve_web


def test_a_kept_connection_ends_when_the_authority_behind_it_is_replaced(tmp_path: Path) -> None:
    """The certificate was good when the connection was made; its next request is not answered any more."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    old.issue("server", "localhost")
    shutil.copy(old.certificate, tmp_path / "clients.pem")
    tls = {
        "cert_file": "server.crt",
        "key_file": "server.key",
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "clients.pem",
    }
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"tls_server_config": tls}))
    context = ssl.create_default_context(cafile=str(old.certificate))
    context.load_cert_chain(*old.issue("client", "prometheus.example"))
    with serve_web(web) as served, connect(served.port, context) as client:
        for _ in range(2):
            client.sendall(GET)
            assert b"hypervisor_up" in read_response(client)
        new.certificate.replace(tmp_path / "clients.pem")
        wait_until(lambda: "web configuration reloaded" in served.log, "the new authority", seconds=20)
        client.sendall(GET)
        with pytest.raises(ConnectionError):
            read_response(client)


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(client, server_hostname="localhost")

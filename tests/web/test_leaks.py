"""Secrets planted wherever there may be any appear in nothing that the process ever says."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until
from tests.web.authority import Authority, hash_password

CHECKOUT = Path(__file__).resolve().parents[2]
CANARY = "c4n4ry"
PRIVATE = "pr1v4te"  # no password, but about a user: left out of what debug=true shows


class Planted:
    """Files with secrets in them, and a command line that has one, too."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory)
        certificate, key = authority.issue("server", "localhost")
        self.trust = ssl.create_default_context(cafile=str(authority.certificate))
        self.hash = hash_password(f"{CANARY}-password")
        # A key is a secret from its first line to its last.
        self.secrets = [CANARY, self.hash, key.read_text().splitlines()[1]]
        self.web = directory / "web.yml"
        inline = {"cert": certificate.read_text(), "key": key.read_text()}
        self.web.write_text(
            json.dumps({"tls_server_config": inline, "basic_auth_users": {"prometheus": self.hash}})
        )
        self.auth = directory / "auth.conf"
        self.auth.write_text(
            f"[credentials-c]\nauthname={CANARY}-name\npassword={CANARY}-sasl\n"
            "[auth-libvirt-127.0.0.1]\ncredentials=c\n"
        )
        nobody_listens = find_free_port()
        self.config = directory / "config.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "log": {"level": "debug"},
                    "hypervisors": [
                        {"uri": f"qemu+tcp://user:{CANARY}@127.0.0.1:{nobody_listens}/system"},
                        {"uri": f"qemu+libssh2://127.0.0.1:{nobody_listens}/system?password={CANARY}"},
                        {
                            "uri": f"qemu+libssh2://user:{CANARY}@127.0.0.1:{nobody_listens}/system"
                            f"?keyfile=/srv/{PRIVATE}&known_hosts=/srv/hosts&password={CANARY}",
                            "name": "named",
                        },
                        {"uri": "test:///default"},
                    ],
                    "modules": {
                        "default": {
                            "uri": f"qemu+tcp://user:{CANARY}@{{target}}:{nobody_listens}/system",
                            "target": "127[.]0[.]0[.]1",
                        }
                    },
                }
            )
        )
        self.environment = {
            **os.environ,
            "LIBVIRT_AUTH_FILE": str(self.auth),
            "SOME_TOKEN": f"{CANARY}-environment",
        }

    def run(self, *arguments: str) -> str:
        """Run the command to its end; return all that it says."""
        result = subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return result.stdout + result.stderr

    def assert_silent_in(self, said: str) -> None:
        assert said, "nothing was said, so nothing was tested"
        assert [secret for secret in self.secrets if secret in said] == []


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def test_no_answer_and_no_line_of_the_log_holds_a_secret(planted: Planted, tmp_path: Path) -> None:
    """Every endpoint, right and wrong requests, a reload with mistakes, and the log at its loudest."""
    port = find_free_port()
    log_file = tmp_path / "log"
    flags = [f"--config.file={planted.config}", f"--web.config.file={planted.web}"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "exporter", *flags, f"--web.listen-address=127.0.0.1:{port}"],
            cwd=CHECKOUT,
            env=planted.environment,
            stdout=log,
            stderr=log,
        )
    said = []
    try:
        wait_until(lambda: "msg=listening" in log_file.read_text(), "the exporter to listen")
        paths = [
            "/",
            "/metrics",
            "/sd",
            "/probe?target=127.0.0.1",
            "/probe?target=evil",
            "/-/ready",
            "/nothing",
        ]
        said += [_ask(planted, port, path) for path in paths]
        said.append(_ask(planted, port, "/metrics", password="wrong"))
        # A configured one, one of a module, one that no module allows, and all at once, which is refused.
        debugged = [
            _ask(planted, port, f"{path}debug=true")
            for path in (
                "/probe?target=named&",
                "/probe?target=127.0.0.1&",
                "/probe?target=evil&",
                "/metrics?",
            )
        ]
        said += debugged
        bad = json.loads(planted.config.read_text())
        bad["hypervisors"][0]["uri"] += " x"
        bad["hypervisors"][1]["password"] = f"{CANARY}-key"
        planted.config.write_text(json.dumps(bad))
        planted.web.write_text(json.dumps({"basic_auth_users": {"prometheus": f"{CANARY}-plain"}}))
        said.append(_ask(planted, port, "/-/reload", method="POST"))
        wait_until(lambda: "web configuration refused" in log_file.read_text(), "the refusal to be logged")
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert any('target="qemu+tcp://user@127.0.0.1' in answer for answer in said)
    assert "://***@127.0.0.1" in debugged[0]
    assert "keyfile=***&known_hosts=/srv/hosts'" in debugged[0]
    assert "uri: 'qemu+tcp://***@127.0.0.1:" in debugged[1]
    assert [PRIVATE in answer or "user@" in answer for answer in debugged] == [False] * 4
    assert ["does not allow this target" in answer for answer in debugged] == [False, False, True, False]
    assert any("The old configuration stays in use" in answer for answer in said)
    for answer in (*said, log_file.read_text()):
        planted.assert_silent_in(answer)


@pytest.mark.parametrize("flag", ["--once", "--config.check"])
def test_no_command_prints_a_secret(planted: Planted, flag: str) -> None:
    """What is right, and then the same with mistakes in every file."""
    flags = (f"--config.file={planted.config}", f"--web.config.file={planted.web}", flag)
    planted.assert_silent_in(planted.run(*flags))
    planted.config.write_text(planted.config.read_text().replace("/system", "/system x"))
    planted.web.write_text(planted.web.read_text().replace("BEGIN", "BEGUN").replace("$2b$04$", "$2b$99$"))
    said = planted.run(*flags)
    assert "expected" in said
    planted.assert_silent_in(said)


def test_no_flag_that_is_wrong_is_quoted_with_its_secret(planted: Planted) -> None:
    """A URI on the command line, misspelt in three ways."""
    for flags in (
        (f"--libvirt.uri=qemu+tcp://user:{CANARY}@kvm01/sys tem", "--config.check"),
        (f"--libvirt.url=qemu+tcp://user:{CANARY}@kvm01/system",),
        (f"qemu+tcp://user:{CANARY}@kvm01/system",),
    ):
        planted.assert_silent_in(planted.run(*flags))


def _ask(
    planted: Planted, port: int, path: str, *, method: str = "GET", password: str = f"{CANARY}-password"
) -> str:
    """Return the whole answer, whatever its status."""
    url = f"https://localhost:{port}{path}"
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, url, "prometheus", password)
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=planted.trust), urllib.request.HTTPBasicAuthHandler(manager)
    )
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=30) as response:
            return f"{response.headers}{response.read().decode()}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.headers}{error.read().decode()}"

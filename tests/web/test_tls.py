"""TLS and basic authentication as the Prometheus family's file describes them, asked for by real clients."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import find_free_port
from tests.support.waiting import wait_until
from tests.web.authority import Authority, hash_password
from tests.web.served import check, options, serve_web

Client = tuple[Path, Path]


class Lab:
    """A directory with an authority, a server's certificate, and clients of different merit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.authority.issue("server", "localhost", "127.0.0.1")
        self.good = self.authority.issue("good", "prometheus.example")
        self.expired = self.authority.issue("expired", "prometheus.example", days=-1)
        self.strange = Authority(directory, "strange-ca").issue("strange", "prometheus.example")

    @property
    def trust(self) -> list[str]:
        return ["--cacert", str(self.authority.certificate)]

    def write(self, **sections: Any) -> Path:
        """Write a web configuration; JSON is YAML. Paths in it are relative to it."""
        tls = {"cert_file": "server.crt", "key_file": "server.key", **sections.pop("tls", {})}
        file = self.directory / "web.yml"
        file.write_text(json.dumps({"tls_server_config": tls, **sections}))
        return file


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.mark.parametrize(
    ("policy", "without", "good", "strange", "expired"),
    [
        ("NoClientCert", "200", "200", "200", "200"),
        ("RequestClientCert", "200", "200", "200", "200"),
        ("VerifyClientCertIfGiven", "200", "200", "000", "000"),
        ("RequireAndVerifyClientCert", "000", "200", "000", "000"),
    ],
)
def test_each_policy_lets_in_whom_it_should(
    lab: Lab, policy: str, without: str, good: str, strange: str, expired: str
) -> None:
    """No certificate, a good one, one of another authority, and an expired one, under each policy."""
    ca = {} if policy == "NoClientCert" else {"client_ca_file": "ca.pem"}
    with serve_web(lab.write(tls={"client_auth_type": policy, **ca})) as served:
        assert served.curl(*lab.trust) == without
        assert served.curl(*lab.trust, *options(lab.good)) == good
        assert served.curl(*lab.trust, *options(lab.strange)) == strange
        assert served.curl(*lab.trust, *options(lab.expired)) == expired


@pytest.mark.parametrize("policy", ["RequireAnyClientCert", "RequireClientCert"])
def test_the_policy_that_pythons_tls_cannot_honour_is_refused_by_name(lab: Lab, policy: str) -> None:
    """Python's TLS verifies every certificate that it asks for; nothing laxer takes the policy's place."""
    status, said = check(lab.write(tls={"client_auth_type": policy, "client_ca_file": "ca.pem"}))
    assert status == 1
    assert f"client_auth_type {policy} cannot be honoured" in said


def test_only_a_client_with_an_allowed_name_gets_in(lab: Lab) -> None:
    """client_allowed_sans compares whole names, of DNS and of addresses."""
    other = lab.authority.issue("other", "grafana.example")
    by_address = lab.authority.issue("address", "::1")
    tls = {
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": "ca.pem",
        "client_allowed_sans": ["prometheus.example", "::1"],
    }
    with serve_web(lab.write(tls=tls)) as served:
        assert served.curl(*lab.trust, *options(lab.good)) == "200"
        assert served.curl(*lab.trust, *options(by_address)) == "200"
        assert served.curl(*lab.trust, *options(other)) == "000"


def test_versions_ciphers_and_the_curve_are_those_that_were_chosen(lab: Lab) -> None:
    """A client that offers only an older protocol or another cipher is turned away."""
    tls = {
        "max_version": "TLS12",
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
        "curve_preferences": ["CurveP384"],
    }
    with serve_web(lab.write(tls=tls)) as served:
        assert served.curl(*lab.trust) == "200"
        assert served.curl(*lab.trust, "--tlsv1.3") == "000"
        assert served.curl(*lab.trust, "--tls-max", "1.1") == "000"
        assert served.curl(*lab.trust, "--curves", "prime256v1") == "000"
        assert served.curl(*lab.trust, "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256") == "000"
        assert served.curl(*lab.trust, url=f"http://localhost:{served.port}/metrics") == "000"


def test_a_certificate_and_key_may_stand_in_the_file_itself(lab: Lab) -> None:
    """Inline PEM, and a Python client that checks the server's name."""
    inline = {
        "cert": (lab.directory / "server.crt").read_text(),
        "key": (lab.directory / "server.key").read_text(),
    }
    file = lab.directory / "web.yml"
    file.write_text(json.dumps({"tls_server_config": inline}))
    context = ssl.create_default_context(cafile=str(lab.authority.certificate))
    with serve_web(file) as served, urllib.request.urlopen(served.url, context=context) as response:
        text = response.read().decode()
    name = "hypervisor_exporter_web_certificate_expiry_timestamp_seconds"
    expiry = re.search(rf"^{name} (\S+)", text, re.MULTILINE)
    assert expiry is not None
    shown = subprocess.run(
        ["openssl", "x509", "-enddate", "-noout", "-in", lab.directory / "server.crt"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert float(expiry[1]) == ssl.cert_time_to_seconds(shown.removeprefix("notAfter="))


def test_every_endpoint_asks_who_is_there(lab: Lab) -> None:
    """Users are asked for everywhere, a wrong password and an unknown user are refused alike."""
    file = lab.write(basic_auth_users={"prometheus": hash_password("right")})
    with serve_web(file) as served:
        base = f"https://localhost:{served.port}"
        scrapes = ("/metrics", "/probe?target=x", "/metrics?debug=true", "/probe?target=x&debug=true")
        for path in (*scrapes, "/sd", "/", "/-/healthy", "/-/ready", "/nothing"):
            assert served.curl(*lab.trust, url=base + path) == "401", path
        assert served.curl(*lab.trust, "--request", "POST", url=f"{base}/-/reload") == "401"
        assert served.curl(*lab.trust, "--user", "prometheus:right") == "200"
        debug = f"{base}/metrics?debug=true"
        assert served.curl(*lab.trust, "--user", "prometheus:right", url=debug) == "200"
        assert served.curl(*lab.trust, "--user", "prometheus:wrong", url=debug) == "401"
        assert served.curl(*lab.trust, "--user", "prometheus:wrong") == "401"
        assert served.curl(*lab.trust, "--user", "nobody:right") == "401"
        assert served.curl(*lab.trust, "--user", "prometheus:") == "401"
        assert served.curl(*lab.trust, "--header", "authorization: Basic !") == "401"


def test_configured_headers_come_with_every_answer(lab: Lab) -> None:
    """Those of the file stand beside, or in place of, the exporter's own."""
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60"}
    context = ssl.create_default_context(cafile=str(lab.authority.certificate))
    with (
        serve_web(lab.write(http_server_config={"headers": headers})) as served,
        urllib.request.urlopen(served.url, context=context) as response,
    ):
        assert {name: response.headers[name] for name in headers} == headers


def test_the_rate_limit_turns_away_what_is_too_much(lab: Lab) -> None:
    """A burst of two, and then one an hour."""
    with serve_web(lab.write(rate_limit={"interval": "1h", "burst": 2})) as served:
        assert [served.curl(*lab.trust) for _ in range(3)] == ["200", "200", "429"]


def test_a_renewed_certificate_is_served_with_no_failed_scrape(lab: Lab) -> None:
    """Scrapers go on while the certificate is renewed five times; new connections see the newest one."""
    failures: list[str] = []
    stop = threading.Event()

    def scrape_on(served: Any) -> None:
        while not stop.is_set():
            status = served.curl(*lab.trust)
            if status != "200":
                failures.append(status)

    with serve_web(lab.write()) as served:
        scrapers = [threading.Thread(target=scrape_on, args=(served,)) for _ in range(2)]
        for scraper in scrapers:
            scraper.start()
        try:
            for renewal in range(5):
                fresh = lab.authority.issue("fresh", "localhost", f"renewal{renewal}.example")
                # As certbot does: both files are replaced, each at once. In between they do not fit.
                for old, new in zip(("server.crt", "server.key"), fresh, strict=True):
                    new.rename(lab.directory / old)
                name = f"DNS:renewal{renewal}.example"
                wait_until(lambda name=name: name in _names_of(served.port), f"the certificate of {name}")
        finally:
            stop.set()
            for scraper in scrapers:
                scraper.join()
    assert failures == []


def _names_of(port: int) -> str:
    """Return the names in the certificate that is served to a new connection."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName"]
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout


def test_a_bad_file_stops_the_start_and_changes_nothing_later(lab: Lab) -> None:
    """At the start every mistake is named; afterwards the old state stays, and a metric says so."""
    gauge = "hypervisor_exporter_web_config_last_reload_successful"
    users = {"prometheus": hash_password("right")}
    file = lab.write(basic_auth_users=users)
    with serve_web(file) as served:
        file.write_text("tls_server_config: {cert_file: gone.crt, key_file: server.key}\n")
        wait_until(lambda: "web configuration refused" in served.log, "the refusal to be logged")
        assert served.curl(*lab.trust, "--user", "prometheus:right") == "200"
        assert f"{gauge} 0.0" in _read(served.url, lab, "prometheus", "right")
        lab.write(basic_auth_users={"prometheus": hash_password("new")})
        wait_until(lambda: served.curl(*lab.trust, "--user", "prometheus:new") == "200", "the new password")
        assert served.curl(*lab.trust, "--user", "prometheus:right") == "401"
        assert f"{gauge} 1.0" in _read(served.url, lab, "prometheus", "new")
        assert served.log.count("web configuration refused") == 1
    file.write_text("tls_server_config: {cert_file: gone.crt, key_file: server.key}\nusers: {}\n")
    status, said = check(file)
    assert status == 1
    known = "tls_server_config, http_server_config, basic_auth_users, rate_limit"
    assert said == f"{file}:2: users: unknown key, expected one of {known}\n"
    file.write_text("tls_server_config: {cert_file: gone.crt, key_file: server.key}\n")
    status, said = check(file)
    assert (status, said) == (
        1,
        f"cert_file {file.parent}/gone.crt: cannot be read: No such file or directory\n",
    )


def _read(url: str, lab: Lab, user: str, password: str) -> str:
    command = ["curl", "--silent", "--cacert", lab.authority.certificate, "--user", f"{user}:{password}", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.mark.parametrize("what", ["another key", "an encrypted key", "no PEM", "no authority"])
def test_what_is_no_certificate_or_key_is_answered_in_one_line(lab: Lab, what: str) -> None:
    """Files that are there and wrong; none of them is quoted, for they may be keys."""
    tls: dict[str, str] = {}
    if what == "another key":
        tls["key_file"] = lab.good[1].name
    elif what == "an encrypted key":
        key, encrypted = lab.directory / "server.key", lab.directory / "encrypted.key"
        arguments = ["-aes256", "-passout", "pass:canary", "-in", key, "-out", encrypted]
        subprocess.run(["openssl", "pkey", *arguments], check=True)
        tls["key_file"] = encrypted.name
    elif what == "no PEM":
        (lab.directory / "server.crt").write_text("canary")
    else:
        (lab.directory / "ca.pem").write_text("canary")
        tls |= {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"}
    status, said = check(lab.write(tls=tls))
    assert status == 1
    assert len(said.splitlines()) == 1
    assert "expected" in said
    assert "canary" not in said


def test_prometheus_scrapes_over_mutual_tls_with_a_password(lab: Lab) -> None:
    """Prometheus itself, with its own client certificate and basic authentication, finds the target up."""
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    users = {"prometheus": hash_password("right")}
    with serve_web(lab.write(tls=tls, basic_auth_users=users)) as served:
        certificate, key = lab.good
        job = {
            "job_name": "hypervisors",
            "scheme": "https",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "tls_config": {
                "ca_file": str(lab.authority.certificate),
                "cert_file": str(certificate),
                "key_file": str(key),
                "server_name": "localhost",
            },
            "basic_auth": {"username": "prometheus", "password": "right"},
            "static_configs": [{"targets": [f"127.0.0.1:{served.port}"]}],
        }
        config = lab.directory / "prometheus.yml"
        config.write_text(json.dumps({"scrape_configs": [job]}))
        port = find_free_port()
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={lab.directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (lab.directory / "prometheus.log").open("wb") as log:
            prometheus = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            query = (
                f"http://127.0.0.1:{port}/api/v1/query?query=hypervisor_vcpus%20and%20on(instance)%20up==1"
            )
            wait_until(lambda: _has_result(query), "Prometheus to have scraped")
        finally:
            prometheus.kill()
            prometheus.wait(timeout=10)


def _has_result(query: str) -> bool:
    try:
        with urllib.request.urlopen(query, timeout=5) as response:
            return bool(json.load(response)["data"]["result"])
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer of one that is not ready yet
        return False
    except OSError:
        return False

"""The web configuration in use: what is loaded of it, and again when a file of it changes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.config.web_file import RateLimit
from exporter.errors import ConfigError
from exporter.web.access import Access, AccessSettings, load_access
from tests.support.hosts import Clock

HEADER, OTHER = {"X-Frame-Options": "deny"}, {"X-Frame-Options": "sameorigin"}
CLIENT = {"subjectAltName": (("DNS", "prometheus.example"),)}


class WebConfiguration:
    """A file, and what is in use of it.

    :ivar mistakes: those that were logged
    """

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.directory = directory
        self.path = directory / "web.yml"
        self.clock = Clock()
        self._caplog = caplog
        self._writes = 0

    def write(self, text: str | None = None, **sections: Any) -> None:
        """Write the file; JSON is YAML."""
        self.path.write_text(json.dumps(sections) if text is None else text)
        self._writes += 1
        os.utime(self.path, (self._writes, self._writes))

    def use(self, **sections: Any) -> Access:
        self.write(**sections)
        return Access(self.path, load_access(self.path), clock=self.clock)

    def take_log(self) -> list[str]:
        """Return what was logged since the last call: the mistake where there is one, else the message."""
        lines = [getattr(record, "mistake", record.getMessage()) for record in self._caplog.records]
        self._caplog.clear()
        return [line.replace(f"{self.directory}/", "") for line in lines]


@pytest.fixture
def web(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> WebConfiguration:
    return WebConfiguration(tmp_path, caplog)


def test_without_a_file_it_is_plain_http_for_everybody() -> None:
    settings = load_access(None)
    assert settings == AccessSettings()
    assert settings.allows(None)
    assert (settings.context, settings.certificate_expiry, settings.sources) == (None, None, {})


async def test_without_a_file_nothing_is_ever_loaded() -> None:
    access = Access(None, AccessSettings(), clock=Clock())
    access.maintain()
    assert access.is_up_to_date


async def test_a_file_that_changed_is_loaded_and_that_is_said(web: WebConfiguration) -> None:
    access = web.use(http_server_config={"headers": HEADER})
    await access.refresh()
    assert (access.settings.file.headers, web.take_log()) == (HEADER, [])
    web.write(http_server_config={"headers": OTHER})
    await access.refresh()
    assert (access.settings.file.headers, web.take_log()) == (OTHER, ["web configuration reloaded"])
    await access.refresh()
    assert web.take_log() == []


async def test_maintenance_loads_what_changed_beside_the_requests(web: WebConfiguration) -> None:
    access = web.use(http_server_config={"headers": HEADER})
    web.write(http_server_config={"headers": OTHER})
    for _ in range(3):
        access.maintain()
    assert access.settings.file.headers == HEADER
    while access.settings.file.headers != OTHER:
        await asyncio.sleep(0.001)
    assert web.take_log() == ["web configuration reloaded"]


async def test_a_mistake_leaves_the_old_state_in_use_and_is_said_once(web: WebConfiguration) -> None:
    access = web.use(http_server_config={"headers": HEADER})
    web.write(http_server_config={"headers": 1})
    for _ in range(2):
        await access.refresh()
    assert (access.is_up_to_date, access.settings.file.headers) == (False, HEADER)
    (mistake,) = web.take_log()
    assert mistake.startswith("web.yml:1: http_server_config.headers: ")
    web.write(unknown=1)
    await access.refresh()
    assert len(web.take_log()) == 1, "another mistake is said"
    web.write(http_server_config={"headers": HEADER})
    await access.refresh()
    assert (access.is_up_to_date, web.take_log()) == (True, ["web configuration reloaded"])


async def test_a_file_that_is_gone_is_a_mistake_until_it_is_back(web: WebConfiguration) -> None:
    access = web.use(http_server_config={"headers": HEADER})
    web.path.rename(web.directory / "kept")
    await access.refresh()
    assert (access.is_up_to_date, web.take_log()) == (
        False,
        ["web.yml: cannot be read: No such file or directory"],
    )
    (web.directory / "kept").rename(web.path)
    await access.refresh()
    assert access.is_up_to_date


async def test_a_state_that_is_applied_from_elsewhere_ends_the_mistakes(web: WebConfiguration) -> None:
    access = web.use(http_server_config={"headers": HEADER})
    web.write(unknown=1)
    await access.refresh()
    access.apply(AccessSettings())
    assert access.is_up_to_date


async def test_the_rate_limit_begins_anew_only_when_it_changes(web: WebConfiguration) -> None:
    limit = {"interval": "1s", "burst": 1}
    access = web.use(rate_limit=limit)
    assert access.settings.file.rate_limit == RateLimit(interval=1.0, burst=1)
    assert [access.take_token() for _ in range(2)] == [True, False]
    web.write(rate_limit=limit, http_server_config={"headers": HEADER})
    await access.refresh()
    assert not access.take_token()
    web.write(rate_limit={**limit, "burst": 2})
    await access.refresh()
    assert [access.take_token() for _ in range(3)] == [True, True, False]
    web.clock.advance(1)
    assert [access.take_token() for _ in range(2)] == [True, False]


class TestWithTls:
    """What a file names is loaded with it."""

    @pytest.fixture(autouse=True)
    def _make_files(self, tmp_path: Path) -> None:
        pytest.importorskip("trustme", reason="certificates are made with trustme, of the dev extra")
        from tests.web.authority import Authority

        self.authority = Authority(tmp_path)
        self.authority.issue("server", "localhost")
        self.tls = {"cert_file": "server.crt", "key_file": "server.key"}

    def test_it_has_a_context_and_the_end_of_its_certificate(self, web: WebConfiguration) -> None:
        settings = web.use(tls_server_config=self.tls, http_server_config={"headers": HEADER}).settings
        assert settings.context is not None
        assert settings.certificate_expiry is not None
        assert settings.file.headers == HEADER
        assert {Path(path).name for path in settings.sources} == {"web.yml", "server.crt", "server.key"}

    @pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.pem"])
    async def test_another_version_of_a_file_that_it_names_is_loaded(
        self, web: WebConfiguration, name: str
    ) -> None:
        policy = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        access = web.use(tls_server_config={**self.tls, **policy})
        before = access.settings
        await access.refresh()
        assert access.settings is before
        os.utime(web.directory / name, (5, 5))
        await access.refresh()
        assert access.settings.context is not before.context
        assert web.take_log() == ["web configuration reloaded"]

    def test_who_is_allowed_is_what_the_file_says(self, web: WebConfiguration) -> None:
        policy = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        for name, is_allowed in (("prometheus.example", True), ("other.example", False)):
            tls = {**self.tls, **policy, "client_allowed_sans": [name]}
            assert web.use(tls_server_config=tls).settings.allows(CLIENT) == is_allowed

    def test_a_certificate_that_cannot_be_read_is_named(self, web: WebConfiguration) -> None:
        with pytest.raises(ConfigError, match=r"cert_file .*gone: cannot be read"):
            web.use(tls_server_config={**self.tls, "cert_file": "gone"})

    def test_connections_end_where_the_authority_of_their_clients_may_be_another(
        self, web: WebConfiguration
    ) -> None:
        plain, again = AccessSettings(), AccessSettings()
        policy = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        tls = web.use(tls_server_config=self.tls).settings
        verifying = web.use(tls_server_config={**self.tls, **policy}).settings
        assert (verifying.context or ssl.create_default_context()).verify_mode is ssl.CERT_REQUIRED
        kept = [
            again.keeps_connections_of(plain),
            tls.keeps_connections_of(plain),
            plain.keeps_connections_of(tls),
            tls.keeps_connections_of(verifying),
            verifying.keeps_connections_of(tls),
            verifying.keeps_connections_of(verifying),
        ]
        assert kept == [True, False, False, True, False, True]


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_file_that_hangs_is_a_mistake_and_stops_no_later_reload(web: WebConfiguration) -> None:
    web.write(http_server_config={"headers": HEADER})
    access = Access(web.path, load_access(web.path), clock=web.clock, read_timeout=0.05)
    web.path.unlink()
    os.mkfifo(web.path)
    access.maintain()
    await wait_until(lambda: not access.is_up_to_date)
    assert web.take_log() == ["web.yml, or a file that it names: still being read after 0.05 s"]
    fifo = web.path.rename(web.directory / "fifo")
    web.write(http_server_config={"headers": OTHER})
    access.apply(load_access(web.path))
    assert access.is_up_to_date
    with os.fdopen(os.open(fifo, os.O_RDWR), "w") as end:  # for writing alone, it would wait for a reader
        end.write("{}")  # what hung ends, too late
    web.write(http_server_config={"headers": HEADER})
    access.maintain()
    await wait_until(lambda: access.settings.file.headers == HEADER)
    assert web.take_log() == ["web configuration reloaded"]

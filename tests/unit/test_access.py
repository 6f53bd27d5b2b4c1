"""Who gets in by a name and a password, and the rate limit is a bucket."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace

import bcrypt
import pytest

from exporter.config.web_file import RateLimit, WebFile
from exporter.web.access import Access, AccessSettings, TokenBucket

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "gets_in"),
    [
        (basic("prometheus", "right"), True),
        (basic("prometheus", "wrong"), False),
        (basic("nobody", "right"), False),
        (basic("prometheus", ""), False),
        ({}, False),
        ({"authorization": "Bearer cHJvbWV0aGV1czpyaWdodA=="}, False),
        ({"authorization": "Basic cHJvbWV0aGV1cw=="}, False),
        ({"authorization": "Basic /////w=="}, False),
        ({"authorization": "Basic \u00e9"}, False),
        (basic("prometheus", "right\0"), False),
    ],
)
def test_only_a_user_with_the_right_password_gets_in(headers: dict[str, str], gets_in: bool) -> None:
    """Whatever else the header holds is refused, and raises nothing."""
    access = Access(None, AccessSettings(file=WebFile(users={"prometheus": HASH})), clock=lambda: 0.0)
    assert asyncio.run(access.authenticate(headers)) is gets_in


def test_where_there_are_no_users_everybody_gets_in() -> None:
    """Without the section nobody is asked."""
    access = Access(None, AccessSettings(), clock=lambda: 0.0)
    assert asyncio.run(access.authenticate({}))


def test_a_new_hash_ends_the_old_password_at_once() -> None:
    """What is remembered of a password is bound to its hash."""

    async def change() -> list[bool]:
        access = Access(None, AccessSettings(file=WebFile(users={"prometheus": HASH})), clock=lambda: 0.0)
        before = await access.authenticate(basic("prometheus", "right"))
        changed = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
        access.apply(AccessSettings(file=WebFile(users={"prometheus": changed})))
        return [before, await access.authenticate(basic("prometheus", "right"))]

    assert asyncio.run(change()) == [True, False]


def test_the_bucket_fills_with_time_and_holds_no_more_than_a_burst() -> None:
    """Two at once, one each ten seconds, and after a long pause two again."""
    now = 0.0
    bucket = TokenBucket(RateLimit(interval=10.0, burst=2), clock=lambda: now)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now = 9.0
    assert not bucket.take()
    now = 10.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now = 1000.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("verifies", [False, True])
def test_a_kept_connection_ends_where_its_certificate_may_be_good_no_more(verifies: bool) -> None:
    """Other users, or a renewed certificate of the server's own, end none."""

    def make(*, tls: bool = True) -> AccessSettings:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
        return AccessSettings(context=context if tls else None)

    before = make()
    assert replace(before, file=WebFile(users={"new": HASH})).keeps_connections_of(before)
    assert make().keeps_connections_of(before) is not verifies
    plain = make(tls=False)
    assert plain.keeps_connections_of(make(tls=False))
    assert not plain.keeps_connections_of(before)
    assert not before.keeps_connections_of(plain)

"""Passwords are checked once, guesses crowd nobody out, and the rate limit is a bucket."""

from __future__ import annotations

import asyncio
import base64

import bcrypt
import pytest

from exporter.attempt import Success, attempt_awaiting
from exporter.config.web_file import RateLimit, WebFile
from exporter.web.access import Access, AccessSettings, BusyError, Passwords, TokenBucket

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


def test_guesses_do_not_crowd_out_a_password_that_is_right() -> None:
    """After hundreds of wrong guesses the right one is still answered from memory: no hash is computed."""

    async def guess() -> bool:
        passwords = Passwords()
        assert await passwords.check(HASH, "right")
        for number in range(250):
            assert not await passwords.check(HASH, f"guess {number}")
        # In a loop whose default executor is gone, computing a hash would raise.
        await asyncio.get_running_loop().shutdown_default_executor()
        return await passwords.check(HASH, "right")

    assert asyncio.run(guess())


def test_a_flood_of_guesses_is_turned_away_and_a_known_password_is_not() -> None:
    """Of 100 guesses at once few wait for their hash; who was let in before does not wait behind them."""

    async def flood() -> tuple[int, int]:
        passwords = Passwords()
        assert await passwords.check(HASH, "right")
        guesses = [attempt_awaiting(passwords.check(HASH, f"guess {number}")) for number in range(100)]
        outcomes = await asyncio.gather(*guesses, attempt_awaiting(passwords.check(HASH, "right")))
        assert outcomes.pop() == Success(True)
        assert all(each == Success(False) or isinstance(each.error, BusyError) for each in outcomes)
        refused = sum(each == Success(False) for each in outcomes)
        return refused, len(outcomes) - refused

    refused, turned_away = asyncio.run(flood())
    assert refused >= 1
    assert turned_away >= 50


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

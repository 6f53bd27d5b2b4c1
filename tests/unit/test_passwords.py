"""Passwords are checked once, guesses keep nobody out, and nothing tells which names there are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import bcrypt
import pytest

from exporter.attempt import Failure, Success, attempt_awaiting
from exporter.web.passwords import MAX_WAITING, BusyError, Passwords
from tests.support.hosts import Clock

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
USERS = {"prometheus": HASH}


async def check(
    passwords: Passwords, password: str, *, user: str = "prometheus", client: str = "192.0.2.1"
) -> bool:
    return await passwords.check(USERS, user, password, client)


def test_guesses_do_not_crowd_out_a_password_that_is_right() -> None:
    """After hundreds of wrong guesses the right one is still answered from memory: no hash is computed."""

    async def guess() -> bool:
        passwords = Passwords(lambda: 0.0)
        assert await check(passwords, "right")
        for number in range(250):
            assert not await check(passwords, f"guess {number}")
        # In a loop whose default executor is gone, computing a hash would raise.
        await asyncio.get_running_loop().shutdown_default_executor()
        return await check(passwords, "right")

    assert asyncio.run(guess())


def test_a_flood_of_guesses_is_turned_away_and_a_known_password_is_not() -> None:
    """Of 100 guesses at once few wait for their hash; who was let in before does not wait behind them."""

    async def flood() -> tuple[int, int]:
        passwords = Passwords(lambda: 0.0)
        assert await check(passwords, "right")
        guesses = [attempt_awaiting(check(passwords, f"guess {number}")) for number in range(100)]
        outcomes = await asyncio.gather(*guesses, attempt_awaiting(check(passwords, "right")))
        assert outcomes.pop() == Success(True)
        assert all(each == Success(False) or isinstance(each.error, BusyError) for each in outcomes)
        refused = sum(each == Success(False) for each in outcomes)
        return refused, len(outcomes) - refused

    refused, turned_away = asyncio.run(flood())
    assert refused >= 1
    assert turned_away >= 50


def test_who_guesses_from_elsewhere_keeps_no_right_password_out() -> None:
    """Wrong passwords came from there; so whoever comes from an address without any is next."""

    async def flood() -> bool:
        passwords = Passwords(lambda: 0.0)
        assert not await check(passwords, "wrong")
        guesses = [asyncio.create_task(check(passwords, f"guess {number}")) for number in range(50)]
        await asyncio.sleep(0)
        got_in = await check(passwords, "right", client="192.0.2.2")
        still_waiting = [each for each in guesses if not each.done()]
        assert len(still_waiting) >= MAX_WAITING - 3
        await asyncio.gather(*guesses, return_exceptions=True)
        return got_in

    assert asyncio.run(flood())


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "192.0.2.1", False),
    ],
)
def test_a_network_of_ipv6_is_one_address(one: str, other: str, are_one: bool) -> None:
    """Whoever has one address there has all of it, and is next as seldom."""

    async def flood() -> bool:
        passwords = Passwords(lambda: 0.0)
        assert not await check(passwords, "wrong", client=one)
        guesses = [
            asyncio.create_task(check(passwords, f"guess {number}", client=one)) for number in range(50)
        ]
        await asyncio.sleep(0)
        outcome = await attempt_awaiting(check(passwords, "right", client=other))
        await asyncio.gather(*guesses, return_exceptions=True)
        return isinstance(outcome, Failure)

    assert asyncio.run(flood()) is are_one


def test_the_right_password_gets_in_at_the_second_attempt_wherever_guesses_come_from() -> None:
    """It was turned away once, and comes again; guesses differ each time."""

    async def flood() -> bool:
        passwords = Passwords(lambda: 0.0)
        attempts = []
        for attempt in range(2):
            guesses = [
                asyncio.create_task(check(passwords, f"guess {attempt} {number}")) for number in range(50)
            ]
            await asyncio.sleep(0)
            attempts.append(await attempt_awaiting(check(passwords, "right")))
            await asyncio.gather(*guesses, return_exceptions=True)
        assert isinstance(attempts[0], Failure)
        return attempts[1] == Success(True)

    assert asyncio.run(flood())


@pytest.mark.parametrize(("pause", "is_known"), [(299.0, True), (310.0, True), (700.0, False)])
def test_what_was_turned_away_long_ago_is_forgotten(pause: float, is_known: bool) -> None:
    """After two spans of five minutes; else everything would seem to come again after a while."""

    async def flood() -> list[bool]:
        clock = Clock()
        passwords = Passwords(clock)
        came_in = []
        for seconds in (0.0, pause / 2, pause / 2):
            clock.now += seconds
            password = "another" if seconds and len(came_in) == 1 else "right"
            guesses = [
                asyncio.create_task(check(passwords, f"guess {clock.now} {number}")) for number in range(50)
            ]
            await asyncio.sleep(0)
            came_in.append(isinstance(await attempt_awaiting(check(passwords, password)), Success))
            await asyncio.gather(*guesses, return_exceptions=True)
        return came_in

    assert asyncio.run(flood()) == [False, False, is_known]


def test_many_with_the_same_password_share_one_check() -> None:
    """So do several scrapers at the start: more than may wait."""

    async def scrape() -> list[bool]:
        passwords = Passwords(lambda: 0.0)
        return await asyncio.gather(*(check(passwords, "right") for _ in range(3 * MAX_WAITING)))

    assert asyncio.run(scrape()) == [True] * 3 * MAX_WAITING


@pytest.mark.parametrize("user", ["nobody", "", "prometheus "])
def test_a_user_who_is_not_there_is_checked_against_somebodys_hash_and_never_gets_in(user: str) -> None:
    """Even with that one's password; and what is remembered of one name says nothing of another."""

    async def ask() -> list[bool]:
        passwords = Passwords(lambda: 0.0)
        return [await check(passwords, "right", user=user) for _ in range(2)]

    assert asyncio.run(ask()) == [False, False]


def test_users_who_are_not_there_cost_what_users_who_are_do() -> None:
    """The hashes that they are checked against are those that there are, whatever these cost."""

    async def ask() -> Mapping[str, int]:
        passwords = Passwords(lambda: 0.0)
        users = {str(cost): bcrypt.hashpw(b"x", bcrypt.gensalt(cost)).decode() for cost in (4, 5)}
        chosen = [passwords.choose_hash(users, f"name {number}") for number in range(100)]
        assert chosen == [passwords.choose_hash(users, f"name {number}") for number in range(100)]
        return {hashed: chosen.count(hashed) for hashed in users.values()}

    assert min(asyncio.run(ask()).values()) > 20

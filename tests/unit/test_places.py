"""Places for refreshes: how many, in which order, and who makes room."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from exporter.compute.places import Places, Rank, RefreshPlaces

TIMEOUT_SECONDS = 20


async def give_way() -> None:
    """Let every other task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_there_are_so_many_places_and_the_next_waits() -> None:
    places = Places(2)
    await places.take(Rank.NEW)
    await places.take(Rank.NEW)
    third = asyncio.create_task(places.take(Rank.NEW))
    await give_way()
    assert (third.done(), places.count_waiting(Rank.FAILED)) == (False, 1)
    places.give_back()
    await asyncio.wait_for(third, TIMEOUT_SECONDS)
    assert places.count_waiting(Rank.FAILED) == 0


async def test_who_answered_comes_first_and_who_failed_last() -> None:
    places = Places(1)
    await places.take(Rank.NEW)
    order: list[str] = []

    async def take(name: str, rank: Rank) -> None:
        await places.take(rank)
        order.append(name)
        places.give_back()

    ranks = {"failed": Rank.FAILED, "new": Rank.NEW, "answered": Rank.ANSWERED, "also new": Rank.NEW}
    tasks = [asyncio.create_task(take(name, rank)) for name, rank in ranks.items()]
    await give_way()
    assert [places.count_waiting(rank) for rank in Rank] == [1, 3, 4]
    places.give_back()
    await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT_SECONDS)
    assert order == ["answered", "new", "also new", "failed"]


@pytest.mark.parametrize("is_given_first", [False, True])
async def test_who_stops_waiting_takes_no_place(is_given_first: bool) -> None:
    """A hypervisor that a reload removed while it waited, even in the moment when its turn came."""
    places = Places(1)
    await places.take(Rank.NEW)
    waiting = asyncio.create_task(places.take(Rank.NEW))
    await give_way()
    if is_given_first:
        places.give_back()
        waiting.cancel()
    else:
        waiting.cancel()
        await give_way()
        places.give_back()
    with suppress(asyncio.CancelledError):
        await waiting
    assert places.take_free()


async def test_an_opening_keeps_its_place_until_its_thread_ends() -> None:
    """Also if nobody waits for the refresh any more."""
    places = make_places(openings=1)
    refresh: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with places.take(Rank.NEW, is_opening=True) as keep_for:
        keep_for(refresh)
    later = asyncio.create_task(take_and_give_back(places, is_opening=True))
    await asyncio.wait_for(take_and_give_back(places, is_opening=False), TIMEOUT_SECONDS)
    assert not later.done()
    refresh.set_result(None)
    await asyncio.wait_for(later, TIMEOUT_SECONDS)


async def test_one_that_never_began_keeps_none() -> None:
    places = make_places(openings=1, refreshes=1)
    async with places.take(Rank.NEW, is_opening=False):
        waiting = asyncio.create_task(take_and_give_back(places, is_opening=True))
        await give_way()
        waiting.cancel()
        await give_way()
    await asyncio.wait_for(take_and_give_back(places, is_opening=True), TIMEOUT_SECONDS)


async def test_who_waits_for_an_opening_makes_others_end_that_hang_for_longer_if_it_failed_itself() -> None:
    asked: list[tuple[int, float]] = []
    hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def make_room(count: int, min_seconds: float) -> None:
        asked.append((count, min_seconds))
        if len(asked) == 3:
            loop.call_soon_threadsafe(hung.set_result, None)

    places = RefreshPlaces(make_room=make_room, max_files=1024, openings=1)
    async with places.take(Rank.NEW, is_opening=True) as keep_for:
        keep_for(hung)
    failed = asyncio.create_task(take_and_give_back(places, is_opening=True, rank=Rank.FAILED))
    while not asked:
        await asyncio.sleep(0.01)
    new = asyncio.create_task(take_and_give_back(places, is_opening=True))
    await asyncio.wait_for(asyncio.gather(failed, new), TIMEOUT_SECONDS)
    assert asked == [(1, 10.0), (1, 0.5), (1, 0.5)]


async def test_openings_have_a_tenth_of_all_descriptors_at_most() -> None:
    for max_files, expected in ((80, 8), (1024, 102), (8192, 256), (1, 1)):
        places = RefreshPlaces(make_room=lambda _count, _seconds: None, max_files=max_files)
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        taken = 0
        while taken <= expected:
            taking = asyncio.create_task(keep_until(places, never))
            await give_way()
            if not taking.done():
                taking.cancel()
                break
            taken += 1
        assert taken == expected


async def test_that_no_room_can_be_made_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    loop, tries = asyncio.get_running_loop(), 0

    def make_room(_count: int, _min_seconds: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            loop.call_soon_threadsafe(hung.set_result, None)
        raise OSError("too many open files")

    places = RefreshPlaces(make_room=make_room, max_files=1024, openings=1)
    async with places.take(Rank.NEW, is_opening=True) as keep_for:
        keep_for(hung)
    await asyncio.wait_for(take_and_give_back(places, is_opening=True), TIMEOUT_SECONDS)
    assert [record.getMessage() for record in caplog.records] == [
        "connections that get no answer cannot be ended"
    ]


def make_places(*, refreshes: int = 8, openings: int = 8) -> RefreshPlaces:
    return RefreshPlaces(
        make_room=lambda _count, _seconds: None, max_files=1024, refreshes=refreshes, openings=openings
    )


async def take_and_give_back(places: RefreshPlaces, *, is_opening: bool, rank: Rank = Rank.NEW) -> None:
    async with places.take(rank, is_opening=is_opening):
        pass


async def keep_until(places: RefreshPlaces, end: asyncio.Future[None]) -> None:
    async with places.take(Rank.NEW, is_opening=True) as keep_for:
        keep_for(end)

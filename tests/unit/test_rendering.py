"""Whoever wants the same shares one rendering, and those who want many things wait for each other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from exporter.web.rendering import Renderings, Together


def run(talk: Callable[[Renderings[str]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(talk(Renderings("test")), 20)

    asyncio.run(main())


def test_all_who_wait_for_the_same_share_the_newest() -> None:
    async def talk(renderings: Renderings[str]) -> None:
        def render(number: int) -> str:
            rendered.append(number)
            return f"made of {number}"

        asked = [renderings.get("all", lambda n=n: render(n), in_thread=False) for n in range(5)]
        assert await asyncio.gather(*asked) == ["made of 4"] * 5
        assert rendered == [4]

    rendered: list[int] = []
    run(talk)


def test_what_has_begun_is_not_shared_and_the_event_loop_goes_on() -> None:
    """It was begun with older numbers than whoever comes now could have."""

    async def talk(renderings: Renderings[str]) -> None:
        first = asyncio.create_task(renderings.get("all", lambda: str(go_on.wait(20)), in_thread=True))
        while "test_0" not in {thread.name for thread in threading.enumerate()}:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(renderings.get("all", lambda: "second", in_thread=True))
        await asyncio.sleep(0.05)
        go_on.set()
        assert [await first, await second] == ["True", "second"]

    go_on = threading.Event()
    run(talk)


def test_many_special_ones_are_not_all_before_a_usual_one() -> None:
    async def talk(renderings: Renderings[str]) -> None:
        def render(name: str) -> str:
            order.append(name)
            return name

        names = [str(number) for number in range(50)]
        asked = [renderings.get(n, lambda n=n: render(n), in_thread=False, is_special=True) for n in names]
        await asyncio.gather(*asked, renderings.get("usual", lambda: render("usual"), in_thread=False))
        assert order.index("usual") < 2

    order: list[str] = []
    run(talk)


def test_what_fails_fails_for_all_who_wait_and_the_next_is_made() -> None:
    async def talk(renderings: Renderings[str]) -> None:
        asked = [renderings.get("all", lambda: str(1 // 0), in_thread=True) for _ in range(2)]
        assert {type(each) for each in await asyncio.gather(*asked, return_exceptions=True)} == {
            ZeroDivisionError
        }
        assert await renderings.get("all", lambda: "well", in_thread=True) == "well"

    run(talk)


def test_one_who_leaves_takes_it_from_nobody() -> None:
    async def talk(renderings: Renderings[str]) -> None:
        leaves = asyncio.create_task(renderings.get("all", lambda: "made", in_thread=False))
        stays = asyncio.create_task(renderings.get("all", lambda: "made", in_thread=False))
        await asyncio.sleep(0)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert await stays == "made"

    run(talk)


def test_those_who_ask_in_one_turn_share_what_begins_after_it() -> None:
    """One who asks later gets another: what has begun is older than the question."""

    async def main() -> None:
        async def work() -> int:
            began.append(len(began))
            await go_on.wait()
            return began[-1]

        began: list[int] = []
        go_on = asyncio.Event()
        together: Together[int] = Together()
        first = [asyncio.create_task(together.get("all", work)) for _ in range(3)]
        while not began:
            await asyncio.sleep(0)
        first.append(asyncio.create_task(together.get("all", work)))
        first[0].cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        outcomes = await asyncio.gather(*first, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert began == [0, 1]

    asyncio.run(main())


def test_one_that_rests_leaves_as_much_time_to_others() -> None:
    async def main() -> float:
        renderings: Renderings[str] = Renderings("test", rests=True)
        started = time.monotonic()
        for number in range(3):
            await renderings.get(number, lambda: str(time.sleep(0.05)), in_thread=True)
        return time.monotonic() - started

    assert asyncio.run(main()) >= 0.25

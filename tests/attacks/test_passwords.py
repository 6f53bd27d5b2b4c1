"""Passwords are guessed: the right one gets in all the same, and nobody learns who has one."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.web.served import Served, serve_web

COST = 9
GUESSERS = 60


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    web = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(COST)).decode()
    web.write_text(json.dumps({"basic_auth_users": {"prometheus": hashed}}))
    with serve_web(web) as served:
        yield served


class Client:
    """One connection; a new one where the exporter closed it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, user: str, password: str) -> int:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._connection.request("GET", "/metrics", headers={"Authorization": f"Basic {credentials}"})
        response = self._connection.getresponse()
        response.read()
        return response.status

    def time(self, user: str, password: str) -> float:
        started = time.perf_counter()
        assert self.ask(user, password) == 401
        return time.perf_counter() - started

    def close(self) -> None:
        self._connection.close()


def test_guesses_from_the_start_on_do_not_keep_the_right_password_out(served: Served) -> None:
    """All come from one address, and each guess is another: the right one gets in at the second attempt."""
    over = threading.Event()

    def guess(name: int) -> None:
        client = Client(served.port)
        count = 0
        while not over.is_set():
            count += 1
            assert client.ask("prometheus", f"guess {name} {count}") in (401, 429)
        client.close()

    guessers = [threading.Thread(target=guess, args=(name,)) for name in range(GUESSERS)]
    for guesser in guessers:
        guesser.start()
    try:
        time.sleep(1)  # they are all at it
        statuses = []
        for _ in range(5):
            scraper = Client(served.port)
            statuses.append(scraper.ask("prometheus", "right"))
            scraper.close()
    finally:
        over.set()
        for guesser in guessers:
            guesser.join()
    assert statuses[1:] == [200] * 4


def test_names_are_not_told_apart_by_time(served: Served) -> None:
    """A password takes as long with a name that is there as with others, the first time and the second."""
    client = Client(served.port)
    known, unknown = [], []
    for number in range(12):
        known.append(client.time("prometheus", f"a{number}"))
        # Another name first, with the same password: what is remembered of that must not tell either.
        client.time(f"somebody{number}", f"b{number}")
        unknown.append(client.time(f"another{number}", f"b{number}"))
    client.close()
    ratio = min(unknown) / min(known)  # a busy machine makes some longer, none shorter
    assert 0.5 < ratio < 2

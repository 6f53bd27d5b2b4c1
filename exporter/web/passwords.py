"""Passwords: checked one at a time against bcrypt's hashes, and remembered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from exporter.attempt import Failure, attempt_awaiting

MAX_REMEMBERED = 100
MAX_WAITING = 16
_MAX_ADDRESSES = 1000
_SEEN_BITS = 2**21
_SEEN_SECONDS = 300.0


class BusyError(Exception):
    """Too many passwords wait for their check already."""


@dataclass(slots=True)
class _Waiting:
    """A password that waits for its check."""

    arrival: int
    digest: bytes
    hashed: str
    password: str
    address: str
    result: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Passwords:
    """Checks users' passwords, and remembers the answers. All methods run in the event loop.

    bcrypt takes a twentieth of a second of a core on purpose, so only MAX_WAITING passwords that are not
    remembered wait for it. Those are first from whose address the fewest wrong ones came; among these, those
    that were turned away before: guesses differ each time, and the right password comes again. So whoever
    guesses keeps it out for one attempt at most, even before it is remembered.

    The cache has only a keyed digest of name, hash and password, so none of them stays in memory.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._waiting: list[_Waiting] = []
        self._checked: _Waiting | None = None
        self._worker: asyncio.Task[None] | None = None
        self._wrong: dict[str, int] = {}
        self._turned_away = _Seen(clock)
        self._arrivals = 0

    async def check(self, users: Mapping[str, str], user: str, password: str, client: str = "") -> bool:
        """Whether there is such a user, and this is the password.

        A user who is not there costs as much time as one who is: the password is checked against somebody's.

        :param users: each user's hash by the user's name; at least one
        :param client: the client's address
        :raises BusyError: when too many others wait for their check
        """
        hashed = users.get(user)
        against = hashed or self.choose_hash(users, user)
        digest = self._digest(user, against, password)
        if digest not in self._known:
            is_right = await asyncio.shield(self._enqueue(digest, against, password, client).result)
        else:
            is_right = self._known[digest]
        return is_right and hashed is not None

    def choose_hash(self, users: Mapping[str, str], user: str) -> str:
        """Return one of the hashes, always the same for one name: their costs may differ."""
        hashes = sorted(users.values())
        return hashes[int.from_bytes(self._digest(user, "", "")[:8], "big") % len(hashes)]

    def _digest(self, user: str, hashed: str, password: str) -> bytes:
        return hmac.digest(self._key, _encode(f"{user}\0{hashed}\0{password}"), hashlib.sha256)

    def _enqueue(self, digest: bytes, hashed: str, password: str, client: str) -> _Waiting:
        """Have it wait for its check, or share the check of one who waits already.

        :raises BusyError: when all who wait rank before it
        """
        for same in (*self._waiting, self._checked):
            if same is not None and same.digest == digest:
                return same
        self._arrivals += 1
        waiting = _Waiting(self._arrivals, digest, hashed, password, _network(client))
        self._waiting.append(waiting)
        if len(self._waiting) > MAX_WAITING:
            last = max(self._waiting, key=self._rank)
            self._waiting.remove(last)
            self._turned_away.add(last.digest)
            if last is waiting:
                raise BusyError
            last.result.set_exception(BusyError())
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return waiting

    async def _work(self) -> None:
        """Check one after the other: more at once would let guesses use more cores."""
        while self._waiting:
            checked = self._checked = min(self._waiting, key=self._rank)
            self._waiting.remove(checked)
            outcome = await attempt_awaiting(asyncio.to_thread(_has_hash, checked.password, checked.hashed))
            self._checked = None
            if isinstance(outcome, Failure):
                checked.result.set_exception(outcome.error)
                continue
            self._remember(checked.digest, outcome.value)
            if not outcome.value:
                self._note_wrong(checked.address)
            checked.result.set_result(outcome.value)

    def _rank(self, waiting: _Waiting) -> tuple[int, bool, int]:
        """Return what says who is next: the lowest is, and the highest makes room for a newcomer."""
        is_new = waiting.digest not in self._turned_away
        return self._wrong.get(waiting.address, 0), is_new, waiting.arrival

    def _note_wrong(self, address: str) -> None:
        if address not in self._wrong and len(self._wrong) >= _MAX_ADDRESSES:
            self._wrong.clear()
        self._wrong[address] = self._wrong.get(address, 0) + 1

    def _remember(self, digest: bytes, is_right: bool) -> None:
        """Cache a result. Guesses must not push right passwords out of the cache."""
        self._known[digest] = is_right
        if len(self._known) > MAX_REMEMBERED:
            oldest_wrong = next((each for each, right in self._known.items() if not right), None)
            self._known.pop(next(iter(self._known)) if oldest_wrong is None else oldest_wrong)


class _Seen:
    """Which digests were added within the last minutes: a Bloom filter, which may err by saying yes.

    Any number of guesses takes half a MiB, so none can push out another.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began_at = clock()
        self._newer, self._older = bytearray(), bytearray()

    def add(self, digest: bytes) -> None:
        if self._clock() - self._began_at >= _SEEN_SECONDS or not self._newer:
            self._began_at = self._clock()
            self._newer, self._older = bytearray(_SEEN_BITS // 8), self._newer
        for bit in self._bits(digest):
            self._newer[bit // 8] |= 1 << bit % 8

    def __contains__(self, digest: bytes) -> bool:
        return any(
            bits and all(bits[bit // 8] & 1 << bit % 8 for bit in self._bits(digest))
            for bits in (self._newer, self._older)
        )

    @staticmethod
    def _bits(digest: bytes) -> list[int]:
        return [int.from_bytes(digest[start : start + 4], "big") % _SEEN_BITS for start in (0, 4, 8, 12)]


def _network(client: str) -> str:
    """Return what one client may have many addresses of: with IPv6, the first half of the address."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return client


def _has_hash(password: str, hashed: str) -> bool:
    import bcrypt  # imported here: few configurations have users, and each module needs memory

    if "\0" in password:
        return False  # htpasswd cannot make a hash of it, and older releases of the library raise
    # bcrypt uses only 72 bytes. Newer releases of the library refuse more instead of ignoring them.
    return bool(bcrypt.checkpw(_encode(password)[:72], hashed.encode()))


def _encode(text: str) -> bytes:
    """Return the bytes that the client sent: they need not be UTF-8, and were not when they were hashed."""
    return text.encode("utf-8", "surrogateescape")

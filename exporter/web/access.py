"""Who gets in: the web configuration file in force, taken up again when it or what it names has changed."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.attempt import Failure, attempt_in_thread
from exporter.config.web_file import RateLimit, WebFile, load_web_file
from exporter.errors import ConfigError
from exporter.web.passwords import Passwords
from exporter.web.tls import is_allowed, make_ssl_context, read_expiry

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """One state of the web configuration; immutable, so that a connection or request sees one and not two.

    :ivar context: None where the server speaks plain HTTP
    :ivar certificate_expiry: of the server's certificate, in seconds since the epoch
    :ivar sources: what tells the files as they were loaded from the same files later on, by path
    """

    file: WebFile = field(default_factory=WebFile)
    context: ssl.SSLContext | None = None
    certificate_expiry: float | None = None
    sources: Mapping[str, object] = field(default_factory=dict)

    def keeps_connections_of(self, before: AccessSettings) -> bool:
        """Whether a connection made under the settings before these may go on.

        It may not where there was no TLS and is now, or the other way round. It may not where clients'
        certificates are verified either: it may stand for one whose authority was replaced.
        """
        if self.context is None or before.context is None:
            return self.context is before.context
        return self.context is before.context or self.context.verify_mode is ssl.CERT_NONE

    def allows(self, certificate: Any) -> bool:
        """Whether a client with this verified certificate gets in; see tls.is_allowed."""
        return self.file.tls is None or is_allowed(self.file.tls, certificate)


def load_access(path: Path | None) -> AccessSettings:
    """Load a web configuration and all that it names; None is plain HTTP for everybody.

    :raises ConfigError: with every mistake in it
    """
    if path is None:
        return AccessSettings()
    # Looked at before it is read: what changes meanwhile is then taken up next time.
    sources = {str(path): _identify(str(path))}
    file = load_web_file(path)
    if file.tls is None:
        return AccessSettings(file=file, sources=sources)
    named = (file.tls.cert_file, file.tls.key_file, file.tls.client_ca_file)
    sources |= {each: _identify(each) for each in named if each is not None}
    return AccessSettings(
        file=file,
        context=make_ssl_context(file.tls),
        certificate_expiry=read_expiry(file.tls),
        sources=sources,
    )


class Access:
    """The settings in force, and what is remembered of passwords. All methods belong to the event loop.

    :param path: the web configuration file; None for plain HTTP
    :param clock: monotonic seconds
    """

    def __init__(self, path: Path | None, settings: AccessSettings, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._passwords = Passwords(clock)
        self._bucket = TokenBucket(settings.file.rate_limit, clock=clock)
        self._refresh: asyncio.Task[None] | None = None
        self._mistakes: Sequence[str] = ()
        self.settings = settings

    def apply(self, settings: AccessSettings) -> None:
        """Put a newly loaded state in force."""
        if settings.file.rate_limit != self.settings.file.rate_limit:
            self._bucket = TokenBucket(settings.file.rate_limit, clock=self._clock)
        self.settings = settings
        self._mistakes = ()

    @property
    def is_up_to_date(self) -> bool:
        """Whether what is in force is what the files say; it is not where they have a mistake."""
        return not self._mistakes

    def maintain(self) -> None:
        """Have what changed on disk taken up, without anybody waiting for it."""
        if self._path is not None and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.get_running_loop().create_task(self.refresh())

    async def refresh(self) -> None:
        """Take up the file and what it names, if any of it has changed; a mistake changes nothing."""
        outcome = await attempt_in_thread(self._load_changed, name="web configuration")
        if isinstance(outcome, Failure):
            self._note_refused(outcome.error)
        elif outcome.value is not None:
            self.apply(outcome.value)
            log.info("web configuration reloaded")

    def _load_changed(self) -> AccessSettings | None:
        sources = self.settings.sources
        if not self._mistakes and all(_identify(path) == seen for path, seen in sources.items()):
            return None
        return load_access(self._path)

    def _note_refused(self, error: Exception) -> None:
        """Say what is wrong, each time that it is something else."""
        mistakes = error.mistakes if isinstance(error, ConfigError) else [f"unexpected: {error!r}"]
        if mistakes != self._mistakes:
            for mistake in mistakes:
                log.error("web configuration refused, the old one stays", extra={"mistake": mistake})
        self._mistakes = mistakes

    async def authenticate(self, headers: Mapping[str, str], client: str = "") -> bool:
        """Whether the request has a user's name and password; where there are no users, any has.

        :param client: the client's address
        :raises BusyError: when too many others are being checked
        """
        users = self.settings.file.users
        if not users:
            return True
        user, password = _parse_basic(headers.get("authorization", ""))
        if user is None:
            return False
        return await self._passwords.check(users, user, password, client)

    def take_token(self) -> bool:
        """Whether the rate limit leaves room for one more request now."""
        return self._bucket.take()


def _identify(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _parse_basic(header: str) -> tuple[str | None, str]:
    """Return user and password out of an Authorization header (RFC 7617); no user where there is none."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None, ""
    return (user, password) if colon else (None, "")


class TokenBucket:
    """Lets one request through each interval, and a burst of them after a pause."""

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Whether a request may go through now."""
        if not self._limit.interval:
            return True
        now = self._clock()
        gained = (now - self._filled_at) / self._limit.interval
        self._tokens, self._filled_at = min(self._limit.burst, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

"""Access: the web configuration in use.

It is loaded again when the file, or a file that it names, changes.
"""

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

# If a file system hangs, the thread that reads the files hangs too. After this time it is logged.
READ_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """One state of the web configuration.

    It is immutable, so that a connection or request sees only one state.

    :ivar context: None for plain HTTP
    :ivar certificate_expiry: of the server's certificate, in seconds since the epoch
    :ivar sources: identifies the loaded version of each file, by path
    """

    file: WebFile = field(default_factory=WebFile)
    context: ssl.SSLContext | None = None
    certificate_expiry: float | None = None
    sources: Mapping[str, object] = field(default_factory=dict)

    def keeps_connections_of(self, before: AccessSettings) -> bool:
        """Whether a connection that was made under the earlier settings may continue.

        It may not if TLS was switched on or off. It may also not if clients' certificates are verified,
        because the authority of its certificate may have been replaced.
        """
        if self.context is None or before.context is None:
            return self.context is before.context
        return self.context is before.context or self.context.verify_mode is ssl.CERT_NONE

    def allows(self, certificate: Any) -> bool:
        """Whether a client with this verified certificate has access; see tls.is_allowed."""
        return self.file.tls is None or is_allowed(self.file.tls, certificate)


def load_access(path: Path | None) -> AccessSettings:
    """Load a web configuration and all files that it names; None means plain HTTP for everybody.

    :raises ConfigError: with every mistake in it
    """
    if path is None:
        return AccessSettings()
    # Take the version before reading: a change during the read is then loaded next time.
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
    """The settings in use, and the cache of passwords. All methods run in the event loop.

    :param path: the web configuration file; None for plain HTTP
    :param clock: monotonic seconds
    :param read_timeout: seconds after which it is logged that a changed file is still being read
    """

    def __init__(
        self,
        path: Path | None,
        settings: AccessSettings,
        *,
        clock: Callable[[], float],
        read_timeout: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        self._path = path
        self._clock = clock
        self._read_timeout = read_timeout
        self._passwords = Passwords(clock)
        self._bucket = TokenBucket(settings.file.rate_limit, clock=clock)
        self._refresh: asyncio.Task[None] | None = None
        self._mistakes: Sequence[str] = ()
        self.settings = settings

    def apply(self, settings: AccessSettings) -> None:
        """Use a newly loaded state."""
        if settings.file.rate_limit != self.settings.file.rate_limit:
            self._bucket = TokenBucket(settings.file.rate_limit, clock=self._clock)
        self.settings = settings
        self._mistakes = ()
        self._refresh = None  # one that hangs reads what is not wanted any more

    @property
    def is_up_to_date(self) -> bool:
        """Whether the settings in use are those in the files. They are not if the files have a mistake."""
        return not self._mistakes

    def maintain(self) -> None:
        """Start loading changed files, without waiting for it."""
        if self._path is not None and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.get_running_loop().create_task(self.refresh())

    async def refresh(self) -> None:
        """Load the file and the files that it names, if one of them changed. A mistake changes nothing."""
        before = self.settings
        read = attempt_in_thread(self._load_changed, name="web configuration")
        done, _pending = await asyncio.wait({read}, timeout=self._read_timeout)
        if not done:
            files = f"{self._path}, or a file that it names"
            self._note_refused(ConfigError([f"{files}: still being read after {self._read_timeout:g} s"]))
        outcome = await read
        if self.settings is not before:
            return  # a reload was faster
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
        """Log the mistakes, unless they are the same as before."""
        mistakes = error.mistakes if isinstance(error, ConfigError) else [f"unexpected: {error!r}"]
        if mistakes != self._mistakes:
            for mistake in mistakes:
                log.error("web configuration refused, the old one stays in use", extra={"mistake": mistake})
        self._mistakes = mistakes

    async def authenticate(self, headers: Mapping[str, str], client: str = "") -> bool:
        """Whether the request has a user's name and password.

        Without configured users, every request has access.

        :param client: the client's address
        :raises BusyError: if too many others are being checked
        """
        users = self.settings.file.users
        if not users:
            return True
        user, password = _parse_basic(headers.get("authorization", ""))
        if user is None:
            return False
        return await self._passwords.check(users, user, password, client)

    def take_token(self) -> bool:
        """Whether the rate limit allows one more request now."""
        return self._bucket.take()


def _identify(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _parse_basic(header: str) -> tuple[str | None, str]:
    """Return user and password from an Authorization header (RFC 7617); no user if there is none."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, colon, password = (
            base64.b64decode(credentials, validate=True).decode("utf-8", "surrogateescape").partition(":")
        )
    except ValueError:
        return None, ""
    return (user, password) if colon else (None, "")


class TokenBucket:
    """Allows one request in each interval, and a burst after a pause."""

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Whether a request is allowed now."""
        if not self._limit.interval:
            return True
        now = self._clock()
        gained = (now - self._filled_at) / self._limit.interval
        self._tokens, self._filled_at = min(self._limit.burst, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

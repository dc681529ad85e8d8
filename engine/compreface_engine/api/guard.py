"""API keys and rate limits; both are off unless they are set."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

from compreface_engine.api.errors import TooManyRequests, Unauthorized
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.logs import NAME
from compreface_engine.settings import Settings
from compreface_engine.variables import DIGEST, keys_in_file

log = logging.getLogger(NAME)

MAX_CLIENTS = 10_000
"""The most clients with a bucket; beyond it the one that was away the longest loses its bucket."""


class Keys:
    """The valid keys, kept as SHA-256 digests and compared in constant time.

    A key may be given as `DIGEST` and its SHA-256 in hex. Keys of a file are read again when it has
    changed; while it cannot be read, or has an invalid key, the previous ones are valid.
    """

    def __init__(self, keys: tuple[str, ...], file: Path | None = None) -> None:
        self._digests = _digests(keys)
        self._file = file
        self._state = _state(file)

    def known(self, key: bytes) -> bytes | None:
        """The digest of a valid key; None for any other."""
        digest, match = _digest(key), None
        for valid in self._digests:
            if hmac.compare_digest(digest, valid):
                match = valid
        return match

    def renew(self) -> None:
        """Read the file again if it is another one than before."""
        state = _state(self._file)
        if self._file is None or state == self._state:
            return
        self._state = state
        try:
            self._digests = _digests(keys_in_file(self._file, "CF_API_KEYS_FILE"))
        except ConfigurationError as error:
            log.warning("The API keys stay as they were: %s", error)
        else:
            log.info("The API keys were read again: %d are valid", len(self._digests))


class Rate:
    """A token bucket for each client: `burst` requests at once, then `rate` a second."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """The number of clients with a bucket."""
        return len(self._buckets)

    def wait(self, client: Hashable) -> float:
        """Takes a token from the client's bucket: 0.0, or the seconds until there is one."""
        now = self._clock()
        left, then = self._buckets.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


class Guard:
    """The access checks of one engine."""

    def __init__(self, settings: Settings) -> None:
        keys, file = settings.api_keys, settings.api_keys_file
        self._keys = Keys(keys, file) if keys else None
        self._rate = Rate(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
        self._limit = settings.rate_limit

    @property
    def requires_key(self) -> bool:
        """Whether requests need an API key."""
        return self._keys is not None

    def check(self, keys: list[bytes], address: str, *, costs: bool) -> None:
        """Accepts a request that presents `keys`; with `costs` it counts against the rate limit.

        A client is known by its key, or by its `address` where no key is required. Raises
        Unauthorized and TooManyRequests.
        """
        client: Hashable = address
        if self._keys is not None:
            self._keys.renew()
            valid = [self._keys.known(key) for key in keys]
            client = next((digest for digest in valid if digest is not None), None)
            if client is None:
                raise Unauthorized(given=bool(keys))
        if costs and self._rate is not None:
            seconds = self._rate.wait(client)
            if seconds:
                raise TooManyRequests(self._limit, math.ceil(seconds))


def bearer(authorization: bytes) -> bytes | None:
    """The token of `Authorization: Bearer ...`; None for another scheme."""
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def _digests(keys: tuple[str, ...]) -> list[bytes]:
    return [
        bytes.fromhex(key.removeprefix(DIGEST)) if key.startswith(DIGEST) else _digest(key.encode())
        for key in keys
    ]


def _state(file: Path | None) -> tuple[int, int, int] | None:
    """What differs when a file was written or replaced; None where there is none."""
    try:
        stat = file.stat() if file is not None else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

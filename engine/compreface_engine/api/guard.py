"""API keys and rate limits; both are off unless they are set."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from compreface_engine.api.errors import TooManyRequests, Unauthorized
from compreface_engine.settings import Settings
from compreface_engine.variables import DIGEST

MAX_CLIENTS = 10_000
"""The most clients with a bucket; beyond it the one that was away the longest loses its bucket."""


class Keys:
    """The valid keys, kept as SHA-256 digests and compared in constant time.

    A key may be given as `DIGEST` and its SHA-256 in hex.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = [
            bytes.fromhex(key.removeprefix(DIGEST))
            if key.startswith(DIGEST)
            else _digest(key.encode())
            for key in keys
        ]

    def place(self, key: bytes) -> int | None:
        """The index of `key` in the list; None where it is not in it."""
        digest, match = _digest(key), None
        for place, valid in enumerate(self._digests):
            if hmac.compare_digest(digest, valid):
                match = place
        return match


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
        self._keys = Keys(settings.api_keys) if settings.api_keys else None
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
            places = [self._keys.place(key) for key in keys]
            client = next((place for place in places if place is not None), None)
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


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

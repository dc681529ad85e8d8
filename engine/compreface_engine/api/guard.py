"""Who may ask, and how often: API keys and request limits, both off unless they are set."""

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
"""Clients whose requests are counted; beyond, who was longest away starts anew."""


class Keys:
    """The accepted keys, by their digests. A comparison takes the same time for every wrong key.

    A key may be given as what `DIGEST` begins, the SHA-256 of it in hex.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._digests = [
            bytes.fromhex(key.removeprefix(DIGEST))
            if key.startswith(DIGEST)
            else _digest(key.encode())
            for key in keys
        ]

    def place(self, key: bytes) -> int | None:
        """Which key of the list this is; None for no key of it."""
        digest, found = _digest(key), None
        for place, one in enumerate(self._digests):
            if hmac.compare_digest(digest, one):
                found = place
        return found


class Rate:
    """A bucket of requests for each client: `burst` at once, `rate` a second after that."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._buckets)

    def wait(self, client: Hashable) -> float:
        """Takes one request out of the client's bucket: 0.0, or the seconds until there is one."""
        now = self._clock()
        left, then = self._buckets.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


class Guard:
    """Keys and limits of one engine."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings.api_keys) if settings.api_keys else None
        self._rate = Rate(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
        self._limit = settings.rate_limit

    @property
    def asks_for_keys(self) -> bool:
        return self._keys is not None

    def check(self, keys: list[bytes], address: str, *, costs: bool) -> None:
        """Lets a request pass that shows one of `keys`; `costs` counts it against the limit.

        Raises Unauthorized and TooManyRequests.
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

"""A request's headers, read in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from compreface_engine.api.guard import bearer

_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(slots=True)
class Head:
    """The headers that the engine uses; `body_read` is set once the body is read completely.

    `keys` are the API keys that the request presents; `expects_continue`: the client waits for
    "100 Continue" before it sends the body.
    """

    content_type: bytes = b""
    length: int = 0
    chunked: bool = False
    expects_continue: bool = False
    body_read: bool = False
    request_id: str | None = None
    keys: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Head:
        """The head with these headers, whose names are in lower case."""
        head = cls()
        for name, value in headers:
            if name == b"content-type":
                head.content_type = value
            elif name == b"content-length":
                head.length = int(value)
            elif name == b"transfer-encoding":
                head.chunked = True
            elif name == b"expect":
                head.expects_continue = True
            elif name == b"x-request-id":
                # Other ids stay out of logs and answers.
                head.request_id = value.decode("ascii") if _ID.fullmatch(value) else None
            elif name == b"x-api-key":
                head.keys.append(value)
            elif name == b"authorization":
                token = bearer(value)
                if token is not None:
                    head.keys.append(token)
        return head

    @property
    def has_unread_body(self) -> bool:
        """Whether a body follows that is not read yet."""
        return not self.body_read and (self.chunked or self.length > 0)

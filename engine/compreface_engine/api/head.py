"""What is taken from a request's headers, in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from compreface_engine.api.guard import bearer

_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(slots=True)
class Head:
    """What the headers say about the caller and the body; `read` once that is completely read."""

    content_type: bytes = b""
    length: int = 0
    chunked: bool = False
    expects: bool = False
    read: bool = False
    request_id: str | None = None
    keys: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Head:
        """From headers with names in small letters."""
        head = cls()
        for name, value in headers:
            if name == b"content-type":
                head.content_type = value
            elif name == b"content-length":
                head.length = int(value)
            elif name == b"transfer-encoding":
                head.chunked = True
            elif name == b"expect":
                head.expects = True
            elif name == b"x-request-id":
                # Whatever is odd or long stays out of our logs and answers.
                head.request_id = value.decode("ascii") if _ID.fullmatch(value) else None
            elif name == b"x-api-key":
                head.keys.append(value)
            elif name == b"authorization":
                token = bearer(value)
                if token is not None:
                    head.keys.append(token)
        return head

    @property
    def unread(self) -> bool:
        return not self.read and (self.chunked or self.length > 0)

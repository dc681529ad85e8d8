"""What PostgreSQL stores of a password: a new value to store, and whether a password fits one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

_ITERATIONS = 4096  # PostgreSQL's own number: SCRAM_DEFAULT_ITERATIONS in src/include/common
_SALT_BYTES = 16
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$(\d{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)


def stored(password: str) -> str:
    """The text that `alter user ... password` takes in place of an ASCII password (RFC 5803).

    The server stores it unchanged, so that neither its log nor a list of its queries can show the
    password. PostgreSQL 10 and later have it.
    """
    return _scram(password, os.urandom(_SALT_BYTES), _ITERATIONS)


def fits(password: str, value: str, *, user: str) -> bool:
    """Whether `value`, of `pg_authid.rolpassword`, was made from this password of the user."""
    if value.startswith("md5"):  # the default until PostgreSQL 13
        digest = hashlib.md5((password + user).encode(), usedforsecurity=False)
        return hmac.compare_digest(value, f"md5{digest.hexdigest()}")
    match = _SCRAM.fullmatch(value)
    if match is None:
        return False
    made = _scram(password, base64.b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(value, made)


def _scram(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    client_hash = hashlib.sha256(client).digest()
    words = [base64.b64encode(part).decode() for part in (salt, client_hash, server)]
    return f"SCRAM-SHA-256${iterations}:{words[0]}${words[1]}:{words[2]}"

"""Whether a password is the one whose digest PostgreSQL has stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata

# `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, as pg_authid.rolpassword has it.
_SCRAM = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):.+")
_MOST_ITERATIONS = 10_000_000  # PostgreSQL's default is 4096


def fits(digest: str, user: str, password: str) -> bool | None:
    """Whether that user can log in with the password; None for a digest of another kind.

    A user without a digest has no password, and cannot log in over the network.
    """
    if not digest:
        return False
    if digest.startswith("md5"):
        wanted = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(digest, f"md5{wanted}")
    match = _SCRAM.fullmatch(digest)
    if match is None or not 0 < int(match[1]) <= _MOST_ITERATIONS:
        return None
    try:
        salt, stored = (base64.b64decode(text, validate=True) for text in (match[2], match[3]))
    except binascii.Error:
        return None
    # RFC 5802; PostgreSQL prepares passwords by SASLprep, whose main part is this normal form.
    prepared = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, int(match[1]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(key).digest(), stored)

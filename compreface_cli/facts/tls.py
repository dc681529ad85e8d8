"""Facts about a certificate and its key: whether TLS works with them, for which names, until when.

OpenSSL judges them by a handshake in memory, in which the certificate itself is the only one that
the client trusts.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LARGEST = 1 << 20  # bytes; a chain of certificates has some kB
_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID
_STRICT = getattr(ssl, "VERIFY_X509_STRICT", 0)


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """A pair of files; `fault` says in words why they cannot be used, "" when they can."""

    cert: str
    key: str
    fault: str = ""
    names: tuple[str, ...] = ()  # host names and addresses that the certificate is for
    until: datetime | None = None
    readable: bool = False  # users other than the owner may read the key


class _Encrypted(Exception):
    pass


def look(cert: str, key: str) -> TlsFacts:
    """Read both files; no part of the key is kept."""
    for path, what, block in ((cert, "certificate", "CERTIFICATE"), (key, "key", "PRIVATE KEY")):
        if fault := _unreadable(Path(path), block):
            return TlsFacts(cert, key, f"the {what} {path} {fault}")
    try:
        peer = _handshake(cert, key)
    except _Encrypted:
        return TlsFacts(cert, key, f"the key {key} is encrypted, and nobody can type its password")
    except ssl.SSLCertVerificationError as error:
        when = {_EXPIRED: "has expired", _NOT_YET: "is not valid yet"}.get(error.verify_code)
        return TlsFacts(cert, key, f"the certificate {cert} {when or error.verify_message}")
    except (ssl.SSLError, ValueError, OSError) as error:
        return TlsFacts(cert, key, _words(cert, key, error))
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(peer["notAfter"]), UTC)
    names = tuple(value for kind, value in peer.get("subjectAltName", ()))
    open_ = bool(Path(key).stat().st_mode & 0o077)
    return TlsFacts(cert, key, names=names, until=until, readable=open_)


def pinned(cert: str) -> ssl.SSLContext:
    """A client's context that accepts the first certificate of the file, under any name.

    Raises OSError or ValueError where there is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the port is asked by its address
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~_STRICT
    context.load_verify_locations(cadata=_first(cert))
    return context


def _handshake(cert: str, key: str) -> dict[str, Any]:
    """What a client sees of the certificate."""

    def ask() -> str:
        raise _Encrypted

    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(cert, key, password=ask)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = pinned(cert).wrap_bio(to_client, to_server)
    open_ = [client, server]
    for _ in range(10):
        for end in list(open_):
            try:
                end.do_handshake()
                open_.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not open_:
            break
    return client.getpeercert() or {}


def _first(cert: str) -> str:
    block = _BLOCK.search(Path(cert).read_text("ascii", errors="replace"))
    if block is None:
        raise ValueError("it has no certificate in PEM")
    return block[0]


def _unreadable(path: Path, block: str) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            return "is larger than any certificate"
        text = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if f"{block}-----".encode() in text else f"has no {block} in PEM"


def _words(cert: str, key: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return f"the key {key} does not belong to the certificate {cert}"
    return f"the certificate {cert} and the key {key} cannot be used: {reason}"

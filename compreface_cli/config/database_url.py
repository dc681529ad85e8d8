"""Reads the address of a database that lives elsewhere: `postgresql://USER:PASSWORD@HOST/NAME`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from compreface_cli.config.settings_table import SSL_MODES, BadValue, host_fault

PORT = 5432
VERIFIED = ("verify-ca", "verify-full")
_SCHEMES = ("postgresql", "postgres")
_LONGEST = (
    63  # bytes of a name in PostgreSQL: NAMEDATALEN in src/include/pg_config_manual.h, less 1
)
_REFUSED: Mapping[str, str] = {
    "sslcert": "client certificates are not passed on: log in with a password",
    "sslkey": "client certificates are not passed on: log in with a password",
    "sslpassword": "client certificates are not passed on: log in with a password",
    "password": "put the password before the host: postgresql://USER:PASSWORD@HOST/NAME",
    "user": "put the user before the host: postgresql://USER:PASSWORD@HOST/NAME",
    "host": "put the host after the user: postgresql://USER:PASSWORD@HOST/NAME",
    "port": "put the port behind the host: postgresql://USER:PASSWORD@HOST:PORT/NAME",
    "dbname": "put the name at the end: postgresql://USER:PASSWORD@HOST/NAME",
}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """The parts of such an address, decoded; `password` None: it has none."""

    user: str
    password: str | None = field(repr=False)
    host: str  # an IPv6 address has no brackets here
    port: int
    name: str
    sslmode: str
    sslrootcert: str  # a path; "": none


def read(text: str) -> DatabaseUrl:
    """The parts of an address. Raises BadValue, which never shows the password."""
    scheme, colon, rest = text.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise BadValue("must be like postgresql://USER:PASSWORD@HOST:5432/NAME?sslmode=verify-full")
    if "#" in rest:
        raise BadValue("has a #, which must be written %23")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    if "@" in login:
        raise BadValue("has an @ in user or password, which must be written %40")
    user, has_password, password = login.partition(":")
    if not at or not user:
        raise BadValue("names no user: postgresql://USER:PASSWORD@HOST/NAME")
    if not slash or not path:
        raise BadValue("names no database: postgresql://USER:PASSWORD@HOST/NAME")
    if "/" in path:
        raise BadValue("has a / in the database's name, which must be written %2F")
    host, port = _place(place)
    options = _options(query)
    return DatabaseUrl(
        _name("user", user),
        _decoded("password", password) if has_password and password else None,
        host,
        port,
        _name("database", path),
        options.get("sslmode", SSL_MODES[1]),
        options.get("sslrootcert", ""),
    )


def tls_fault(sslmode: str, sslrootcert: str) -> str:
    """Why this mode and root certificate do not go together; "" when they do."""
    if sslmode in VERIFIED and not sslrootcert:
        return (
            f"sslmode {sslmode} needs sslrootcert, the file with the certificate authority that the"
            " server's certificate is checked with (of a public one, the system's own:"
            " /etc/ssl/certs/ca-certificates.crt)"
        )
    if sslrootcert and sslmode not in VERIFIED:
        return (
            f"sslmode {sslmode} checks no certificate, so that sslrootcert would have no effect: "
            "verify-full does"
        )
    return ""


def _place(text: str) -> tuple[str, int]:
    """Host and port; BadValue for what containers cannot reach."""
    if "," in text:
        raise BadValue("names several hosts; the services use one")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text, re.DOTALL)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise BadValue("has no IPv6 address in its brackets") from error
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
        if ":" in after:
            raise BadValue("has an IPv6 address without brackets: [2001:db8::1]")
        host = _decoded("host", host)
    if not host or host.startswith("/"):
        raise BadValue(
            "names a socket or no host; the services run in containers and need a host's name"
        )
    if fault := host_fault(host):
        raise BadValue(f"has a host that {fault}")
    if port is None:
        return host, PORT
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise BadValue("has no port from 1 to 65535 behind the host")
    return host, int(port)


def _options(query: str) -> dict[str, str]:
    """The options after the question mark, each known and named once."""
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        key = _decoded("option", key)
        if key in _REFUSED:
            raise BadValue(f"has the option {key}: {_REFUSED[key]}")
        if key not in ("sslmode", "sslrootcert"):
            shown = key if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", key) else "of another name"
            raise BadValue(f"has the option {shown}; sslmode and sslrootcert are known")
        if not equals or not value:
            raise BadValue(f"has the option {key} without a value")
        if key in options:
            raise BadValue(f"has the option {key} twice")
        options[key] = _decoded(key, value)
    if options.get("sslmode", SSL_MODES[0]) not in SSL_MODES:
        raise BadValue(f"has another sslmode than {', '.join(SSL_MODES)}")
    return options


def _name(part: str, text: str) -> str:
    decoded = _decoded(part, text)
    if len(decoded.encode()) > _LONGEST:
        raise BadValue(f"has a {part} of more than {_LONGEST} bytes")
    return decoded


def _decoded(part: str, text: str) -> str:
    """The text without percent-encoding; no message shows it, since it may be a password."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadValue(f"has a % in its {part}, which must be written %25")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise BadValue(f"has a {part} that is not UTF-8") from error
    if any(ord(character) < 32 or ord(character) == 127 for character in decoded):
        raise BadValue(f"has a control character in its {part}")
    return decoded

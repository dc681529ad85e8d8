"""The database's address for the Java services, which read it with two drivers.

The api has pgJDBC (42.2.25) for its queries and pgjdbc-ng (0.8.9) for its notifications. It gives
the second one the same address after it has replaced each "postgresql" in it by "pgsql"
(NotificationDbConfig.java). That driver knows the options of TLS by other names, ignores the first
one's, and would log in without TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

ROOT_CERT = "/etc/compreface/database-ca.pem"  # in the containers of admin and api
_REPLACED = "postgresql"


def address(stack: Mapping[str, str], *, own: bool) -> str:
    """The address for both drivers, from a plan's `stack`, without user and password.

    `own`: it is the instance's own database, on its own network, without TLS.
    """
    host, name = stack["postgres_host"], quote(stack["postgres_db"], safe="")
    # What the api would replace is written so that it does not, and means the same.
    host = host.replace(_REPLACED, _REPLACED.capitalize())
    name = name.replace(_REPLACED, f"%{ord(_REPLACED[0]):x}{_REPLACED[1:]}")
    if ":" in host:
        host = f"[{host}]"
    base = f"jdbc:{_REPLACED}://{host}:{stack['postgres_port']}/{name}"
    if own:
        return base
    mode = stack.get("postgres_sslmode", "prefer")
    options = {"sslmode": mode, "ssl.mode": mode}
    if stack.get("postgres_sslrootcert"):
        options |= {"sslrootcert": ROOT_CERT, "ssl.ca.certificate.file": ROOT_CERT}
    return f"{base}?{'&'.join(f'{key}={value}' for key, value in options.items())}"

"""TLS of the UI's port: whether its certificate and key can be used, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from compreface_cli.checks.base import CONFIGURATION, Finding, OwnedResources, fail, ok, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

if TYPE_CHECKING:
    from compreface_cli.facts.tls import TlsFacts

NAME = "tls"
_SOON = timedelta(days=14)

FILES = Topic(
    "tls-files",
    means="The certificate or the key for TLS at the UI's port cannot be used.",
    why="The UI's web server would not start, and with it the whole stack would not answer.",
    see="`openssl x509 -in CERT -noout -dates -ext subjectAltName` shows a certificate.",
    ways=(
        "Name the certificate with its chain, and its key, both in PEM: `--tls CERT KEY`.",
        "Decrypt a key that has a password: `openssl pkey -in KEY -out NEW`, then `chmod 600 NEW`.",
    ),
)
EXPIRES = Topic(
    "tls-expires",
    means="The certificate of the UI's port expires within two weeks.",
    why="After that day browsers refuse the page.",
    see="`openssl x509 -in CERT -noout -enddate` shows the day.",
    ways=("Renew the certificate in its place; the next `cf up` takes the new one.",),
)
READABLE = Topic(
    "tls-key-readable",
    means="Other users of this machine may read the key of the certificate.",
    why="Whoever has the key can pass for this server. `cf` protects its own copy only.",
    see="`ls -l KEY` shows who may read it.",
    ways=("Take the rights away: `chmod 600 KEY`.",),
)
NAMES = Topic(
    "tls-names",
    means="The certificate of the UI's port has no subjectAltName.",
    why="Browsers compare the address with nothing else, and refuse the page.",
    see="`openssl x509 -in CERT -noout -ext subjectAltName` shows the names.",
    ways=("Make a certificate with the host name or the address that browsers use.",),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """The findings for the certificate of the plan; none without one."""
    if facts.tls is not None:
        yield from judge(facts.tls, datetime.now(UTC))


def judge(tls: TlsFacts, now: datetime) -> Iterator[Finding]:
    """The findings for a certificate at that time."""
    if tls.fault or tls.until is None:
        hint = "Name a certificate (with its chain) and its key, both in PEM: --tls CERT KEY"
        yield fail(NAME, CONFIGURATION, f"TLS: {tls.fault}", hint, topic=FILES)
        return
    if tls.until - now < _SOON:
        yield warn(
            NAME,
            f"the certificate {tls.cert} expires on {tls.until:%Y-%m-%d}",
            "Renew it; the next `cf up` takes the new one.",
            topic=EXPIRES,
        )
    if tls.readable:
        yield warn(
            NAME,
            f"other users of this machine can read the key {tls.key}",
            f"chmod 600 {tls.key}",
            topic=READABLE,
        )
    if not tls.names:
        yield warn(
            NAME,
            f"the certificate {tls.cert} has no subjectAltName, so that browsers refuse it",
            "Make one with the host name that browsers use.",
            topic=NAMES,
        )
        return
    yield ok(NAME, f"the certificate is for {', '.join(tls.names)}, until {tls.until:%Y-%m-%d}")

"""Facts about this host's network: proxies, IPv6, localhost, first free port; and SELinux."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """`proxies`: scheme -> address, of this user's environment, with `no` for the exceptions.

    `first_port`: the first one that a user without rights may bind. `localhost`: the addresses of
    that name, the first one is what most programs try first.
    """

    proxies: Mapping[str, str] = field(default_factory=dict)
    ipv6: bool = True
    localhost: tuple[str, ...] = ("127.0.0.1",)
    first_port: int = 1024
    selinux: bool = False  # in force


def gather(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> NetworkFacts:
    return NetworkFacts(
        proxies=_proxies(os.environ),
        ipv6=_ipv6(proc),
        localhost=_localhost(),
        first_port=_first_port(proc),
        selinux=_line(sys / "fs/selinux/enforce") == "1",
    )


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """As curl has it: names in small letters count more."""
    named = sorted(environ, key=str.islower)
    found = {name.lower().removesuffix("_proxy"): environ[name] for name in named
             if name.lower().endswith("_proxy")}  # fmt: skip
    return {scheme: address for scheme, address in found.items() if address}


def _ipv6(proc: Path) -> bool:
    """Whether an interface has an IPv6 address."""
    return bool(_line(proc / "net/if_inet6"))


def _localhost() -> tuple[str, ...]:
    try:
        rows = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))


def _first_port(proc: Path) -> int:
    if os.geteuid() == 0:
        return 1
    text = _line(proc / "sys/net/ipv4/ip_unprivileged_port_start")
    return int(text) if text.isdigit() else 1024


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

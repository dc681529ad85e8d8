"""Facts about this host: processor, memory, disks, and listening sockets."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compreface_cli import cpu

# Docker's processes that listen for a container.
DOCKERS_OWN = frozenset({"docker-proxy", "rootlesskit"})
_LISTEN = "0A"  # state TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket; `pid` and `process` are None when this user may not see them."""

    address: str
    port: int
    pid: int | None = None
    process: str | None = None


@dataclass(frozen=True, slots=True)
class PortFact:
    """The result of a bind to `address:port`, and the listeners there that this user may see."""

    address: str
    port: int
    free: bool
    error: str = ""  # the system's error when the bind failed
    denied: bool = False  # for lack of permission, not because it is in use
    listeners: tuple[Listener, ...] = ()

    @property
    def maybe_dockers(self) -> bool:
        """Whether only Docker can say who holds it (its processes may belong to root)."""
        return any(
            listener.pid is None or listener.process in DOCKERS_OWN for listener in self.listeners
        )


@dataclass(frozen=True, slots=True)
class DiskFact:
    """Bytes on the file system of `path`; `existing` is the nearest folder that exists."""

    path: str
    existing: str
    free: int
    total: int
    device: int = 0  # identifies the file system
    refused: str = ""  # why `path` cannot be created or written; "" if it can


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The state of the host; sizes in bytes; None: the system does not report it."""

    system: str  # "Linux"
    distribution: str  # "Debian GNU/Linux 12 (bookworm)", or the system's name
    architecture: str  # Docker's name: amd64, arm64, ...
    python: str
    cpu_flags: frozenset[str] | None  # None: not readable here
    cores: int
    memory_total: int | None
    memory_available: int | None
    user: str
    ports: Mapping[tuple[str, int], PortFact] = field(default_factory=dict)
    disks: Mapping[str, DiskFact] = field(default_factory=dict)


def gather(ports: Iterable[tuple[str, int]] = (), paths: Iterable[str | Path] = ()) -> HostFacts:
    """The facts about the host, these ports, `(address, port)`, and the disks of these paths."""
    memory = _memory()
    return HostFacts(
        system=platform.system(),
        distribution=_distribution(),
        architecture=cpu.architecture(),
        python=platform.python_version(),
        cpu_flags=cpu.flags(),
        cores=_cores(),
        memory_total=memory.get("MemTotal"),
        memory_available=memory.get("MemAvailable"),
        user=_user(),
        ports={(address, number): port(address, number) for address, number in ports},
        disks={str(path): disk(path) for path in paths},
    )


def disk(path: str | Path) -> DiskFact:
    """The disk of `path`, which need not exist."""
    existing = Path(path).absolute()
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    device = os.stat(existing).st_dev
    return DiskFact(str(path), str(existing), usage.free, usage.total, device, _refused(existing))


def _refused(existing: Path) -> str:
    if not existing.is_dir():
        return f"{existing} is not a folder"
    if os.access(existing, os.W_OK | os.X_OK):
        return ""
    read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
    return f"{existing} is {'on a read-only disk' if read_only else 'not writable for this user'}"


def port(address: str, number: int) -> PortFact:
    """Whether the port can be bound; if not, the listeners that prevent it."""
    try:
        _bind(address, number)
    except OSError as error:
        return PortFact(
            address=address,
            port=number,
            free=False,
            error=(error.strerror or str(error)).lower(),
            denied=isinstance(error, PermissionError),
            listeners=tuple(item for item in listeners([number]) if _meets(item.address, address)),
        )
    except OverflowError:
        return PortFact(address, number, free=False, error="not a port number")
    return PortFact(address, number, free=True)


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free now, chosen by the kernel."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def listeners(numbers: Sequence[int], proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """The listening sockets on these ports, from /proc/net/tcp and tcp6, with their processes."""
    rows: list[tuple[str, int, str]] = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if len(columns) < 10 or columns[3] != _LISTEN:
                continue
            host, _, hexadecimal = columns[1].rpartition(":")
            if int(hexadecimal, 16) in numbers:
                rows.append((_address(host), int(hexadecimal, 16), columns[9]))
    owners = _owners({inode for _, _, inode in rows}, proc) if rows else {}
    return tuple(
        Listener(address, number, *owners.get(inode, (None, None)))
        for address, number, inode in rows
    )


def _bind(address: str, number: int) -> None:
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        # As servers do: a listener is a conflict, a connection in TIME_WAIT is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, number))
        probe.listen(1)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _address(hexadecimal: str) -> str:
    """An address of /proc/net/tcp{,6}: words of four bytes in the host's byte order."""
    words = [hexadecimal[at : at + 8] for at in range(0, len(hexadecimal), 8)]
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _meets(listening: str, wanted: str) -> bool:
    """Whether a socket on the address `listening` conflicts with one on `wanted`."""
    listening = listening.removeprefix("::ffff:")
    everywhere = ("0.0.0.0", "::")  # noqa: S104
    return listening == wanted or listening in everywhere or wanted in everywhere


def _owners(inodes: set[str], proc: Path) -> dict[str, tuple[int, str | None]]:
    """Socket inode -> (pid, process name), for processes whose open files this user may read."""
    owners: dict[str, tuple[int, str | None]] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for folder in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            opened = os.listdir(folder / "fd")
        except OSError:
            continue  # another user's, or just ended
        for number in opened:
            try:
                inode = wanted.get(os.readlink(folder / "fd" / number))
            except OSError:
                continue  # just closed
            if inode is not None and inode not in owners:
                owners[inode] = (int(folder.name), _process_name(folder))
    return owners


def _process_name(folder: Path) -> str | None:
    try:
        return (folder / "comm").read_text().strip() or None
    except OSError:
        return None


def _memory(meminfo: Path = Path("/proc/meminfo")) -> dict[str, int]:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return {}
    return {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in lines)
        if value.split()
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _user() -> str:
    """The user's name, without asking a directory service that may not answer."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())

"""What `docker` writes when it fails, with what BuildKit, pip and apt say in a build."""

from __future__ import annotations

from compreface_cli.causes.cause import Cause
from compreface_cli.errors import (
    ConflictError,
    DockerError,
    FetchError,
    HardwareError,
    UnhealthyError,
)
from compreface_cli.topics import Topic

STOPPED = Topic(
    "docker-stopped",
    means="The address of the Docker engine is known, but nothing listens there.",
    why="Containers neither run nor start until the engine is back; those with a restart "
    "policy then start by themselves.",
    see="`docker info`, and `systemctl status docker`. `docker context ls` and `DOCKER_HOST` "
    "show which engine is used.",
    ways=(
        "Start it: `systemctl start docker`, or open Docker Desktop.",
        "Correct DOCKER_HOST or `docker context use NAME` if another engine was meant.",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)

DENIED = Topic(
    "docker-denied",
    means="The socket of the Docker engine exists, and this user may not open it.",
    why="Every command that concerns containers fails for this user. Who may use the socket "
    "has the rights of root on this machine.",
    see="`ls -l /var/run/docker.sock` shows the group that may; `id` shows the groups of "
    "this user.",
    ways=(
        "Add the user to the group: `sudo usermod -aG docker $USER`, then log in again.",
        "Use rootless Docker, which needs no such group.",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)

SILENT = Topic(
    "docker-silent",
    means="The Docker engine accepted the connection and gave no answer in time.",
    why="`cf` cannot tell what runs. The cause is mostly a full disk, a storage driver that "
    "hangs, or a machine under heavy load.",
    see="`time docker info`, and `journalctl -u docker --since -10min`.",
    ways=(
        "Wait until the load is over, then run the command again.",
        "Restart the engine: `systemctl restart docker`. It interrupts its containers unless "
        "live-restore is set.",
    ),
)

DISK_FULL = Topic(
    "docker-disk-full",
    means="Too little space is left where Docker keeps images and volumes.",
    why="A build stops half-way, and PostgreSQL ends when it cannot write.",
    see="`docker system df`, and `df -h /var/lib/docker`.",
    ways=(
        "`docker builder prune` empties the build cache, `docker image prune` removes images "
        "without a name.",
        "`cf prune` removes engine images that no instance needs.",
        "Never `docker volume prune`: stopped instances keep their faces in volumes.",
    ),
)

PORT_TAKEN = Topic(
    "port-taken",
    means="A process, a container or another instance listens on the port already.",
    why="Two programs cannot listen on one port; nothing is started.",
    see="`ss -ltnp 'sport = :8000'` names the process (as root, all of them), `docker ps` "
    "the container, `cf status` the instance.",
    ways=(
        "Let `cf` choose a free one: `cf up --port auto` (and `--core-port auto`).",
        "Stop what holds it: `cf down NAME`, `docker stop NAME`, or end the process.",
        "Set another one for good: `port:` in cf.yaml, or CF_PORT.",
    ),
)

NAME_TAKEN = Topic(
    "container-name-taken",
    means="A container outside of this instance has the name of one of its containers.",
    why="Docker refuses two containers of one name.",
    see="`docker ps -a --filter name=NAME`.",
    ways=(
        "Choose another name: `cf up --instance NAME`.",
        "Rename that container: `docker rename NAME NAME-old`.",
    ),
)

GPU_REFUSED = Topic(
    "gpu-container-fails",
    means="A container that asks for the GPU does not start.",
    why="The engine would not start either.",
    see="`docker run --rm --gpus all IMAGE nvidia-smi`.",
    ways=(
        "The message contains the error of Docker; mostly the toolkit or the driver has to "
        "be repaired.",
    ),
)

IMAGE_MISSING = Topic(
    "image-missing",
    means="An image is not on this machine and cannot be pulled.",
    why="The containers that need it cannot be created.",
    see="`docker image ls`, and `docker pull NAME` shows what the registry says.",
    ways=(
        "Load it from a file: `docker load -i FILE`.",
        "Correct the name or the tag; log in with `docker login` where the registry is private.",
        "The engine alone needs no image of the stack: `cf up --services core`, or "
        "`--launcher process`.",
    ),
)

CONTEXT = Topic(
    "docker-context",
    means="The Docker context that is named does not exist.",
    why="`docker`, and so `cf`, does not know which engine to use.",
    see="`docker context ls`; DOCKER_CONTEXT is stronger than the current one.",
    ways=("Choose one that exists: `docker context use NAME`, or unset DOCKER_CONTEXT.",),
)

TOO_MANY_CPUS = Topic(
    "cpus-too-many",
    means="More CPUs are asked for than the host of the Docker engine has.",
    why="Docker refuses to create the container.",
    see="`docker info` prints the number of CPUs.",
    ways=("Lower `cpus` in compose.override.yaml.",),
)

PACKAGE_HASH = Topic(
    "package-hash",
    means="A package that was downloaded has another hash than the one that this `cf` pins.",
    why="Something on the way changes files, or the package index has another build of it. "
    "Nothing of it is kept.",
    see="The output of pip names the package with both hashes.",
    ways=(
        "Run the command again.",
        "Use another package index, or a path without the proxy that changes files.",
    ),
)

NETWORK = Topic(
    "network-failed",
    means="A package could not be downloaded: no connection, or no answer.",
    why="The build or the environment cannot be made.",
    see="`docker run --rm curlimages/curl -sI https://example.com` shows whether containers "
    "reach the network.",
    ways=(
        "Run the command again.",
        "Correct the DNS or the proxy of the Docker engine: see `cf explain proxy-docker-lacks`.",
        "Make it on a machine with a network: `cf build --push`, or `cf export`.",
    ),
)

UNHEALTHY = Topic(
    "service-unhealthy",
    means="A service of the stack did not become healthy in time, or ended.",
    why="Compose stops at the services that depend on it.",
    see="`cf status`, and `cf logs INSTANCE --explain`.",
    ways=("See to what its log says; then `cf restart INSTANCE --all`.",),
)


CAUSES: tuple[Cause, ...] = (
    Cause(
        r"the Docker context \S+ does not exist|context \S+: context not found",
        DockerError,
        "the Docker context does not exist",
        "`docker context ls` lists them; choose one: docker context use NAME (and see "
        "DOCKER_CONTEXT).",
        topic=CONTEXT,
    ),
    Cause(
        r"Cannot connect to the Docker daemon|error during connect|daemon is not running",
        DockerError,
        "the Docker engine does not answer",
        "Start it (systemctl start docker); DOCKER_HOST and `docker context ls` show which engine "
        "is used. Without it: cf up --launcher process.",
        topic=STOPPED,
    ),
    Cause(
        r"permission denied while trying to connect|dial unix .*: connect: permission denied",
        DockerError,
        "this user may not use Docker",
        "Add the user to the group `docker` and log in again, or use --launcher process.",
        topic=DENIED,
    ),
    Cause(
        r"no space left on device|disk quota exceeded|\[Errno 28\]",
        DockerError,
        "the disk of the Docker engine is full",
        "`docker system df` shows what takes the space; `docker builder prune` frees caches.",
        topic=DISK_FULL,
    ),
    Cause(
        r"port is already allocated|address already in use|ports are not available",
        ConflictError,
        "a port is taken",
        "Choose another one: --port N or --port auto (and --core-port).",
        topic=PORT_TAKEN,
    ),
    Cause(
        r'container name "[^"]*" is already in use',
        ConflictError,
        "a container of that name exists",
        "`docker ps -a` shows it. Rename or remove it, or choose --instance NAME.",
        topic=NAME_TAKEN,
    ),
    Cause(
        r"could not select device driver|unknown or invalid runtime name|nvidia-container-cli|"
        r"gathering device information|CDI device injection failed",
        HardwareError,
        "Docker cannot give a GPU to a container",
        "`cf doctor` says what is missing; a build with device: cpu needs no GPU.",
        topic=GPU_REFUSED,
    ),
    Cause(
        r"Range of CPUs is from",
        HardwareError,
        "more CPUs are asked for than there are",
        "Lower `cpus` in compose.override.yaml.",
        topic=TOO_MANY_CPUS,
    ),
    Cause(
        r"DO NOT MATCH THE HASHES|Hash Sum mismatch",
        FetchError,
        "a downloaded package is not the expected one (its hash differs)",
        "A proxy or a mirror may change files; try again, or use another package index.",
        topic=PACKAGE_HASH,
    ),
    Cause(
        r"failed to resolve source metadata|pull access denied|manifest unknown|manifest for \S+ "
        r"not found|No such image|failed to do request|registry.*no such host|"
        r"Get \"https?://[^\"]*/v2/",
        FetchError,
        "an image can neither be found here nor be pulled",
        "Check the network and the name, or load it by hand: docker load -i FILE.",
        topic=IMAGE_MISSING,
    ),
    Cause(
        r"temporary failure (in name resolution|resolving)|name or service not known|"
        r"Could not resolve|No matching distribution found|Failed to establish a new connection|"
        r"Connection (refused|reset|timed out)|Network is unreachable|Read timed out|"
        r"Max retries exceeded|Unable to connect to|Unable to fetch|Failed to fetch",
        FetchError,
        "the network failed: a package could not be downloaded",
        "Check the network of the Docker engine and its DNS, then run the command again.",
        topic=NETWORK,
    ),
    Cause(
        r"Client\.Timeout|no answer within|context deadline exceeded|"
        r"Unavailable desc = error reading from server",
        DockerError,
        "the Docker engine stopped answering",
        "See the engine's own log (journalctl -u docker), then run the command again.",
        topic=SILENT,
    ),
    Cause(
        r"is unhealthy|application not healthy|exited \(\d+\)|didn't complete successfully",
        UnhealthyError,
        "a service did not become healthy",
        "Its log lines say why.",
        topic=UNHEALTHY,
    ),
)
"""The first that matches counts."""

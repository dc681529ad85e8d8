"""What the Docker engine writes when a registry does not take an image."""

from __future__ import annotations

from compreface_cli.causes.cause import Cause
from compreface_cli.errors import FetchError
from compreface_cli.topics import Topic

_WAY = "Then run the command again: layers that are there already are not sent twice."

UNREACHABLE = Topic(
    "registry-unreachable",
    means="The Docker engine reaches no registry at the address that the image is pushed to.",
    why="Other nodes could not pull the image from there. Nothing was pushed.",
    see="`curl -sI https://HOST/v2/` on the machine of the Docker engine; a registry answers 200 "
    "or 401.",
    ways=(
        "Correct the name or the port in `push_to`.",
        "Let the network and the firewall through to it, and set the proxy of the Docker engine.",
        _WAY,
    ),
)

LOGIN = Topic(
    "registry-login",
    means="The registry wants a login, or does not accept the one that Docker has kept.",
    why="The image was not pushed.",
    see="`docker login HOST` says whether a user name and password are right. `cf` reads what it "
    "keeps, with its credential helpers.",
    ways=(
        "`docker login HOST` as the user that runs `cf`.",
        "With `sudo` or in CI another home counts: set DOCKER_CONFIG to the folder of the login.",
        _WAY,
    ),
)

RIGHTS = Topic(
    "registry-rights",
    means="The registry knows the login, which may not write this repository, or has no such one.",
    why="The image was not pushed. Some registries take no image before its repository is made.",
    see="The registry's own pages list who may write where.",
    ways=(
        "Name a folder that you may write: `--push-to REGISTRY/FOLDER`.",
        "Make the repository `FOLDER/compreface-core` there, or ask for the right to write it.",
        "Log in as another user: `docker login HOST`.",
    ),
)

PLAIN_HTTP = Topic(
    "registry-http",
    means="The registry speaks HTTP, and the Docker engine expects HTTPS of all but this machine.",
    why="Without TLS anybody on the way can read the login and change the image.",
    see="`docker info` lists the addresses of which plain HTTP is accepted: Insecure Registries.",
    ways=(
        "Give the registry a certificate, or put a proxy with TLS in front of it.",
        'On a closed network: `"insecure-registries": ["HOST"]` in /etc/docker/daemon.json of '
        "every node, then restart the Docker engine.",
    ),
)

CERTIFICATE = Topic(
    "registry-certificate",
    means="The Docker engine does not trust the certificate of the registry.",
    why="Nothing is sent to a registry that cannot prove its name.",
    see="`openssl s_client -connect HOST` shows the certificate; `ls /etc/docker/certs.d/HOST` "
    "what this engine trusts for it.",
    ways=(
        "Put the certificate of its authority into /etc/docker/certs.d/HOST/ca.crt on every node; "
        "no restart is needed.",
        "Correct the name in `push_to`: it must be one that the certificate has.",
    ),
)

FAILED = Topic(
    "registry-failed",
    means="The registry answered with an error of its own, or not as a registry does.",
    why="The image was not pushed. A full disk of the registry is the most frequent cause.",
    see="The registry's own log names the cause; `df -h` on its machine shows whether the disk is "
    "full.",
    ways=(
        "Make room there: delete old tags, then run its garbage collection.",
        "A proxy in front of it may limit the size of a body: nginx by `client_max_body_size 0`.",
        _WAY,
    ),
)

STALLED = Topic(
    "registry-stalled",
    means="The registry accepted the connection, and took no byte for three minutes.",
    why="`cf` ends a push that would wait for ever. What it had taken stays there.",
    see="The registry's own log, and the load and the disk of its machine.",
    ways=("Restart the registry, or mend the network to it.", _WAY),
)


CAUSES: tuple[Cause, ...] = (
    Cause(
        r"^it was pushed",
        FetchError,
        "the registry took the image and does not have it",
        "See the log of {host}, then run the command again.",
        topic=FAILED,
    ),
    Cause(
        r"HTTP response to HTTPS client|does not look like a TLS handshake",
        FetchError,
        "the registry speaks plain HTTP, and the Docker engine expects HTTPS",
        "Give it a certificate, or list {host} under `insecure-registries` in the Docker "
        "engine's daemon.json.",
        topic=PLAIN_HTTP,
    ),
    Cause(
        r"x509:|certificate signed by unknown|tls: ",
        FetchError,
        "the Docker engine does not trust the registry's certificate",
        "Put the certificate of its authority into /etc/docker/certs.d/{host}/ca.crt.",
        topic=CERTIFICATE,
    ),
    Cause(
        r"no basic auth credentials|unauthorized|authentication required|\b401\b|"
        r"incorrect username or password",
        FetchError,
        "the registry does not accept the login",
        "Log in, then run the command again: docker login {host}",
        topic=LOGIN,
    ),
    Cause(
        r"denied|insufficient_scope|forbidden|\b403\b|name unknown|does not exist|\b404\b|"
        r"repository name not known|unsupported|\b405\b",
        FetchError,
        "the registry has no such repository, or this login may not write it",
        "Make the repository there, or log in as a user who may write it: docker login {host}",
        topic=RIGHTS,
    ),
    Cause(
        r"too ?many ?requests|\b429\b",
        FetchError,
        "the registry takes no more requests for the moment",
        "Wait a few minutes, then run the command again.",
        topic=FAILED,
    ),
    Cause(
        r"too large|\b413\b",
        FetchError,
        "the registry, or a proxy in front of it, takes no layer of this size",
        "Raise its limit (nginx: client_max_body_size 0), then run the command again.",
        topic=FAILED,
    ),
    Cause(
        r"connection refused|no such host|i/o timeout|no route to host|network is unreachable|"
        r"Client\.Timeout|deadline exceeded|handshake timeout|server misbehaving|"
        r"connection reset|broken pipe|\bEOF\b",
        FetchError,
        "the registry cannot be reached",
        "Check the address {host} and the network of the Docker engine, then run the command "
        "again.",
        topic=UNREACHABLE,
    ),
    Cause(
        r"no space left|unexpected (HTTP )?status|\b50\d\b|unknown error|Internal Server Error",
        FetchError,
        "the registry failed; its disk may be full",
        "See the log of {host} and the room on its disk, then run the command again.",
        topic=FAILED,
    ),
)
"""The first that matches counts; `{host}` in a hint is the registry."""

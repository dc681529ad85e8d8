"""The one table of settings: key, type, default, variable, flag, key of upstream's `.env`, help."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from compreface_cli.runtimes import AUTO_MEASURES, REFERENCE, RUNTIMES

# The engine's defaults.
MAX_BODY_BYTES = 64 * 2**20
MAX_QUEUE_BYTES = 256 * 2**20
MAX_REPLICAS = 1000  # engines of one instance; a typing error is refused, not a large cluster
MAX_APIS = 16  # each holds the collections in memory: up to 4 GB as upstream sets it
LEAST_MEMORY_MIB = 512  # enough for the default build and JPEGs of 40 megapixels

Parse: TypeAlias = Callable[[Any], Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """A parser, and what it accepts as JSON Schema, for programs that read a value without `cf`."""

    parse: Callable[[Any], T]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> T:
        return self.parse(value)


def _as(**schema: Any) -> Callable[[Callable[[Any], T]], Rule[T]]:
    return lambda parse: Rule(parse, schema)


class BadValue(ValueError):
    """An invalid value; the text says what is valid, `suggestion` is a similar valid value."""

    def __init__(self, text: str, suggestion: str | None = None) -> None:
        super().__init__(text)
        self.suggestion = suggestion


@_as(type="string", pattern="^[^\\x00-\\x1f]*$")
def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadValue("must be text")
    text = str(value)
    if any(ord(character) < 32 for character in text):
        raise BadValue("must be one line of text")
    return text


def _matching(pattern: str, words: str) -> Parse:
    @_as(type="string", pattern=f"^({pattern})$")
    def parse(value: Any) -> str:
        text = _text(value)
        if not re.fullmatch(pattern, text):
            raise BadValue(f"must be {words}")
        return text

    return parse


def _choice(*allowed: str) -> Parse:
    @_as(type="string", enum=list(allowed))
    def parse(value: Any) -> str:
        text = _text(value)
        if text not in allowed:
            from compreface_cli.config.yamlfile import did_you_mean

            raise BadValue(f"must be one of {', '.join(allowed)}", did_you_mean(text, allowed))
        return text

    return parse


def whole(low: int, high: int) -> Parse:
    @_as(type="integer", minimum=low, maximum=high)
    def parse(value: Any) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,12}", text):
            raise BadValue("must be a whole number")
        if not low <= int(text) <= high:
            raise BadValue(f"must be from {low} to {high}")
        return int(text)

    return parse


def _port(value: Any) -> int | str:
    if str(value).strip().lower() == "auto":
        return "auto"
    try:
        return int(whole(1, 65535)(value))
    except BadValue as error:
        raise BadValue("must be a port from 1 to 65535, or auto") from error


@_as(type="number", exclusiveMinimum=0, maximum=600)
def _seconds(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise BadValue("must be a number of seconds") from error
    if isinstance(value, bool) or not 0 < number <= 600:
        raise BadValue("must be more than 0 and at most 600 seconds")
    return number


def _cosine(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise BadValue("must be a number") from error
    if isinstance(value, bool) or not 0.9 <= number <= 1:
        raise BadValue("must be from 0.9 to 1")
    return number


@_as(type="boolean")
def _flag(value: Any) -> str:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return "true"
    if text in ("false", "0", "no", "off"):
        return "false"
    raise BadValue("must be true or false")


@_as(type="string", pattern="^[1-9][0-9]{0,8}[KMG]$")
def _size(value: Any) -> str:
    """A size for Java and nginx, without the B: 10M. Upstream writes 5MB and 10M."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*([KMG])B?\s*", str(value), re.IGNORECASE)
    if not match or int(match[1]) == 0:
        raise BadValue("must be a size like 10M (K, M or G)")
    return f"{int(match[1])}{match[2].upper()}"


def _memory(value: Any) -> str:
    """A memory limit as Compose takes it, like 2048m; `none` for no limit."""
    if str(value).strip().lower() == "none":
        return "none"
    match = re.fullmatch(r"\s*(\d{1,7})\s*([MG])i?B?\s*", str(value), re.IGNORECASE)
    mebibytes = int(match[1]) * (1024 if match[2].upper() == "G" else 1) if match else 0
    if mebibytes < LEAST_MEMORY_MIB:
        raise BadValue(f"must be a size like 2G (M or G), at least {LEAST_MEMORY_MIB}M, or none")
    return f"{mebibytes}m"


def _gpus(value: Any) -> tuple[int, ...]:
    """The indexes of one GPU or several, each once."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    try:
        indexes = tuple(whole(0, 63)(part) for part in parts)
    except BadValue as error:
        raise BadValue("must be the index of a GPU from 0 to 63, or several, like 0,1") from error
    if len(set(indexes)) < len(indexes):
        raise BadValue("must name each GPU once")
    return indexes


def _cpus(value: Any) -> str:
    """A number of CPUs; `auto` and `none` as they are."""
    text = str(value).strip().lower()
    if text in ("auto", "none"):
        return text
    if (
        isinstance(value, bool)
        or not re.fullmatch(r"\d{1,3}(\.\d{1,2})?", text)
        or float(text) < 0.1
    ):
        raise BadValue("must be a number of CPUs from 0.1 on, like 2 or 1.5, or auto, or none")
    return f"{float(text):g}"


def _address(value: Any) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(_text(value).strip("[]")))
    except ValueError as error:
        raise BadValue("must be an IP address, like 127.0.0.1 or 0.0.0.0") from error


def _list(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else _text(value).split(",")
    return tuple(part for part in (_text(item).strip() for item in parts) if part)


def _names(value: Any) -> tuple[str, ...]:
    """Names in a list, each of which may be several with commas between, as a flag is given."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(name for part in parts for name in _list(_text(part))))


@_as(type="number", exclusiveMinimum=0, maximum=1_000_000)
def _rate(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise BadValue("must be a number of requests a second") from error
    if isinstance(value, bool) or not 0 < number <= 1e6:
        raise BadValue("must be more than 0 and at most 1000000 requests a second")
    return number


@_as(type="array", items={"type": "string", "pattern": "^[!-+\\--~]{8,}$"})
def _api_keys(value: Any) -> str:
    """The keys, separated by commas, by the engine's rules; no message shows a key."""
    parts = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, int | float) for part in parts):
        raise BadValue("has a key of digits only, which needs quotes in YAML")
    keys = [key for part in parts for key in re.split(r"[,\s]+", _text(part)) if key]
    for number, key in enumerate(keys, start=1):
        if not re.fullmatch(r"[!-+\--~]{8,}", key):  # printable ASCII, no comma
            raise BadValue(f"key {number} must have at least 8 characters, all printable ASCII")
        if key.startswith("sha256:"):
            raise BadValue(f"key {number} is a digest; cf needs the key itself to call the engine")
    if not keys:
        raise BadValue("contains no key; leave it out to require none")
    return ",".join(keys)


SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")  # the second: the default


def host_fault(host: str) -> str:
    """Why the services cannot use this host of a database; "" when nothing speaks against it."""
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", host):
            return "must be the name or the address of a host"
        here = host.rstrip(".").lower().rpartition(".")[2] == "localhost"
    else:
        here = address.is_loopback or address.is_unspecified
    return (
        "must be a name or an address by which other machines reach the server (a container takes "
        "this one for itself)"
        if here
        else ""
    )


def _database_host(value: Any) -> str:
    text = _text(value)
    if fault := host_fault(text):
        raise BadValue(fault)
    return text


def _database_url(value: Any) -> str:
    """The address of a database, which is read once here so that a wrong one is refused."""
    from compreface_cli.config import database_url

    text = _text(value).strip()
    database_url.read(text)
    return text


_image = _matching(r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}", "an image, like postgres:13")
_tag = _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", "an image tag, like 1.2.0")
_REGISTRY_HOST = (
    r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|localhost|\[[0-9A-Fa-f:]+\]|[A-Za-z0-9-]+(?=:))"
    r"(?::[0-9]{1,5})?"
)
# The grammar of Docker's image names (distribution/reference), with a host.
_FOLDER = r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"


def _push_to(value: Any) -> str:
    """A registry and a folder in it, without the slash at the end."""
    text = _text(value).strip().rstrip("/")
    if len(text) > 200 or not re.fullmatch(_REGISTRY_HOST + _FOLDER, text):
        raise BadValue(
            "must be a registry and a folder in it, like registry.example.com/faces "
            "(docker.io/USER for Docker Hub)"
        )
    return text


_registry = _matching(
    r"([a-z0-9][A-Za-z0-9._/:-]{0,200}/)?", "a prefix with its slash, like exadel/"
)
_identifier = _matching(r"[A-Za-z_][A-Za-z0-9_]{0,62}", "a name of letters, digits and _")
_instance = _matching(
    r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
    "a name of lower-case letters, digits and hyphens, at most 40",
)
_build = _matching(r"\S.{0,400}", "the name of a build, or a path")


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table; `env` is CF_ and the key in capitals."""

    key: str
    parse: Parse
    default: Any  # None: the build or the plan decides
    help: str
    upstream: str | None = None  # the key of upstream's `.env`
    flag: str | None = None
    secret: bool = False

    @property
    def env(self) -> str:
        return f"CF_{self.key.upper()}"


DEFAULT_BUILD = "embedded"

# What to build; a setting overrides the same key of the build file.
BUILD: tuple[Setting, ...] = (
    Setting("build", _build, DEFAULT_BUILD, "The build to use: a name or a path.", flag="BUILD"),
    Setting("detector", _text, None, "Detector plugin.", flag="--detector"),
    Setting("calculator", _text, None, "Calculator plugin.", flag="--calculator"),
    Setting("plugins", _list, None, "Further plugins.", flag="--plugin"),
    Setting(
        "fallbacks",
        _flag,
        "true",
        "Whether a plugin whose model cannot be fetched may be replaced, as the build says.",
        flag="--no-fallbacks",
    ),
    Setting(
        "runtime",
        _choice(*RUNTIMES),
        None,
        f"Library that runs the networks; auto measures {AUTO_MEASURES}.",
        flag="--runtime",
    ),
    Setting(
        "precision",
        _choice("auto", "fp32", "bf16"),
        None,
        "Precision of the calculator; auto takes the fastest that keeps min_cosine.",
        flag="--precision",
    ),
    Setting(
        "min_cosine",
        _cosine,
        None,
        "Lowest cosine to fp32 that auto accepts.",
        flag="--min-cosine",
    ),
    Setting("device", _choice("cpu", "cuda"), None, "CPU, or an NVIDIA GPU.", flag="--gpu"),
    Setting(
        "gpu_index",
        _gpus,
        None,
        "Index of the host's GPU; several, like 0,1: an engine for each.",
        flag="--gpu-index",
    ),
    Setting(
        "wheels",
        _choice("cpu", *RUNTIMES[REFERENCE].gpu_wheels),
        None,
        "Set of packages; cuda12 for drivers below 580, cuda12-legacy for Pascal and Volta.",
    ),
    Setting(
        "replicas",
        whole(1, MAX_REPLICAS),
        None,
        "Number of engines that share the requests; unset: the build's.",
        flag="--replicas",
    ),
    Setting("base_image", _image, None, "Base image of the engine's image.", flag="--base-image"),
    Setting("image", _image, None, "Name of the engine's image.", flag="--image"),
    Setting(
        "push_to",
        _push_to,
        None,
        "Registry and folder from which the nodes of a cluster pull the engine's image.",
        flag="--push-to",
    ),
)
# Limits of the engine that the plan resolves.
_LIMITS: tuple[Setting, ...] = (
    Setting(
        "max_detect_size",
        whole(0, 16384),
        640,
        "Longest side in pixels that detection sees, 0 for no limit.",
        upstream="max_detect_size",
    ),
    Setting(
        "max_concurrency",
        whole(0, 1024),
        0,
        "Photographs computed at once, 0 for as many as cores.",
        upstream="uwsgi_processes",
    ),
    Setting(
        "max_wait_s",
        _seconds,
        10.0,
        "Longest wait of a request for its turn; in the full stack nearly read_timeout.",
    ),
    Setting(
        "memory_limit",
        _memory,
        None,
        "Memory limit of the engine's container; unset: what the runtime needs, none on a GPU.",
    ),
)
# Passed to the engine under the same variable when set; the engine has the defaults. Such a
# setting needs a row here and its use in the engine.
_ENGINE: tuple[Setting, ...] = (
    Setting(
        "threads", whole(1, 1024), None, "Threads of all computations together; unset: the cores."
    ),
    Setting(
        "batching",
        _choice("auto", "on", "off"),
        None,
        "Batches of faces across requests; auto: on a GPU.",
    ),
    Setting(
        "max_queue",
        whole(0, 100_000),
        None,
        "Requests that may wait; unset: 64, in the full stack 256.",
    ),
    Setting(
        "retry_after",
        _flag,
        None,
        "Whether a busy engine sends Retry-After; unset: true, in the full stack false.",
    ),
    Setting(
        "drain_s",
        _seconds,
        None,
        "Seconds to serve waiting requests at a stop; unset: 6, in the full stack 30.",
    ),
    Setting(
        "stuck_s",
        _seconds,
        None,
        "Seconds after which a computation is stuck and ends the engine; unset: 60.",
    ),
    Setting(
        "max_queue_bytes",
        whole(1, 10**12 - 1),
        None,
        "Memory for the bodies of all requests; unset: 256 MiB.",
    ),
    Setting(
        "max_memory_bytes",
        whole(2**28, 10**12 - 1),
        None,
        "Memory of the engine's process; unset: what its container, ulimit or machine allow.",
    ),
    # the minimum of these two admits the portraits that engines are checked with
    Setting(
        "max_body_bytes", whole(2**20, 10**12 - 1), None, "Largest request body; unset: 64 MiB."
    ),
    Setting(
        "max_pixels",
        whole(512 * 600, 10**12 - 1),
        None,
        "Largest picture, width x height; unset: 178956970.",
    ),
    Setting("body_timeout_s", _seconds, None, "Seconds that a body may take to arrive; unset: 30."),
    Setting("apply_exif", _flag, None, "Rotate pictures by their EXIF orientation; unset: false."),
    Setting("rate_limit", _rate, None, "Photographs a second for each client; unset: no limit."),
    Setting(
        "rate_burst",
        whole(1, 100_000),
        None,
        "Photographs at once for each client; unset: one second of rate_limit.",
    ),
)
_KEYS: tuple[Setting, ...] = (
    Setting(
        "api_keys",
        _api_keys,
        None,
        "API keys that the engine accepts; unset: no key is required.",
        secret=True,
    ),
    Setting("api_keys_file", _text, None, "File with these keys, one a line."),
)
_MODELS: tuple[Setting, ...] = (
    Setting(
        "accept_licence",
        _names,
        None,
        "Models whose terms you accept, so that they may be fetched; all: every model.",
        flag="--accept-licence",
    ),
)
_INSTANCE: tuple[Setting, ...] = (
    Setting("instance", _instance, None, "Name of the instance.", flag="--instance"),
    Setting(
        "launcher",
        _choice("auto", "compose", "swarm", "process"),
        "auto",
        "How the instance runs: Docker Compose, Docker Swarm, or a local process.",
        flag="--launcher",
    ),
    Setting(
        "publish",
        _choice("auto", "host", "ingress"),
        "auto",
        "How Swarm publishes ports: on each node (host), on the ingress network, or there if the "
        "kernel has IPVS (auto).",
    ),
    Setting(
        "services",
        _choice("full", "core"),
        "full",
        "All five services, or the engine alone.",
        flag="--services",
    ),
    Setting("bind", _address, "127.0.0.1", "Address the ports bind to.", flag="--bind"),
    Setting(
        "port",
        _port,
        None,
        "Host port of the web UI, or of the engine alone; unset: 8000 or 3000.",
        flag="--port",
    ),
    Setting(
        "core_port", _port, 3000, "Host port of the engine beside the web UI.", flag="--core-port"
    ),
    Setting(
        "data",
        _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", "the name of an instance or a volume"),
        None,
        "Instance or volume whose data to run on; unset: a volume of the instance's own.",
        flag="--data",
    ),
    Setting("tls_cert", _text, None, "Certificate in PEM for TLS at the UI's port.", flag="--tls"),
    Setting("tls_key", _text, None, "Key of this certificate.", flag="--tls"),
    Setting(
        "cpus",
        _cpus,
        "auto",
        "CPUs of each engine's container, like 1.5; auto: an equal share of several; none.",
    ),
    Setting(
        "api_replicas",
        whole(1, MAX_APIS),
        1,
        "Number of api processes; more than one needs allow_several_apis.",
    ),
    Setting(
        "allow_several_apis",
        _flag,
        "false",
        "Whether several api processes may run, which drift apart after their database restarts.",
        flag="--several-apis",
    ),
    Setting("env_file", _text, None, "An `.env` file of upstream to read values from."),
)
_DATABASE: tuple[Setting, ...] = (
    Setting(
        "database_url",
        _database_url,
        None,
        "A PostgreSQL elsewhere: postgresql://USER:PASSWORD@HOST/NAME; unset: one of its own.",
        flag="--database",
        secret=True,
    ),
    Setting("database_url_file", _text, None, "File with this address."),
)
# The rest of the stack; the templates get each setting that has a default and is not secret.
_STACK: tuple[Setting, ...] = (
    Setting("registry", _registry, "exadel/", "Prefix of the stack's images.", upstream="registry"),
    Setting("admin_version", _tag, "1.2.0", "Tag of the admin image.", upstream="ADMIN_VERSION"),
    Setting("api_version", _tag, "1.2.0", "Tag of the api image.", upstream="API_VERSION"),
    Setting("fe_version", _tag, "1.2.0", "Tag of the UI image.", upstream="FE_VERSION"),
    Setting(
        "postgres_version", _tag, "1.2.0", "Tag of the database image.", upstream="POSTGRES_VERSION"
    ),
    Setting("admin_image", _image, None, "Full name of the admin image."),
    Setting("api_image", _image, None, "Full name of the api image."),
    Setting("fe_image", _image, None, "Full name of the UI image."),
    Setting("postgres_image", _image, None, "Full name of the database image."),
    Setting(
        "postgres_user", _identifier, "postgres", "Database user.", upstream="postgres_username"
    ),
    Setting(
        "postgres_password",
        _text,
        None,
        "Database password; unset: generated once.",
        upstream="postgres_password",
        secret=True,
    ),
    Setting("postgres_db", _identifier, "frs", "Database name.", upstream="postgres_db"),
    Setting(
        "postgres_host",
        _database_host,
        "compreface-postgres-db",
        "Host name of the database.",
        upstream="postgres_domain",
    ),
    Setting(
        "postgres_port", whole(1, 65535), 5432, "Port of the database.", upstream="postgres_port"
    ),
    Setting(
        "postgres_sslmode",
        _choice(*SSL_MODES),
        SSL_MODES[1],
        "TLS to a database elsewhere, as libpq names it.",
    ),
    Setting(
        "postgres_sslrootcert",
        _text,
        "",
        "Certificate authority in PEM that its certificate is checked with.",
    ),
    Setting("email_host", _text, "smtp.gmail.com", "Mail server.", upstream="email_host"),
    Setting("email_username", _text, "", "Mail account.", upstream="email_username"),
    Setting("email_from", _text, "", "Sender address of mails.", upstream="email_from"),
    Setting(
        "email_password",
        _text,
        "",
        "Password of the mail account.",
        upstream="email_password",
        secret=True,
    ),
    Setting(
        "enable_email_server",
        _flag,
        "false",
        "Whether users are verified by mail.",
        upstream="enable_email_server",
    ),
    Setting(
        "save_images_to_db",
        _flag,
        "true",
        "Whether photographs are kept; without them the calculator cannot be changed later.",
        upstream="save_images_to_db",
    ),
    Setting(
        "api_java_options",
        _text,
        "-Xmx4g",
        "Java options of api.",
        upstream="compreface_api_java_options",
    ),
    Setting(
        "admin_java_options",
        _text,
        "-Xmx1g",
        "Java options of admin.",
        upstream="compreface_admin_java_options",
    ),
    Setting(
        "open_routes",
        _flag,
        "false",
        "Whether the UI's port serves /core/, /api/v1/migrate and CompreFace's public demo keys.",
    ),
    Setting("max_file_size", _size, "5M", "Largest upload.", upstream="max_file_size"),
    Setting("max_request_size", _size, "10M", "Largest request.", upstream="max_request_size"),
    Setting(
        "connection_timeout",
        whole(1, 86_400_000),
        10000,
        "Milliseconds to connect to the engine.",
        upstream="connection_timeout",
    ),
    Setting(
        "read_timeout",
        whole(1, 86_400_000),
        60000,
        "Milliseconds to wait for the engine's answer.",
        upstream="read_timeout",
    ),
)
TABLE: tuple[Setting, ...] = (
    *BUILD,
    *_LIMITS,
    *_ENGINE,
    *_KEYS,
    *_MODELS,
    *_INSTANCE,
    *_DATABASE,
    *_STACK,
)
PASSED_ON: tuple[str, ...] = tuple(row.key for row in _ENGINE)
STACK: tuple[str, ...] = tuple(
    row.key for row in _STACK if row.default is not None and not row.secret
)
BY_KEY: Mapping[str, Setting] = {row.key: row for row in TABLE}

# Variables of `cf` that are not settings, and those that only the engine or the Makefile reads.
CF_VARIABLES = frozenset({"CF_DEBUG", "CF_MODELS_MIRROR", "CF_REGISTRY_MIRROR"})
OTHER_VARIABLES = frozenset(
    "CF_HOST CF_MODELS_DIR CF_CHOICES_DIR CF_SHARED "
    "CF_TENSORFLOW_PYTHON CF_MXNET_PYTHON CF_TORCH_PYTHON CF_KUBERNETES_PYTHON".split()
)

# Keys of upstream's `.env` that become part of another setting, or have no effect here, and why.
TRANSLATED: Mapping[str, str] = {
    "uwsgi_processes": "max_concurrency is uwsgi_processes times uwsgi_threads",
    "uwsgi_threads": "max_concurrency is uwsgi_processes times uwsgi_threads",
}
WITHOUT_EFFECT: Mapping[str, str] = {
    "CORE_VERSION": "the engine is built here; the setting image names its image",
    "ND4J_CLASSIFIER": "it chooses a library when the Java images are built",
}

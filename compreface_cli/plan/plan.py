"""`Plan`: a build with all its settings resolved, independent of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from compreface_cli import plugin_table
from compreface_cli.config.settings_table import BY_KEY, MAX_BODY_BYTES, MAX_QUEUE_BYTES, PASSED_ON
from compreface_cli.errors import ConfigurationError
from compreface_cli.models.entry import Border, Model, ModelFile
from compreface_cli.plan import fallbacks, jdbc
from compreface_cli.plan.data import Data
from compreface_cli.plan.fallbacks import Fallback, Replaced
from compreface_cli.plan.image_name import image_name
from compreface_cli.plan.models import of_plugins
from compreface_cli.runtimes import BF16, BF16_IS_FOR, RUNTIMES, bf16_fault, joined

if TYPE_CHECKING:
    from compreface_cli.builds.builds import BuildFile
    from compreface_cli.config.settings import Settings

__all__ = [
    "Model",
    "ModelFile",
    "Plan",
    "resolve",
    "with_launcher",
]

Device = Literal["cpu", "cuda"]
LauncherKind = Literal["auto", "compose", "swarm", "process"]
Publish = Literal["auto", "host", "ingress"]
Precision = Literal["auto", "fp32", "bf16"]
Services = Literal["full", "core"]
Port = int | Literal["auto"]

DATABASE = "compreface-postgres-db"  # the service of the instance's own PostgreSQL
UI_PORT = 8000
ENGINE_PORT = 3000
# Behind the api a refusal is an error that people see, so the engine lets all wait that the api can
# send: its Tomcat has 200 threads. The api gives up after `read_timeout` and tries a 503 with
# `Retry-After` again at once (`MAX_ATTEMPTS`), so the engine answers before, and without it.
MAX_QUEUE_BEHIND_API = 256
DRAIN_BEHIND_API_S = 30
_MARGIN_S = 10.0  # for the upload, and for the computation once it is its turn
_OF_THE_STACK = "the full stack"
KEYS_WAY_OUT = (
    "Start the engine alone (--services core), or leave the keys out: beside the full stack the "
    "engine is on loopback only."
)
REPLICAS_WAY_OUT = (
    "Start the full stack (--launcher compose --services full), or one engine (--replicas 1)."
)
TLS_WAY_OUT = "Start the full stack with --tls CERT KEY, or leave both settings out."


@dataclass(frozen=True, slots=True)
class Plan:
    """All values that `render`, the checks and a launcher need."""

    # the build
    build: str
    summary: str
    detector: str
    calculator: str
    plugins: tuple[str, ...]
    runtime: str
    precision: Precision
    min_cosine: float  # to fp32: what `auto` may not fall below
    device: Device
    gpu_index: int  # the first GPU; -1: CPU
    wheels: str  # the engine's set of requirements
    base_image: str
    models: tuple[Model, ...]
    # limits of the engine
    max_detect_size: int
    max_concurrency: int  # 0: as many as there are cores
    max_wait_s: float
    memory_limit: str  # of its container, as Compose takes it; "none": there is none
    # the instance
    instance: str
    launcher: LauncherKind
    services: Services
    bind: str
    port: Port  # of the UI with the full stack, of the engine otherwise
    core_port: Port  # the engine's own loopback port beside the full stack
    image: str  # repository:tag of the core image
    push_to: str = ""  # "REGISTRY/FOLDER" that the nodes of a cluster pull the image from
    publish: Publish = "auto"  # how Swarm publishes ports; "auto": as the kernel allows
    replicas: int = 1  # engines under the one name, which share the requests
    further_gpus: tuple[int, ...] = ()  # indexes of GPUs beside the first, an engine or more each
    cpus: str = "auto"  # of each engine; "auto": an equal share of several, "none": no limit
    api_replicas: int = 1  # api processes of the full stack; `checks.apis` refuses more than one
    allow_several_apis: bool = False  # the user insists
    # absolute paths of a certificate and its key for the UI's port; "": no TLS
    tls_cert: str = ""
    tls_key: str = ""
    # the rest of the stack: upstream's `.env` values by our setting names (registry, postgres_user,
    # ...), and the whole names of its images (postgres_image, admin_image, api_image, fe_image)
    stack: Mapping[str, str] = field(default_factory=dict)
    # further limits of the engine that somebody has set, by their variables
    engine_limits: Mapping[str, str] = field(default_factory=dict)
    # who set each value: flag, environment, project file, env file, user file, build, default
    origins: Mapping[str, str] = field(default_factory=dict)
    # passwords that the user has set; others are made once, when the project is written
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    # what may take the place of a plugin whose model cannot be fetched, and what has taken it
    fallbacks: tuple[Fallback, ...] = ()
    replaced: tuple[Replaced, ...] = ()
    # the labels of an image describe the build: there is no build file, and no model is needed here
    image_alone: bool = False
    # `facts.licence` of the build, which applies to models that are not in the catalogue
    licence: Mapping[str, str] = field(default_factory=dict)
    accept_licence: tuple[str, ...] = ()  # models whose terms the user accepts, or "all"
    data: Data | None = None  # an existing volume; None: the instance has one of its own

    @property
    def api_keys(self) -> str:
        """The API keys that the engine accepts, comma-separated; empty: it requires none."""
        return self.secrets.get("api_keys", "")

    @property
    def key(self) -> str:
        """The API key that `cf` itself sends to the engine."""
        return self.api_keys.partition(",")[0]

    @property
    def border(self) -> Border | None:
        """The calculator's: what the build states of its model, else what the catalogue has."""
        from compreface_cli.models import catalogue

        name = plugin_table.model_of(self.calculator)
        own = next((model.border for model in self.models if model.name == name), None)
        return own or catalogue.border(self.calculator)

    def keys_fault(self) -> str:
        """Why the API keys cannot be combined with the services; empty when they can."""
        if not self.api_keys or self.services == "core" or self.launcher == "process":
            return ""
        return (
            "api_keys cannot be combined with the full stack: CompreFace's api service sends no "
            "key to the engine"
        )

    def replicas_fault(self) -> str:
        """Why several engines cannot be had as they are asked for; empty when they can."""
        if self.replicas == 1:
            return ""
        if self.launcher == "process":
            return "a local process is one engine, which uses all cores"
        if self.launcher in ("auto", "compose") and self.services == "core":
            return "engines alone share no port: nginx, which is in front of them, is in the stack"
        return ""

    def tls_fault(self) -> str:
        """Why TLS cannot be had as it is asked for; empty when it can, or is not asked for."""
        if not self.tls_cert and not self.tls_key:
            return ""
        if not (self.tls_cert and self.tls_key):
            lacks = "tls_key" if self.tls_cert else "tls_cert"
            return f"TLS needs a certificate and its key, and {lacks} is not set"
        if self.services == "core" or self.launcher == "process":
            return "TLS is for the UI's port, and only the engine is to run"
        return ""

    @property
    def gpus(self) -> tuple[int, ...]:
        """The indexes of its GPUs; (-1,) on a CPU."""
        return (self.gpu_index, *self.further_gpus)

    @property
    def image_given(self) -> bool:
        """Whether the user named the engine's image, which `up` then uses without a build."""
        return self.origins.get("image", "default") != "default"

    @property
    def in_containers(self) -> bool:
        """Whether its services are containers, and not a process on this machine."""
        return self.launcher in ("compose", "swarm")

    @property
    def project(self) -> str:
        """The Compose project's name."""
        return f"cf-{self.instance}"

    @property
    def owns_database(self) -> bool:
        """Whether the instance runs a PostgreSQL of its own, with a volume."""
        return self.services == "full" and self.stack.get("postgres_host", DATABASE) == DATABASE

    @property
    def jdbc(self) -> str:
        """The database's address for the Java services, without user and password."""
        return jdbc.address(self.stack, own=self.stack["postgres_host"] == DATABASE)

    @property
    def database_root_cert(self) -> str:
        """The file on this host that the Java services need at `jdbc.ROOT_CERT`; "": none."""
        return "" if self.owns_database else self.stack.get("postgres_sslrootcert", "")

    @property
    def volume(self) -> str:
        """The volume of its own PostgreSQL; "" with a database elsewhere."""
        if self.services == "full" and not self.owns_database:
            return ""
        return self.data.volume if self.data else f"{self.project}_postgres-data"

    @property
    def stack_images(self) -> dict[str, str]:
        """Service to image of the services beside the engine; empty when it runs alone."""
        if self.services != "full" or self.launcher == "process":
            return {}
        short = {"postgres-db": "postgres", "admin": "admin", "api": "api", "fe": "fe"}
        if not self.owns_database:
            del short["postgres-db"]
        return {f"compreface-{name}": self.stack[f"{key}_image"] for name, key in short.items()}

    def image_environment(self) -> dict[str, str]:
        """The engine's variables for its plugins and runtime, which are set in its image."""
        return {
            "FACE_DETECTION_PLUGIN": self.detector,
            "CALCULATION_PLUGIN": self.calculator,
            "EXTRA_PLUGINS": ",".join(self.plugins) or ",",
            "CF_RUNTIME": self.runtime,
            "CF_PRECISION": self.precision,
            "CF_MIN_COSINE": f"{self.min_cosine:g}",
            "GPU_IDX": str(self.gpu_index),
        }

    def limits_environment(self) -> dict[str, str]:
        """The engine's variables for its limits, which are set at each start, as upstream does."""
        return {
            "IMG_LENGTH_LIMIT": str(self.max_detect_size),
            "CF_MAX_WAIT_S": f"{self.max_wait_s:g}",
            **({"CF_MAX_CONCURRENCY": str(self.max_concurrency)} if self.max_concurrency else {}),
            **self.engine_limits,
        }

    def engine_environment(self) -> dict[str, str]:
        """The engine's environment variables for this plan, without paths and ports."""
        return {**self.image_environment(), **self.limits_environment()}

    def as_dict(self) -> dict[str, Any]:
        """The plan as a JSON document, with the names of the secrets but not their values."""
        document = asdict(self)
        document["secrets"] = sorted(self.secrets)
        if self.further_gpus:  # as the flag takes them
            document["gpu_index"] = ",".join(map(str, self.gpus))
        document["fallbacks"] = {each.plugin: each.instead for each in self.fallbacks}
        return {**document, "project": self.project, "volume": self.volume}


def resolve(
    build: BuildFile,
    settings: Settings,
    *,
    catalogue: Mapping[str, Model] | None = None,
) -> Plan:
    """Settle every value of the build under these settings; the same input gives the same plan.

    Raises ConfigurationError for an unknown plugin or model, and for a runtime that does not
    fit. `catalogue` is for tests; without it the bundled one is read.
    """
    spec = build.spec
    # A file that is found by no name: `cf up` takes it by its path only.
    origins = {"build": str(build.path)} if build.origin == "path" else {}
    written = spec.model_fields_set | spec.limits.model_fields_set

    def pick(key: str, of_build: Any = None) -> Any:
        given = settings.given(key)
        if given is not None:
            origins[key] = given.where
            return given.value
        origins[key] = f"build {spec.name}" if key in written else "default"
        return settings.get(key) if of_build is None else of_build

    detector = pick("detector", spec.detector)
    calculator = pick("calculator", spec.calculator)
    plugins = tuple(pick("plugins", tuple(spec.plugins)))
    runtime = pick("runtime", spec.runtime)
    device: Device = pick("device", spec.device)
    chosen = settings.given("gpu_index")
    if chosen and chosen.layer == "flag" and not settings.given("device"):
        device, origins["device"] = "cuda", chosen.where
    origins["gpu_index"] = origins["wheels"] = origins["device"]
    gpus: tuple[int, ...] = (-1,)
    if device == "cuda":
        index = pick("gpu_index", spec.gpu_index)
        gpus = index if isinstance(index, tuple) else (index,)
    origins["further_gpus"] = origins["gpu_index"]
    row = RUNTIMES[runtime]
    wheels = row.wheels
    if device == "cuda":
        if not row.gpu_wheels:
            raise ConfigurationError(
                f"runtime {runtime} is for the CPU in this version, and the build is for a GPU",
                hint="use runtime: onnxruntime with a GPU, or leave the GPU out",
            )
        wheels = pick("wheels") or row.gpu_wheels[0]
        if wheels == "cpu":
            raise ConfigurationError(
                "wheels: cpu does not fit a build for a GPU",
                hint=f"leave wheels out, or choose {joined(row.gpu_wheels, 'or')}",
            )
    precision: Precision = pick("precision", spec.precision)
    other = bf16_fault(runtime, device) if precision == "bf16" else ""
    if other:
        key = other.partition(":")[0]
        raise ConfigurationError(
            f"precision: bf16 ({origins['precision']}) does not fit {other} ({origins[key]}): "
            f"bf16 is {BF16_IS_FOR}",
            hint=f"choose runtime: {BF16[-1]} on a CPU, or leave precision out"
            " (CF_PRECISION, --precision or the build's precision)",
        )
    _known("detector", settings, detector)
    _known("calculator", settings, calculator)
    _known("plugins", settings, *plugins)

    def with_files(models: tuple[Model, ...]) -> tuple[Model, ...]:
        return tuple(replace(model, keep_source=model.format == row.format) for model in models)

    models = with_files(of_plugins(build, (detector, calculator, *plugins), catalogue))
    # Whoever names the plugins wants these; so does a named image, which has them already.
    own = not settings.given("plugins") and not settings.given("image")
    may_fall_back = pick("fallbacks") == "true" and own
    declared = fallbacks.of_build(build, catalogue) if may_fall_back else ()

    stated = spec.facts.licence
    _room_for_a_body(settings)
    launcher: LauncherKind = pick("launcher")
    services: Services = "core" if launcher == "process" else pick("services")
    core_port: Port = pick("core_port")
    port = _user_port(settings, launcher, services, pick("port"), core_port, origins)
    instance = pick("instance", spec.name)
    plan = Plan(
        build=spec.name,
        summary=spec.summary,
        detector=detector,
        calculator=calculator,
        plugins=plugins,
        runtime=runtime,
        precision=precision,
        min_cosine=float(pick("min_cosine", spec.min_cosine)),
        device=device,
        gpu_index=gpus[0],
        further_gpus=gpus[1:],
        wheels=wheels,
        base_image=pick("base_image", spec.base_image) or row.base_image,
        models=models,
        max_detect_size=pick("max_detect_size", spec.limits.max_detect_size),
        max_concurrency=pick("max_concurrency", spec.limits.max_concurrency),
        max_wait_s=float(pick("max_wait_s", spec.limits.max_wait_s)),
        # On a GPU the host's memory that CUDA takes was never measured.
        memory_limit=pick("memory_limit") or (row.memory_limit if device == "cpu" else "none"),
        instance=instance,
        launcher=launcher,
        services=services,
        bind=pick("bind"),
        publish=pick("publish"),
        port=port,
        core_port=core_port,
        image=pick("image") or "",
        push_to=pick("push_to") or "",
        replicas=_engines(pick("replicas", spec.replicas), gpus, origins),
        cpus=pick("cpus"),
        api_replicas=pick("api_replicas"),
        allow_several_apis=pick("allow_several_apis") == "true",
        tls_cert=pick("tls_cert") or "",
        tls_key=pick("tls_key") or "",
        stack=_stack(settings, origins),
        origins=origins,
        engine_limits={
            BY_KEY[key].env: _number(pick(key)) for key in PASSED_ON if settings.given(key)
        },
        secrets={
            key: settings.get(key)
            for key in ("postgres_password", "email_password", "api_keys")
            if settings.given(key)
        },
        fallbacks=tuple(replace(each, models=with_files(each.models)) for each in declared),
        licence=stated.model_dump(exclude_none=True) if stated else {},
        accept_licence=pick("accept_licence") or (),
        image_alone=build.origin == "image",
    )
    if fault := plan.tls_fault():
        raise ConfigurationError(fault, hint=TLS_WAY_OUT)
    plan = _behind_the_api(plan) if services == "full" else plan
    return plan if plan.image else replace(plan, image=image_name(plan))


def _engines(replicas: int, gpus: tuple[int, ...], origins: dict[str, str]) -> int:
    """The number of engines: one for each GPU unless given; raises ConfigurationError."""
    if len(gpus) > 1 and origins["replicas"] == "default":
        origins["replicas"] = origins["gpu_index"]
        return len(gpus)
    if replicas % len(gpus):
        raise ConfigurationError(
            f"replicas: {replicas} ({origins['replicas']}) engines cannot be spread evenly over "
            f"{len(gpus)} GPUs ({origins['gpu_index']})",
            hint=f"Leave replicas out, or give a multiple of {len(gpus)}.",
        )
    return replicas


def with_launcher(plan: Plan, launcher: Literal["compose", "swarm", "process"]) -> Plan:
    """The plan with a decided launcher; a process is the engine alone, on the engine's port."""
    if launcher != "process" or plan.launcher == launcher:
        return replace(plan, launcher=launcher)
    asked = plan.origins.get("port", "default") != "default"
    port = plan.port if asked or plan.services == "core" else plan.core_port
    return replace(_alone(plan), launcher=launcher, services="core", port=port)


def _behind_the_api(plan: Plan) -> Plan:
    """The plan with a queue for all requests that the api can send, unless the user set one."""
    origins, limits = dict(plan.origins), dict(plan.engine_limits)
    for key, value in (
        ("max_queue", str(MAX_QUEUE_BEHIND_API)),
        ("retry_after", "false"),
        ("drain_s", str(DRAIN_BEHIND_API_S)),
    ):
        if f"CF_{key.upper()}" not in limits:
            limits[f"CF_{key.upper()}"], origins[key] = value, _OF_THE_STACK
    wait_s = plan.max_wait_s
    if origins["max_wait_s"] == "default":
        gives_up_s = int(plan.stack["read_timeout"]) / 1000
        wait_s = gives_up_s - min(_MARGIN_S, gives_up_s / 5)
        origins["max_wait_s"] = f"{_OF_THE_STACK}, from read_timeout"
    return replace(plan, max_wait_s=wait_s, engine_limits=limits, origins=origins)


def _alone(plan: Plan) -> Plan:
    """The plan with the engine's default queue again, unless the user set another."""
    derived = {key for key, origin in plan.origins.items() if origin.startswith(_OF_THE_STACK)}
    origins = {key: origin for key, origin in plan.origins.items() if key not in derived}
    limits = dict(plan.engine_limits)
    for key in derived:
        limits.pop(f"CF_{key.upper()}", None)
    wait_s = BY_KEY["max_wait_s"].default if "max_wait_s" in derived else plan.max_wait_s
    origins.setdefault("max_wait_s", "default")
    return replace(plan, max_wait_s=wait_s, engine_limits=limits, origins=origins)


def _user_port(
    settings: Settings,
    launcher: LauncherKind,
    services: Services,
    port: Port | None,
    core_port: Port,
    origins: dict[str, str],
) -> Port:
    """The published port: the UI's with the full stack, else the engine's."""
    if port is not None:
        return port
    if services == "full" and launcher != "process":
        return UI_PORT
    origins["port"] = settings.origin("core_port")
    return core_port


def _room_for_a_body(settings: Settings) -> None:
    """As the engine asks: what waits may hold one body at least."""
    body = settings.get("max_body_bytes") or MAX_BODY_BYTES
    total = settings.get("max_queue_bytes") or MAX_QUEUE_BYTES
    if total < body:
        raise ConfigurationError(
            f"max_queue_bytes ({total}, {settings.origin('max_queue_bytes')}) is less than "
            f"max_body_bytes ({body}, {settings.origin('max_body_bytes')}): too little for one",
            hint="Raise the first or lower the second.",
        )


def _known(key: str, settings: Settings, *plugins: str) -> None:
    """Raises ConfigurationError for a plugin that cannot be the value of that key."""
    roles: Mapping[str, plugin_table.Role] = {"detector": "detector", "calculator": "calculator"}
    role = roles.get(key, "analyzer")
    given = settings.given(key)
    where = f"{given.where}: " if given else ""
    for plugin in plugins:
        fault = plugin_table.fault(plugin, role)
        if fault is not None:
            these = ", ".join(plugin_table.shown(role))
            raise ConfigurationError(where + fault, hint=f"these run: {these}")
        if plugins.count(plugin) > 1 and given and given.layer == "flag":  # as in a build file
            raise ConfigurationError(f"{where}{plugin} is listed twice")


def _stack(settings: Settings, origins: dict[str, str]) -> dict[str, str]:
    from compreface_cli.config.settings import STACK

    stack = {key: str(settings.get(key)) for key in STACK}
    names = {"admin": "admin", "api": "api", "fe": "fe", "postgres": "postgres-db"}
    for key, name in names.items():
        default = f"{stack['registry']}compreface-{name}:{stack[f'{key}_version']}"
        stack[f"{key}_image"] = settings.get(f"{key}_image") or default
    origins.update({key: settings.origin(key) for key in stack})
    return stack


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

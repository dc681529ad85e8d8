"""The choices and settings of an install of upstream's, as settings of `cf`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compreface_cli.builds import builds
from compreface_cli.config.settings_table import BY_KEY, BadValue
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts.upstream import ADMIN, API, CORE, DATABASE, UI, Install, Member

# Suffix of the tags that upstream published its engine under -> build of `cf`.
_TAGS: Mapping[str, str] = {
    "": "facenet",
    "-facenet": "facenet",
    "-mobilenet": "mobilenet",
    "-mobilenet-gpu": "mobilenet-gpu",
    "-arcface-r100": "arcface-r100",
    "-arcface-r100-gpu": "arcface-r100-gpu",
}
_TAG = re.compile(r"(?:\d+\.\d+\.\d+|latest)(.*)")
_JDBC = re.compile(r"jdbc:postgresql://([^:/]+)(?::(\d+))?/([^?]+)")
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - what upstream's file publishes its port on
_SECRET = ("postgres_password", "email_password")
# (service, variable, setting)
_VARIABLES = (
    (DATABASE, "POSTGRES_USER", "postgres_user"),
    (DATABASE, "POSTGRES_DB", "postgres_db"),
    # What the services log in with is right; a volume ignores a password that was changed later.
    (DATABASE, "POSTGRES_PASSWORD", "postgres_password"),
    (API, "POSTGRES_USER", "postgres_user"),
    (API, "POSTGRES_PASSWORD", "postgres_password"),
    (ADMIN, "ENABLE_EMAIL_SERVER", "enable_email_server"),
    (ADMIN, "EMAIL_HOST", "email_host"),
    (ADMIN, "EMAIL_USERNAME", "email_username"),
    (ADMIN, "EMAIL_FROM", "email_from"),
    (ADMIN, "EMAIL_PASSWORD", "email_password"),
    (ADMIN, "ADMIN_JAVA_OPTS", "admin_java_options"),
    (API, "API_JAVA_OPTS", "api_java_options"),
    (API, "SAVE_IMAGES_TO_DB", "save_images_to_db"),
    (API, "MAX_FILE_SIZE", "max_file_size"),
    (API, "MAX_REQUEST_SIZE", "max_request_size"),
    (API, "CONNECTION_TIMEOUT", "connection_timeout"),
    (API, "READ_TIMEOUT", "read_timeout"),
    (CORE, "IMG_LENGTH_LIMIT", "max_detect_size"),
)
_IMAGES = (
    (DATABASE, "postgres_image"),
    (ADMIN, "admin_image"),
    (API, "api_image"),
    (UI, "fe_image"),
)


def settings_of(install: Install) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The settings of the install by our keys, the secret ones, and notes on what is left out.

    Raises ConfigurationError for a database that is not the install's own, and for values that no
    setting can have.
    """
    values: dict[str, Any] = {"services": "full", "launcher": "compose", "core_port": "auto"}
    secrets = {} if install.members else {"postgres_password": "postgres"}  # upstream's default
    _refuse_external(install)
    for service, variable, key in _VARIABLES:
        member = install.members.get(service)
        raw = member.environment.get(variable, "") if member else ""
        if not raw:
            continue
        parsed = _parsed(key, raw, f"{variable} of {service}")
        if key in _SECRET:
            secrets[key] = parsed
        else:
            values[key] = parsed
    for service, key in _IMAGES:
        if service in install.members:
            image = install.members[service].image
            values[key] = _parsed(key, image, f"the image of {service}")
    values |= _at_once(install.members.get(CORE))
    values |= _address(install)
    return values, secrets, list(_notes(install))


def build_of(install: Install, calculators: Mapping[str, int]) -> tuple[str, str]:
    """The build of the install's engine, and in words what says so.

    `calculators`: faces of each calculator in the database. Raises ConfigurationError when nothing
    tells.
    """
    core = install.members.get(CORE)
    if core is not None:
        name, _, tag = core.image.rpartition("/")[2].partition(":")
        match = _TAG.fullmatch(tag or "latest")
        if name == CORE and match and match[1] in _TAGS:
            return _TAGS[match[1]], f"the engine's image is {core.image}"
        calculator = core.environment.get("CALCULATION_PLUGIN", "")
        detector = core.environment.get("FACE_DETECTION_PLUGIN", "")
        gpu = core.environment.get("GPU_IDX", "-1") not in ("", "-1")
        if calculator and (build := fitting(calculator, detector, gpu=gpu)):
            return build, f"the engine's image computes {calculator}"
    for calculator in sorted(calculators, key=lambda each: -calculators[each]):
        if build := fitting(calculator):
            return build, f"the stored faces are of {calculator}"
    said = ", ".join(calculators) or (core.image if core else "")
    raise ConfigurationError(
        "which build computes the faces of this install cannot be told"
        + (f" ({said})" if said else ""),
        hint="Name it: --build BUILD; `cf list-builds` shows all.",
    )


def fitting(calculator: str, detector: str = "", *, gpu: bool = False) -> str:
    """The build of `cf` with that calculator, and the detector if there is one; "" without."""
    from compreface_cli.plugin_table import same_calculator

    matching = []
    for listed in builds.listed():
        own = listed.data.get("calculator")
        if listed.origin == "bundled" and own and same_calculator(str(own), calculator):
            matching.append(
                (
                    str(listed.data.get("detector")) != detector,
                    (listed.data.get("device") == "cuda") != gpu,
                    listed.name,
                )
            )
    return min(matching)[2] if matching else ""


def _refuse_external(install: Install) -> None:
    inside = {DATABASE, *(m.name for m in install.members.values() if m.service == DATABASE)}
    for service in (API, ADMIN):
        member = install.members.get(service)
        url = member.environment.get("POSTGRES_URL", "") if member else ""
        match = _JDBC.match(url)
        if url and (match is None or match[1] not in inside):
            host = match[1] if match else "an address that cf cannot read"
            raise ConfigurationError(
                f"{service} uses a database outside of the install: {host} (postgres_domain); its "
                f"volume {install.volume} does not have the faces",
                hint="cf adopts a database in a volume. An instance on an external one: "
                f"CF_POSTGRES_HOST={host} CF_POSTGRES_PASSWORD=... cf up BUILD",
                details={"service": service, "host": host},
            )


def _at_once(core: Member | None) -> dict[str, int]:
    """`max_concurrency`: upstream's processes times threads."""
    total, said = 1, False
    for variable in ("UWSGI_PROCESSES", "UWSGI_THREADS"):
        raw = core.environment.get(variable, "") if core else ""
        if raw:
            said = True
            total *= int(_parsed("max_concurrency", raw, f"{variable} of {CORE}")) or 1
    return {"max_concurrency": total} if said else {}


def _address(install: Install) -> dict[str, Any]:
    """Address and port of the UI; upstream's where the install has no container and no file."""
    ui = install.members.get(UI)
    if ui is None:
        return {"bind": _EVERYWHERE, "port": 8000}
    published = sorted(
        (":" in port.address, port.port, port.address) for port in ui.ports if port.inside == 80
    )
    if not published:
        return {"port": "auto"}
    _, number, address = published[0]
    return {"bind": address or _EVERYWHERE, "port": number}


def _notes(install: Install) -> Iterator[str]:
    for member in install.members.values():
        for port in member.ports:
            if (member.service, port.inside) != (UI, 80):
                yield (
                    f"{member.service} was published at port {port.port} of this host, and will "
                    "not be"
                )
    ui = install.members.get(UI)
    if ui is not None and not any(port.inside == 80 for port in ui.ports):
        yield "the UI was not published on this host; it will be, on 127.0.0.1"
    if install.others:
        yield (
            f"further services of the project are left as they are: {', '.join(install.others)}; "
            "they do not reach CompreFace by its service names any more"
        )


def _parsed(key: str, raw: str, where: str) -> Any:
    row = BY_KEY[key]
    try:
        return row.parse(raw)
    except BadValue as error:
        shown = "" if row.secret else f", not {raw!r}"
        raise ConfigurationError(
            f"{where} cannot become the setting {key}: it {error}{shown}",
            hint=f"Give another value: {row.env}=...",
        ) from error

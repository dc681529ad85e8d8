"""The plan of another build for an instance, or of its own build again, with its present settings.

What `cf up` was given lives in the instance's record. A command that changes one thing of an
instance takes the rest from there, whatever this shell's environment says by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compreface_cli.config import settings
from compreface_cli.config.settings import Layer, Settings, Value
from compreface_cli.config.settings_table import BUILD, BY_KEY, PASSED_ON, STACK, TABLE
from compreface_cli.deploy import existing_data, image_alone
from compreface_cli.instance.records import Record
from compreface_cli.plan import data as existing
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.terminal.output import Output

_OF_BUILD = frozenset(row.key for row in BUILD)
_IMAGES = ("admin_image", "api_image", "fe_image", "postgres_image")
_LAYERS: Sequence[Layer] = (
    "flag",
    "environment",
    "instance",
    "project file",
    "env file",
    "user file",
)


def with_build(record: Record, build: str, *, accept_licence: Sequence[str] | None = None) -> Plan:
    """The plan of that build (name or path) with the settings of the instance.

    What decides an image (runtime, device, base image) is as `cf up BUILD` would take it here.
    Raises ConfigurationError for an unknown build or one at fault.
    """
    now = settings.resolve({"build": build, "accept_licence": accept_licence})
    values = {key: value for key, value in now.values.items() if key in _OF_BUILD}
    if licence := now.given("accept_licence"):
        values["accept_licence"] = licence
    return _on_its_data(plan_of(build, Settings(dict(_of_instance(record)) | values)), record)


def as_it_was(record: Record, out: Output) -> Plan:
    """The plan that the instance was started with. Raises as `with_build` does."""
    return with_build_of(record, record, out)


def with_build_of(record: Record, former: Record, out: Output) -> Plan:
    """The plan of the build that the record `former` had, with the settings of the instance."""
    had = former.plan
    kept = Settings({**dict(_of_instance(record)), **dict(_of_build(had))})
    if had.get("image_alone"):
        labels = image_alone.labels_of(had["image"], out)
        build = image_alone.build_of(had["image"], labels)
        plan = plan_of(build, image_alone.settings_for(kept, labels, out))
    else:
        plan = plan_of(had.get("origins", {}).get("build", former.build), kept)
    return _on_its_data(plan, record)


def _on_its_data(plan: Plan, record: Record) -> Plan:
    """The plan on the volume that the instance uses without having made it, if it does."""
    data = existing.of_record(record.plan)
    if data is None:
        return plan
    return existing.on(plan, data, existing_data.password_of(data, record.name))


def _of_instance(record: Record) -> Iterator[tuple[str, Value]]:
    """All settings of the instance but those of its build, with their origins."""
    plan = record.plan
    yield "instance", Value(record.name, "flag", "flag --instance")
    for key in ("launcher", "services", "bind", "port", "core_port"):
        yield key, _value(plan, key, plan[key])
    if plan.get("accept_licence"):
        yield "accept_licence", _value(plan, "accept_licence", tuple(plan["accept_licence"]))
    for key in ("tls_cert", "tls_key"):
        if plan.get(key):
            yield key, _value(plan, key, plan[key])
    for key in (
        "max_detect_size",
        "max_concurrency",
        "max_wait_s",
        "memory_limit",
        "cpus",
        "api_replicas",
    ):
        if _set_by_user(plan, key):
            yield key, _value(plan, key, plan[key])
    if plan.get("allow_several_apis"):
        yield "allow_several_apis", _value(plan, "allow_several_apis", "true")
    for key in PASSED_ON:
        if BY_KEY[key].env in plan["engine_limits"] and _set_by_user(plan, key):
            text = plan["engine_limits"][BY_KEY[key].env]
            yield key, _value(plan, key, BY_KEY[key].parse(text))
    for key in (*STACK, *_IMAGES):
        if key in plan["stack"]:
            yield key, _value(plan, key, plan["stack"][key])


def _of_build(plan: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """The settings that have changed the build."""
    for row in TABLE:
        if row.key in _OF_BUILD and row.key not in ("build", "fallbacks") and row.key in plan:
            if _set_by_user(plan, row.key):
                given = plan[row.key]
                kept = tuple(given) if isinstance(given, list) else given
                yield row.key, _value(plan, row.key, kept)


def _set_by_user(plan: Mapping[str, Any], key: str) -> bool:
    """Whether a layer of settings has the value, and no default, build or service stack."""
    return _layer(str(plan.get("origins", {}).get(key, "default"))) is not None


def _layer(origin: str) -> Layer | None:
    return next((layer for layer in _LAYERS if origin.startswith(layer)), None)


def _value(plan: Mapping[str, Any], key: str, value: Any) -> Value:
    origin = str(plan.get("origins", {}).get(key, "default"))
    return Value(value, _layer(origin) or "user file", origin)

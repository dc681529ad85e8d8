"""What is said before models are fetched, and of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.deploy import downloads, fetching
from compreface_cli.deploy.running import Health
from compreface_cli.errors import UnreachableError
from compreface_cli.facts import host
from compreface_cli.inspect.status import Status
from compreface_cli.instance.records import Record
from compreface_cli.models.needed import Download
from compreface_cli.models.obtain import none_of
from compreface_cli.models.sources import parse
from compreface_cli.plan import fallbacks
from compreface_cli.plan.operations import Observed, Options, operations
from compreface_cli.plan.plan import Plan
from tests.cli.test_fallbacks import AGE, EMBEDDED, GENDER, PAIR, aged, planned

Case = Callable[[Path], object]

IMAGE = parse(f"oci://docker.io/exadel/compreface-core@sha256:{'ab' * 32}/app/a.pb")
FILE = parse("https://github.com/publisher/weights/releases/download/v1/a.pt")
WHY = "could not download 22801.zip: https://publisher.example/22801.zip: the server answered 404"
PULL = "Run the command again, which resumes a partial download."


def _plan(instead: Mapping[str, str | None], **changes: Any) -> Plan:
    return planned(aged(fallbacks=dict(instead), **changes))


def _taken(plan: Plan, *models: str) -> Case:
    def case(_: Path) -> object:
        made = fallbacks.without(plan, dict.fromkeys(models, WHY))
        return fetching.warnings(made.replaced, plan)

    return case


def _status(_: Path) -> object:
    plan = fallbacks.without(planned(), {"22801": WHY, "21936": WHY})
    record = Record("plain", "plain", plan.calculator, "full", "running", "", plan=plan.as_dict())
    return Status(record, None, Health("running", (), "")).fallback_words


def _dry_run(_: Path) -> object:
    listed = operations(planned(launcher="process"), Observed(), Options())
    return [row.cause for row in listed if row.verb == "prepare model"]


def _out_of_reach(_: Path) -> object:
    plan = _plan({}, calculator="facenet.Calculator")
    error = UnreachableError("could not download m.zip", hint=PULL, details={"model": "22801"})
    return fetching._out_of_reach(error, plan)


def _no_network(_: Path) -> object:
    plan = _plan({}, calculator="facenet.Calculator")
    images = [f"docker.io/exadel/compreface-core@sha256:{digest * 32}" for digest in ("ab", "cd")]
    reasons = [
        f"could not read the manifest of image {image}: registry-1.docker.io: no connection"
        for image in images
    ]
    name = "20180402-114759"
    graph = UnreachableError(f"could not download {name}.pb: {'; '.join(reasons)}", hint=PULL)
    state = UnreachableError(f"could not download {name}.pt: https://github.com/a: no connection")
    model = plan.models[0]
    error = none_of(model, [(model, graph), (replace(model, format="pytorch"), state)])
    assert isinstance(error, UnreachableError)
    error.details["model"] = model.name
    return fetching._out_of_reach(error, plan)


def _words(*each: Download) -> Case:
    return lambda _: downloads.words(each)


def _no_room(_: Path) -> None:
    free = mock.Mock(free=300_000_000)
    with mock.patch.object(host, "disk", return_value=free):
        downloads.require_room([Download(FILE, ("a",), ("a.pt",), 652_000_000)])


ONE = Download(FILE, ("a",), ("a.pt",), 111_898_327)
SMALL = Download(FILE, ("a",), ("a.pt",), 232_589)
LAYER = Download(IMAGE, ("b", "c"), ("b.pb", "c.pb"), 540_000_000)
UNKNOWN = Download(IMAGE, ("b", "c"), ("b.pb", "c.pb"), None)

CASES: Final[Mapping[str, Case]] = {
    "downloads: one": _words(ONE),
    "downloads: a small one": _words(SMALL),
    "downloads: several": _words(ONE, LAYER),
    "downloads: files of one model": _words(ONE, SMALL),
    "downloads: not all sizes are known": _words(ONE, UNKNOWN),
    "downloads: no size is known": _words(UNKNOWN, UNKNOWN),
    "downloads: no room": _no_room,
    "fallback: another plugin": _taken(planned(), "22801"),
    "fallback: none": _taken(_plan({AGE: None}), "22801"),
    "fallback: of two plugins with one model": _taken(
        _plan(dict(zip(PAIR, EMBEDDED.values(), strict=True)), plugins=list(PAIR)), "genderage_v1"
    ),
    "fallback: of two models": _taken(_plan({AGE: EMBEDDED[AGE], GENDER: None}), "22801", "21936"),
    "fallback: in the status": _status,
    "fallback: before it is tried": _dry_run,
    "fallback: none for the model": _out_of_reach,
    "fallback: none, and no network": _no_network,
}

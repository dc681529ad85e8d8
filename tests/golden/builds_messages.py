"""What is refused of build files, settings, plans and the folders of a user."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.builds import builds, spec
from compreface_cli.config import paths, settings, textfile
from compreface_cli.config.yamlfile import parse, read
from compreface_cli.inspect import doctor_settings
from compreface_cli.plan import plan as plans
from tests.cli.build_files import (
    SHA,
    build_data,
    build_file,
    catalogue,
    model_entry,
    plain_data,
    text,
    write,
)

Case = Callable[[Path], object]

FACENET = "20180402-114759"


def _build(**changes: Any) -> Case:
    """The faults of a build with a model of its own."""
    return lambda _: spec.from_text(text(build_data(**changes)), "my-build.yaml")


def _fallback(instead: str) -> Case:
    plugins = ["agegender.AgeDetector", "embedded.AgeDetector"]
    return _build(
        plugins=plugins if instead in plugins else plugins[:1],
        fallbacks={"agegender.AgeDetector": instead},
    )


def _model(**changes: Any) -> Case:
    """The faults of its model."""
    return _build(models=[model_entry(**changes)])


def _files(format: str, *names: str, **changes: Any) -> Case:
    files = [{"path": f"here/{name}", "sha256": SHA} for name in names]
    return _model(format=format, files=files, **changes)


def _other_role(role: str, **changes: Any) -> Case:
    """The faults of a model that has what belongs to a calculator."""
    entry = model_entry(role=role, **changes)
    return _build(models=[{key: value for key, value in entry.items() if value != "-"}])


def _yaml(content: str) -> Case:
    return lambda _: parse(content, "my.yaml")


def _file(make: Callable[[Path], object]) -> Case:
    """The error of a file that `make` has made."""

    def case(folder: Path) -> object:
        make(folder / "my.yaml")
        return read(folder / "my.yaml")

    return case


def _find(name: str, make: Callable[[Path], object] = lambda folder: None) -> Case:
    def case(folder: Path) -> object:
        (folder / "builds").mkdir()
        make(folder)
        return builds.load(name)

    return case


def _kept(content: str | None) -> Case:
    """The error of keeping a build where a file with this content, or a folder, is in the way."""

    def case(folder: Path) -> object:
        path = folder / "plain.yaml"
        path.mkdir() if content is None else path.write_text(content)
        return builds.save_custom(build_file(device="cuda").spec, folder)

    return case


def _settings(
    project: str = "", *, env: str = "", files: Mapping[str, str] | None = None, **flags: Any
) -> Case:
    """The error of these flags and files, or what is noted of them; `env`: an `.env` file."""

    def case(folder: Path) -> object:
        (folder / "cf.yaml").write_text(project + ("env_file: .env\n" if env else ""))
        (folder / ".env").write_text(env)
        for name, content in (files or {}).items():
            (folder / name).write_text(content)
        found = settings.resolve(
            flags, environ={}, project_file=folder / "cf.yaml", user_file=folder / "none"
        )
        return "\n".join(found.notes)

    return case


def _variables(**variables: str) -> Case:
    def case(folder: Path) -> object:
        none = folder / "none"
        found = settings.resolve({}, environ=variables, project_file=none, user_file=none)
        return "\n".join(found.notes)

    return case


def _plan(build: Mapping[str, Any] | None = None, **flags: Any) -> Case:
    """The error of a plan."""

    def case(folder: Path) -> object:
        none = folder / "none"
        chosen = settings.resolve(flags, environ={}, project_file=none, user_file=none)
        return plans.resolve(build_file(**(build or {})), chosen, catalogue=catalogue())

    return case


def _bundled(**flags: Any) -> Case:
    """The same of a build that comes with cf, whose catalogue counts."""

    def case(folder: Path) -> object:
        none = folder / "none"
        chosen = settings.resolve(flags, environ={}, project_file=none, user_file=none)
        return plans.resolve(builds.load("embedded"), chosen)

    return case


def _system(number: int, name: str | None) -> Case:
    """What an error of the system means; `name` below this user's folders."""

    def case(folder: Path) -> object:
        where = () if name is None else (str(folder / name),)
        return paths.refused(OSError(number, os.strerror(number), *where))

    return case


def _no_home(_: Path) -> object:
    with (
        mock.patch.dict(os.environ, XDG_DATA_HOME=""),
        mock.patch.object(Path, "home", side_effect=RuntimeError),
    ):
        return paths.data_dir()


def _doctor(project: str, **variables: str) -> Case:
    """The rows of `cf doctor` about settings."""

    def case(folder: Path) -> object:
        (folder / "cf.yaml").write_text(project)
        with mock.patch.dict(os.environ, variables):
            chosen, rows = doctor_settings.read()
            return [*rows, *doctor_settings.ports(chosen)[1]]

    return case


def _nested(width: int, depth: int) -> str:
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines)


CASES: Final[Mapping[str, Case]] = {
    # Which build
    "build: unknown": _find("zzz"),
    "build: misspelled": _find("facenett"),
    "build: its former name": _find("scrfd-w600k"),
    "build: no file": _find("./no.yaml"),
    "build: a folder": _find("./builds"),
    "build: a pipe": _find("./pipe.yaml", lambda folder: os.mkfifo(folder / "pipe.yaml")),
    "build: another name than its file": _find(
        "other",
        lambda folder: write(folder / "builds", plain_data()).rename(
            folder / "builds" / "other.yaml"
        ),
    ),
    "build: a name of the catalogue": _find(
        "./my-build.yaml",
        lambda folder: write(folder, build_data(models=[model_entry(name="w600k_mbf")])),
    ),
    "build: edited": _kept("name: plain\n"),
    "build: a folder in its place": _kept(None),
    # What a build file says
    "build file: no mapping": lambda _: spec.from_text("- a\n", "my-build.yaml"),
    "build file: nothing": lambda _: spec.from_text("name: x\n", "my-build.yaml"),
    "build file: unknown keys": _build(detektor="x", zzz=1),
    "build file: name": _build(name="My Build"),
    "build file: no text": _build(name=12),
    "build file: schema": _build(schema=2),
    "build file: a choice": _build(device="gpu", runtime="onxruntime"),
    "build file: no list": _build(plugins=None),
    "build file: another list": _build(plugins="facenet.PoseEstimator"),
    "build file: numbers": _build(limits={"max_wait_s": 0, "max_detect_size": "640"}),
    "build file: base image": _build(base_image="UPPER case"),
    "build file: a plugin": _build(detector="facenet"),
    "build file: an unknown plugin": _build(detector="facenet.FaceDetectr"),
    "build file: a plugin of another role": _build(detector="facenet.Calculator"),
    "build file: a fallback of the calculator": _build(
        fallbacks={"custom.Calculator@my-model": None}
    ),
    "build file: a fallback of no plugin": _build(fallbacks={"agegender.AgeDetector": None}),
    "build file: a fallback that is not needed": _build(
        fallbacks={"facenet.PoseEstimator": "insightface.PoseEstimator"}
    ),
    "build file: a fallback with another answer": _fallback("embedded.GenderDetector"),
    "build file: a fallback that is listed already": _fallback("embedded.AgeDetector"),
    "build file: a fallback with the same model": _fallback("agegender.AgeDetector@22801"),
    "build file: a fallback of another role": _fallback("facenet.Calculator"),
    "build file: a plugin twice": _build(plugins=["facenet.PoseEstimator"] * 2),
    "build file: a model twice": _build(models=[model_entry(), model_entry()]),
    "build file: bf16 on this runtime": _build(precision="bf16"),
    "build file: bf16 on a GPU": _build(precision="bf16", runtime="auto", device="cuda"),
    "build file: a model of another role": _other_role("analyzer", align="-", similarity="-"),
    "build file: an entry of the catalogue": lambda _: spec.model_from_data(
        model_entry(align="no"), "catalogue: x"
    ),
    "model: name": _model(name="a.b"),
    "model: format": _model(format="pickle"),
    "model: hash": _model(files=[{"path": "x", "sha256": "abc"}]),
    "model: path": _model(files=[{"path": "/etc/passwd", "sha256": SHA}]),
    "model: path out of the folder": _model(files=[{"path": "../x", "sha256": SHA}]),
    "model: source": _model(files=[{"path": "x", "sha256": SHA, "sources": ["ftp://x"]}]),
    "model: no alignment": _other_role("calculator", align="-"),
    "model: alignment of another role": _other_role("analyzer"),
    "model: border of another role": _other_role(
        "analyzer", align="-", similarity="-", border={"at": 0.7}
    ),
    "model: order of the similarity": _model(similarity=[6.0, 1.1]),
    "model: border": _model(border={"at": 0.7, "sure": 0.6}),
    "model: mean without scale": _model(input={"size": 112, "mean": 1}),
    "model: scale of 0": _model(input={"size": 112, "mean": 1, "scale": 0}),
    "model: no size": _model(input={"size": None, "mean": 0, "scale": 1}),
    "model: a standardised detector": _other_role(
        "detector", align="-", similarity="-", input={"size": 112}
    ),
    "model: no network": _files("mxnet-gluon", "m.params"),
    "model: another network": _files("mxnet-gluon", "m.params", network="inception_v3_age"),
    "model: a network too many": _files("onnx", "m.onnx", network="resnet18_v1"),
    "model: format of a detector": _other_role(
        "detector",
        align="-",
        similarity="-",
        format="tflite",
        files=[{"path": "m.tflite", "sha256": SHA}],
    ),
    "model: files of one name": _files("tensorflow-saved-model", "saved_model.pb", "a/x", "b/x"),
    "model: files of onnx": _files("onnx", "a.onnx", "b.onnx"),
    "model: files of mxnet": _files("mxnet", "m.params"),
    "model: files of a checkpoint": _files(
        "tensorflow-checkpoint", "m.data", network="inception_v3_age"
    ),
    "model: files of a saved model": _files("tensorflow-saved-model", "m.pb"),
    # YAML
    "yaml: none": _yaml("a: 1\nb: [1, 2\n"),
    "yaml: several faults": _yaml("a: 1\na: 2\nb: !!python/name:os.system x\n<<: {c: 1}\n[k]: 1\n"),
    "yaml: a value": _yaml("a: !!int x\n"),
    "yaml: too deep": _yaml("[" * 200 + "]" * 200),
    "yaml: too many values": _yaml(_nested(10, 9)),
    "file: absent": _file(lambda path: None),
    "file: a folder": _file(lambda path: path.mkdir()),
    "file: a pipe": _file(os.mkfifo),
    "file: a link to itself": _file(lambda path: path.symlink_to(path)),
    "file: too large": _file(lambda path: path.write_bytes(b"a" * (textfile.MAX_BYTES + 1))),
    "file: not UTF-8": _file(lambda path: path.write_bytes(b"a: 1\nb: caf\xe9\n")),
    # Settings
    "settings: unknown keys": _settings("prot: 1\npostgres_username: me\nwhatever: 1\n"),
    "settings: no mapping": _settings("- port\n"),
    "settings: a bad value in a file": _settings("bind: 127.0.0.1\nport: x\n"),
    "settings: a bad variable": _variables(CF_PORT="x"),
    "settings: unknown variables": _variables(CF_PRT="1", CF_QQQQ="1"),
    "settings: port": _settings(port="0"),
    "settings: address": _settings(bind="localhost"),
    "settings: push_to": _settings(push_to="faces"),
    "settings: a choice": _settings(launcher="composed"),
    "settings: a whole number": _settings(max_detect_size="1e3"),
    "settings: limits": _settings(gpu_index="-1"),
    "settings: seconds": _settings(max_wait_s="soon"),
    "settings: limits of seconds": _settings(max_wait_s="0"),
    "settings: cosine": _settings(min_cosine="high"),
    "settings: limits of a cosine": _settings(min_cosine="0.5"),
    "settings: flag": _settings(enable_email_server="maybe"),
    "settings: size": _settings(max_file_size="5"),
    "settings: memory": _settings(memory_limit="5"),
    "settings: cpus": _settings(cpus="0.05"),
    "settings: a GPU twice": _settings(gpu_index="0,0"),
    "settings: rate": _settings(rate_limit="fast"),
    "settings: limits of a rate": _settings(rate_limit="0"),
    "settings: name of an instance": _settings(instance="My_One"),
    "settings: registry": _settings(registry="exadel"),
    "settings: one line": _settings(email_from="a\nb"),
    "settings: text": _settings(email_from=["a"]),
    "settings: identifier": _settings(postgres_user="a;b"),
    "settings: image": _settings(image="Bad Image"),
    "settings: tag": _settings(api_version="a b"),
    "settings: password": _settings(postgres_password="hunter2\nx"),
    "keys: digits": _settings("api_keys: [12345678]\n"),
    "keys: short": _settings(api_keys="short"),
    "keys: a digest": _settings(api_keys="sha256:0123"),
    "keys: none": _settings("api_keys_file: keys\n", files={"keys": "# none\n"}),
    "keys: given twice": _settings("api_keys: long-enough\napi_keys_file: keys\n"),
    "keys: not text": _settings("api_keys_file: .\n"),
    "env file: notes": _settings(env="CORE_VERSION=1\nmine=1\n"),
    "env file: a line": _settings(env="a b\n"),
    "env file: a number": _settings(env="uwsgi_processes=many\n"),
    "env file: a product": _settings(env="uwsgi_processes=900\nuwsgi_threads=900\n"),
    "env file: absent": _settings("env_file: no.env\n"),
    "doctor: settings": _doctor("prot: 1\nport: x\n", CF_BIND="localhost", CF_QQQQ="1"),
    "doctor: a mirror that is no folder": _doctor("", CF_MODELS_MIRROR="/no/such/folder"),
    "doctor: a mirror of another kind": _doctor("", CF_MODELS_MIRROR="ftp://mirror"),
    "doctor: a registry mirror without a scheme": _doctor("", CF_REGISTRY_MIRROR="mirror"),
    "doctor: one number for two ports": _doctor("port: 3000\ncore_port: 3000\n"),
    # Plans
    "plan: GPU of another runtime": _plan(runtime="openvino", device="cuda"),
    "plan: more engines than GPUs": _plan(device="cuda", gpu_index="0,1", replicas=3),
    "plan: wheels of the CPU": _plan(device="cuda", wheels="cpu"),
    "plan: bf16 of another runtime": _plan(
        {"runtime": "auto", "precision": "bf16"}, runtime="mxnet"
    ),
    "plan: an unknown plugin": _plan(plugins=["facenet.Pose"]),
    "plan: no model": _plan(calculator="custom.Calculator@nothing"),
    "plan: no model of a build of cf": _bundled(calculator="custom.Calculator@nothing"),
    "plan: a misspelled model": _bundled(detector="scrfd.FaceDetector@scrfd_500n"),
    "plan: a model of another plugin": _bundled(detector="yunet.FaceDetector@scrfd_500m"),
    "plan: a model of another role": _bundled(calculator="custom.Calculator@yunet_n"),
    "plan: a queue smaller than a body": _plan(max_queue_bytes=2**21, max_body_bytes=2**22),
    # Folders
    "folder: no home": _no_home,
    "folder: no working folder": _system(errno.ENOENT, None),
    "folder: refused": _system(errno.EACCES, "state/compreface-cli/x"),
    "folder: full": _system(errno.ENOSPC, "data/compreface-cli/x"),
    "folder: full, elsewhere": lambda _: paths.refused(OSError(errno.ENOSPC, "Full", "/mnt/x")),
    "folder: full, not known where": _system(errno.ENOSPC, None),
}

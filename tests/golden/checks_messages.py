"""What the checks find: before a start or a build, and in `cf doctor`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from compreface_cli import checks
from compreface_cli.checks import (
    architecture,
    cpu,
    database,
    disk,
    memory,
    model_files,
    tls,
    ui_routes,
)
from compreface_cli.checks.base import Finding, OtherInstance, OwnedResources
from compreface_cli.checks.machine import Environment, Machine
from compreface_cli.docker.image import Image
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR, LABEL_DETECTOR
from compreface_cli.facts import Facts
from compreface_cli.facts.cgroup import Limits
from compreface_cli.facts.database import Collection, DatabaseFacts, Lock
from compreface_cli.facts.docker import Labelled, PullFact
from compreface_cli.facts.gpu import Gpu, GpuFacts, ProbeFact
from compreface_cli.facts.host import DiskFact, Listener, PortFact
from compreface_cli.facts.network import NetworkFacts
from compreface_cli.facts.tls import TlsFacts
from compreface_cli.plugin_table import UI_PLUGINS
from tests.cli.build_files import catalogue
from tests.cli.fake_facts import (
    BASE,
    CORE,
    FOLDER,
    NO_GPU,
    STACK,
    V2,
    container,
    docker,
    facts,
    gpu,
    held,
    host,
    images,
    of_project,
    plan,
    published,
    remote,
)
from tests.cli.test_render import plan as resolved
from tests.cli.test_render import project

Case = Callable[[Path], object]

CHECKED = datetime(2026, 11, 30, tzinfo=UTC)
TLS = TlsFacts("c.pem", "k.pem", names=("a.org",), until=CHECKED + timedelta(days=60))

OWN = OwnedResources(folder=FOLDER)
OTHER = OtherInstance("other", frozenset({3000, 8000}), frozenset({4711}))
VOLUME = "cf-embedded_postgres-data"
OURS = {
    "com.docker.compose.project": "cf-embedded",
    "compreface-cli.instance": "embedded",
    "compreface-cli.calculator": "embedded.Calculator@mobilefacenet192",
}
THEIRS = {**OURS, "compreface-cli.calculator": "facenet.Calculator"}
FACENET = {
    LABEL_BUILD: "corp-faces",
    LABEL_DETECTOR: "facenet.FaceDetector",
    LABEL_CALCULATOR: "facenet.Calculator",
}
CORP = "corp/core:1"
PROXY = {"https": "http://user:word@proxy.corp:3128"}
PROCESS: dict[str, Any] = {"launcher": "process", "services": "core", "port": 3000}
CUDA: dict[str, Any] = {"device": "cuda", "gpu_index": 0, "wheels": "cuda13"}
PLACE = database.Place("x", "cf-x-compreface-postgres-db-1")
CALCULATOR = OURS["compreface-cli.calculator"]
FACES = Collection("People", 7, "Front door", CALCULATOR, 3, False)
OTHERS_FACES = replace(FACES, calculator="facenet.Calculator", faces=1)


def _up(check: str, seen: Facts | None = None, own: OwnedResources = OWN, **wanted: Any) -> Case:
    """What that check of `cf up` has against the plan, or its good news when it has nothing."""

    def case(_: Path) -> list[Finding]:
        rows = checks.preflight(plan(**wanted), seen or facts(), own)
        rows = [row for row in rows if row.check == check]
        return [row for row in rows if row.level != "ok"] or rows

    return case


def _docker(check: str = "docker", own: OwnedResources = OWN, **changes: Any) -> Case:
    """The same with a Docker engine that differs."""
    return _up(check, facts(docker=docker(**changes)), own)


def _ports(*rows: PortFact, **changes: Any) -> Facts:
    taken = {(row.address, row.port): row for row in rows}
    return facts(host=host(ports={**host().ports, **taken}), **changes)


def _doctor(check: str, **seen: Any) -> Case:
    """What that row of `cf doctor` says."""

    def case(_: Path) -> list[Finding]:
        machine = Machine(facts(gpu=NO_GPU), environment=Environment("/engine-env/abc"))
        return [row for row in checks.doctor(replace(machine, **seen)) if row.check == check]

    return case


def _named(docker_facts: Any, own: OwnedResources = OWN) -> Case:
    """What the check of images says of an image that the user has named."""
    origins = {"image": "environment CF_IMAGE"}
    return _up("image", facts(docker=docker_facts), own, image=CORP, origins=origins)


def _here(name: str, **labels: str) -> Any:
    one = Image("sha256:1", (name,), 1, labels)
    return docker(images=(one, *images(BASE, *STACK.values())))


def _volume(seen: DatabaseFacts | None = None, labels: Mapping[str, str] = THEIRS) -> Case:
    engine = docker(volumes=(Labelled(VOLUME, labels),))
    return _up("volume", replace(facts(docker=engine), database=seen))


def _card(capability: tuple[int, int], driver: str = "580.1") -> GpuFacts:
    return gpu(driver=driver, gpus=(Gpu(0, "card", capability, 2**33),))


def _gpu(seen: GpuFacts | None, *, probe: bool | None = True, **changes: Any) -> Case:
    """What the check of a GPU says; `probe`: whether a container started with it."""
    error = "" if probe else 'could not select device driver "nvidia"'
    found = None if probe is None else ProbeFact("image", probe, error)
    return _up("gpu", facts(gpu=seen, probe=found, **changes), **CUDA)


def _auto(engine: Any, own: OwnedResources | None = None, **wanted: Any) -> Case:
    """Which launcher `auto` becomes, and why."""

    def case(_: Path) -> str:
        choice = checks.choose(plan(launcher="auto", **wanted), facts(docker=engine), own)
        return f"{choice.kind}: {choice.reason}\nleaves out: {choice.leaves_out}\n{choice.detail}"

    return case


def _login(said: str, *, nothing: bool = False) -> Case:
    seen = DatabaseFacts(login=f"psql: error: connection failed: FATAL:  {said}")
    return lambda _: database.login(VOLUME, seen, nothing=nothing)


def _database(seen: DatabaseFacts) -> Case:
    return lambda _: database.judge(PLACE, seen, CALCULATOR)


def _raised(_: Path) -> None:
    poor = _ports(held(8000), docker=docker(volumes=(Labelled(VOLUME),), root_free=1))
    checks.raise_for(checks.preflight(plan(), poor))


def _raised_once(_: Path) -> None:
    checks.raise_for([Finding("x", "fail", "it is broken", "", 9)])


def _pulls(pullable: bool | None, reason: str) -> dict[str, PullFact]:
    return {name: PullFact(name, pullable, reason) for name in STACK.values()}


NOWHERE = PortFact("10.9.8.7", 8000, free=False, error="Cannot assign requested address")
PRIVILEGED = PortFact("127.0.0.1", 80, free=False, error="Permission denied", denied=True)
FULL = {"/data": DiskFact("/data", "/", 10, 10**12)}
REFUSED = {"/data": DiskFact("/data", "/", 10**10, 10**12, refused="Permission denied")}

CASES: Final[Mapping[str, Case]] = {
    "several things in the way": _raised,
    "one thing in the way": _raised_once,
    # Docker
    "docker: all well": _docker(),
    "docker: not installed": _docker(state="no-socket", client=None),
    "docker: no socket": _docker(state="no-socket"),
    "docker: refused": _docker(state="refused"),
    "docker: permission denied": _docker(state="denied"),
    "docker: timeout": _docker(state="timeout", error="no answer within 5 s"),
    "docker: another error": _docker(state="error", error="odd"),
    "docker: old engine": _docker(engine_version="20.10.24+dfsg1"),
    "docker: old Compose": _docker(compose_version="2.20.2"),
    "docker: no Compose": _docker(compose_version=None, compose_error="no plugin"),
    # Ports and addresses
    "port: free": _up("port"),
    "port: held by a process": _up("port", _ports(held(8000))),
    "port: held by a process without a name": _up("port", _ports(held(3000, process=None))),
    "port: held for a container that is gone": _up(
        "port", _ports(held(8000, process="docker-proxy"))
    ),
    "port: held by an unseen process": _up("port", _ports(held(8000, pid=None, process=None))),
    "port: held by a container": _docker(
        "port",
        containers=(of_project("shop", "/srv/shop", "shop-web-1", ports=(published(8000, ""),)),),
    ),
    "port: held by another instance": _up(
        "port", _ports(held(3000)), OwnedResources(others=(OTHER,)), **PROCESS
    ),
    "port: of a stopped container": _docker(
        "port", containers=(container("old", "exited", ports=(published(8000, held=False),)),)
    ),
    "port: both the same": _up("port", core_port=8000),
    "port: out of range": _up("port", port=65536),
    "port: privileged": _up("port", _ports(PRIVILEGED), **{**PROCESS, "port": 80}),
    "port: no address of this host": _up("port", _ports(NOWHERE), bind="10.9.8.7"),
    "port: remote engine": _up("port", facts(docker=remote())),
    "tls: fine": lambda _: list(tls.judge(TLS, CHECKED)),
    "tls: a file that cannot be used": lambda _: list(
        tls.judge(TlsFacts("c.pem", "k.pem", "the key k.pem cannot be read: no such file"), CHECKED)
    ),
    "tls: soon over, readable for others, without names": lambda _: list(
        tls.judge(replace(TLS, until=CHECKED, names=(), readable=True), CHECKED)
    ),
    "tls: without the UI": lambda _: resolved(tls_cert="c.pem", tls_key="k.pem", services="core"),
    "tls: half of it": lambda _: resolved(tls_cert="c.pem"),
    "tls: no such file": lambda _: project(tls_cert="/c.pem", tls_key="/k.pem"),
    "bind: the UI": _up("bind", bind="0.0.0.0"),
    "bind: the UI with open_routes": _up(
        "bind", bind="0.0.0.0", stack={**STACK, "open_routes": "true"}
    ),
    "bind: the engine without keys": _up(
        "bind", bind="0.0.0.0", origins={"bind": "flag --bind"}, **PROCESS
    ),
    "replicas: the engines alone": _up("replicas", replicas=2, services="core"),
    "replicas: a local process": _up("replicas", replicas=2, launcher="process"),
    "replicas: more than cores": _up("replicas", replicas=64),
    "apis: several": _up("apis", api_replicas=2),
    "apis: several, insisted": _up("apis", api_replicas=2, allow_several_apis=True),
    # Names
    "project: taken": _docker(
        "project",
        containers=(of_project("cf-embedded", "/srv/else", "cf-embedded-compreface-core-1"),),
    ),
    "project: from an unknown folder": _docker(
        "project",
        containers=(container("x", labels={"com.docker.compose.project": "cf-embedded"}),),
    ),
    "project: a container's name": _docker(
        "project", containers=(container("cf-embedded-compreface-core-1", "exited"),)
    ),
    "project: a crash loop": _docker(
        "project",
        containers=(
            of_project("cf-embedded", FOLDER, state="restarting", status="Restarting (3) 1 s ago"),
        ),
    ),
    "project: a network": _docker("project", networks=(Labelled("cf-embedded_default", {}),)),
    "project: a network of another project": _docker(
        "project",
        networks=(Labelled("cf-embedded_default", {"com.docker.compose.project": "shop"}),),
    ),
    # The volume
    "volume: ours": _volume(labels=OURS),
    "volume: not created by cf": _volume(labels={}),
    "volume: of another project": _volume(labels={"com.docker.compose.project": "shop"}),
    "volume: of another calculator by its label": _volume(),
    "volume: an unread database": _volume(DatabaseFacts("no answer within 60 s")),
    "volume: of another calculator": _volume(DatabaseFacts(collections=(OTHERS_FACES,))),
    "volume: of several calculators": _volume(DatabaseFacts(collections=(FACES, OTHERS_FACES))),
    "volume: mounted by another container": _docker(
        "volume",
        volumes=(Labelled(VOLUME, OURS),),
        containers=(container("psql", "paused", volumes=(VOLUME,)),),
    ),
    # Images
    "image: all here": _up("image"),
    "image: can be pulled": _docker("image", images=images(CORE), pulls=_pulls(True, "")),
    "image: cannot be pulled": _docker("image", images=images(CORE), pulls=_pulls(False, "gone")),
    "image: registry silent": _docker(
        "image", images=images(CORE), pulls=_pulls(None, "no answer within 8 s")
    ),
    "image: registry not asked": _docker("image", images=images(*STACK.values())),
    "image: base cannot be pulled": _docker(
        "image", images=images(*STACK.values()), pulls={BASE: PullFact(BASE, False, "no such host")}
    ),
    "image: may not be built": _docker(
        "image", OwnedResources(may_build=False), images=images(BASE, *STACK.values())
    ),
    "image: a named one is no engine": _named(_here(CORP)),
    "image: a named one of another build": _named(_here(CORP, **FACENET)),
    "image: a named one is nowhere": _named(
        docker(
            images=images(BASE, *STACK.values()),
            pulls={CORP: PullFact(CORP, False, "manifest unknown")},
        )
    ),
    # The machine
    "architecture: supported": lambda _: architecture.judge("arm64"),
    "architecture: unsupported": lambda _: architecture.judge("riscv64"),
    "architecture: no CUDA": lambda _: architecture.judge("arm64", "cuda"),
    "cpu: every flag": _up("cpu"),
    "cpu: needs none": lambda _: cpu.judge(frozenset(), "onnxruntime", "arm64"),
    "cpu: unknown flags": lambda _: cpu.judge(None, "onnxruntime", "amd64"),
    "cpu: lacks flags": lambda _: cpu.judge(V2 - {"sse4_2"}, "onnxruntime", "amd64"),
    "cpu: remote engine": _up("cpu", facts(docker=remote())),
    "runtime: nothing to run": _up(
        "runtime", facts(host=host(cpu_flags=V2 | {"avx", "avx2"})), runtime="mxnet"
    ),
    "runtime: no packages for this Python": _up(
        "runtime",
        facts(host=host(python="3.12.1")),
        runtime="mxnet",
        models=(replace(catalogue()["20180402-114759"], keep_source=True),),
        **PROCESS,
    ),
    "memory: enough": lambda _: memory.judge(8 * 10**9, 5 * 10**9, memory.STACK),
    "memory: unknown": lambda _: memory.judge(None, None, memory.ENGINE),
    "memory: too small": lambda _: memory.judge(5 * 10**8, None, memory.ENGINE),
    "memory: busy": lambda _: memory.judge(2 * 10**9, 4 * 10**8, memory.ENGINE),
    "disk: room": lambda _: disk.judge_folder("/data", 2 * 10**9),
    "disk: full": _up("disk", facts(host=host(disks=FULL)), **PROCESS),
    "disk: of the data full": lambda folder: disk.judge_folder(f"{folder}/data", 10**7),
    "disk: little": lambda folder: disk.judge_folder(f"{folder}/data", 5 * 10**8),
    "disk: not writable": _up("disk", facts(host=host(disks=REFUSED)), **PROCESS),
    "disk: Docker's root": _docker("disk"),
    "disk: Docker's root full": _docker("disk", root_free=3 * 10**8, images=images(BASE)),
    "disk: Docker's root not seen": _docker("disk", root_free=None),
    "disk: remote root": _up("disk", facts(docker=remote())),
    "disk: unknown root": lambda _: disk.judge_root(None, None, False, 1),
    # GPU
    "gpu: well": _gpu(gpu()),
    "gpu: not asked": _gpu(None),
    "gpu: no card": _gpu(NO_GPU),
    "gpu: no driver": _gpu(replace(NO_GPU, card_on_bus=True)),
    "gpu: silent driver": _gpu(gpu(gpus=(), smi_error="Driver/library version mismatch")),
    "gpu: no nvidia-smi": _gpu(gpu(gpus=(), smi=None, driver=None)),
    "gpu: no such index": _up(
        "gpu", facts(gpu=gpu(), probe=ProbeFact("image", True)), **{**CUDA, "gpu_index": 3}
    ),
    "gpu: old card": _gpu(_card((5, 2))),
    "gpu: old driver": _gpu(_card((8, 6), "470.1")),
    "gpu: a card for other wheels": _gpu(_card((6, 1))),
    "gpu: a driver for other wheels": _gpu(_card((8, 6), "535.1")),
    "gpu: no toolkit": _gpu(gpu(toolkit=()), probe=None),
    "gpu: toolkit unknown to Docker": _gpu(gpu(), probe=None),
    "gpu: not proven": _gpu(gpu(), probe=None, docker=docker(runtimes=("nvidia",))),
    "gpu: the probe fails": _gpu(gpu(), probe=False, docker=docker(runtimes=("nvidia",))),
    "gpu: the probe fails without a driver": _gpu(
        gpu(gpus=()), probe=False, docker=docker(runtimes=("nvidia",))
    ),
    "gpu: remote, not proven": _gpu(NO_GPU, probe=None, docker=remote()),
    "gpu: remote, the probe starts": _gpu(NO_GPU, docker=remote()),
    "gpu: remote, the probe fails": _gpu(NO_GPU, probe=False, docker=remote()),
    # The UI
    "ui: shows all": _up("ui"),
    "ui: without age and gender": _up(
        "ui", plugins=UI_PLUGINS[:2], origins={"plugins": "build mine"}
    ),
    "ui: without landmarks": _up("ui", plugins=UI_PLUGINS[1:]),
    # What surrounds Docker and the engine
    "compose: only version 1": _docker(
        compose_version=None, compose_error="no plugin", compose_v1="1.29.2"
    ),
    "rootless: a low port": _up(
        "rootless", replace(facts(docker=docker(rootless=True)), network=NetworkFacts()), port=80
    ),
    "rootless: no limits": _docker("rootless", no_limits=("memory", "processes")),
    "doctor: rootless": _doctor("rootless", facts=facts(docker=docker(rootless=True))),
    "doctor: user namespaces": _doctor(
        "rootless", facts=facts(docker=docker(user_namespaces=True))
    ),
    "selinux: a bind mount": _up(
        "selinux",
        replace(facts(docker=docker(selinux=True)), network=NetworkFacts(selinux=True)),
        OwnedResources(folder=FOLDER, bind_mounts=("./my:/data",)),
    ),
    "doctor: selinux": _doctor(
        "selinux",
        facts=replace(facts(docker=docker(selinux=True)), network=NetworkFacts(selinux=True)),
    ),
    "proxy: Docker lacks it": _up(
        "proxy", replace(facts(docker=docker(images=())), network=NetworkFacts(proxies=PROXY))
    ),
    "proxy: the host lacks it": _up(
        "proxy",
        replace(facts(docker=docker(images=(), proxies=PROXY)), network=NetworkFacts()),
    ),
    "doctor: a proxy for localhost": _doctor(
        "proxy",
        facts=replace(facts(docker=docker(proxies=PROXY)), network=NetworkFacts(proxies=PROXY)),
    ),
    "doctor: a proxy": _doctor(
        "proxy",
        facts=replace(
            facts(docker=docker(proxies=PROXY)),
            network=NetworkFacts(proxies={**PROXY, "no": "localhost"}),
        ),
    ),
    "port: refused by browsers": _up("port", port=6000),
    "ipv6: the host has none": _up(
        "ipv6", replace(facts(), network=NetworkFacts(ipv6=False)), bind="::1"
    ),
    "ipv6: another program at localhost": _up(
        "ipv6",
        replace(
            _ports(
                PortFact(
                    "::1",
                    8000,
                    free=False,
                    error="address already in use",
                    listeners=(Listener("::1", 8000, 4711, "node"),),
                )
            ),
            network=NetworkFacts(localhost=("::1", "127.0.0.1")),
        ),
    ),
    "cgroup: too little of all": _up(
        "cgroup", replace(facts(), containers_group=Limits(1_000_000_000, 0.5, 100))
    ),
    "doctor: cgroup": _doctor(
        "cgroup", facts=replace(facts(), own_group=Limits(4_000_000_000, 2.0, 500))
    ),
    "password: a dollar": _up(
        "password",
        secrets={"postgres_password": "pa$word"},
        origins={"postgres_password": "env file /srv/compreface/.env:3"},
    ),
    "ui: answers": lambda _: ui_routes.judge("x", "http://127.0.0.1:8000", {}),
    "ui: one route silent": lambda _: ui_routes.judge(
        "x", "http://127.0.0.1:8000", {"/api/v1/consistence/status": "status 502"}
    ),
    "ui: all routes silent": lambda _: ui_routes.judge(
        "x",
        "http://127.0.0.1:8000",
        dict.fromkeys(("/admin/status", "/api/v1/consistence/status", "/core/status"), "no answer"),
    ),
    # The launcher
    "auto: compose": _auto(docker()),
    "auto: Docker not asked": _auto(None),
    "auto: the engine alone": _auto(None, services="core"),
    "auto: Docker denied": _auto(docker(state="denied")),
    "auto: refused by the registry": _auto(
        docker(images=images(CORE), pulls=_pulls(False, "gone"))
    ),
    "auto: registry out of reach": _auto(docker(images=images(CORE), pulls=_pulls(None, "silent"))),
    "auto: no base image": _auto(
        docker(images=(), pulls={BASE: PullFact(BASE, False, "dial tcp: no such host")}),
        services="core",
    ),
    # A stack's database
    "database: another password": _login('password authentication failed for user "postgres"'),
    "database: another password of an empty volume": _login(
        'password authentication failed for user "postgres"', nothing=True
    ),
    "database: no such user": _login('role "other" does not exist'),
    "database: no such database": _login('database "frs" does not exist'),
    "database: lets nobody in": _login('no pg_hba.conf entry for host "172.18.0.2"'),
    "database: well": _database(DatabaseFacts(collections=(FACES,))),
    "database: not known": _database(DatabaseFacts(error="no answer within 10 s")),
    "database: no answer": _database(DatabaseFacts()),
    "database: faces of several calculators": _database(
        DatabaseFacts(collections=(FACES, OTHERS_FACES))
    ),
    "database: faces of another calculator": _database(DatabaseFacts(collections=(OTHERS_FACES,))),
    "database: a lock": _database(
        DatabaseFacts(
            collections=(FACES,),
            lock=Lock("0123456789ab (172.18.0.3)", "2026-11-30T08:00:00.000"),
            sessions=0,
        )
    ),
    # The doctor
    "doctor: python": _doctor("python"),
    "doctor: old python": _doctor("python", facts=facts(host=host(python="3.10.4"))),
    "doctor: little memory": _doctor("memory", facts=facts(host=host(memory_total=10**9))),
    "doctor: no GPU": _doctor("gpu"),
    "doctor: a GPU": _doctor("gpu", facts=facts(gpu=gpu(), docker=docker(runtimes=("nvidia",)))),
    "doctor: ports": _doctor(
        "port", facts=_ports(held(3000), gpu=NO_GPU), instances={8000: "embedded"}
    ),
    "doctor: a port of a container": _doctor(
        "port",
        facts=facts(
            docker=docker(containers=(container("shop", ports=(published(8000, held=False),)),)),
            gpu=NO_GPU,
        ),
    ),
    "doctor: a port of an unseen process": _doctor(
        "port", facts=_ports(held(3000, pid=None, process=None), gpu=NO_GPU)
    ),
    "doctor: other ports": _doctor("port", facts=_ports(NOWHERE, PRIVILEGED, gpu=NO_GPU)),
    "doctor: no models": _doctor("models"),
    "doctor: models": _doctor("models", models={"a": "here", "b": "here", "c": "damaged"}),
    "doctor: environment": _doctor("engine"),
    "doctor: no environment yet": _doctor("engine", environment=Environment(None)),
    "doctor: broken environment": _doctor("engine", environment=Environment("/e", "no module x")),
    "doctor: its parts are gone": _doctor("engine", environment=Environment(None, "no wheel")),
    "doctor: no environment can be made": _doctor(
        "engine", environment=Environment(None, can_be_made=False)
    ),
    "doctor: no environment and no Docker": _doctor(
        "engine",
        environment=Environment(None, can_be_made=False),
        facts=facts(docker=docker(state="refused"), gpu=NO_GPU),
    ),
    "doctor: settings": _doctor("settings"),
    "doctor: files": _doctor("files", broken={"the build x": "not YAML"}),
    "model: no address": lambda _: model_files.out_of_reach(
        plan(models=(catalogue()["20180402-114759"],))
    ),
}

"""The real Kubernetes of the tests: its start and kills, images, namespaces, metrics, `helm`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.shared import SHARED

TOOL = SHARED / "tools" / "kubernetes" if SHARED else None
STATE = Path("/var/lib/kubernetes-here")  # where that script keeps pids, logs, images and volumes
BUILD_S = 1200
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kubernetes-programs"
HELM = "helm.sh/helm/v4/cmd/helm@v4.3.2"
METRICS_SERVER = "sigs.k8s.io/metrics-server/cmd/metrics-server@v0.8.0"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


class CommandFailed(AssertionError):
    """A command of the cluster that ended with another code than 0."""

    def __init__(self, command: tuple[str, ...], code: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{said[-3000:]}")
        self.code, self.said = code, said


def why_not() -> str:
    """What this machine lacks for a cluster; empty when it lacks nothing."""
    if TOOL is None or not TOOL.exists():
        return "the shared folder with tools/kubernetes is absent"
    if os.geteuid() != 0:
        return "a Kubernetes cluster needs root"
    for program in ("go", "docker"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


def run(
    *command: str,
    stdin: str | None = None,
    timeout_s: float = 120,
    environment: dict[str, str] | None = None,
) -> str:
    """Its standard output; raises CommandFailed, and TimeoutExpired after `timeout_s`."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise CommandFailed(command, done.returncode, done.stderr + done.stdout)
    return done.stdout.strip()


def program(module: str) -> str:
    """A Go program, built once into the user's cache; its path."""
    package, version = module.split("@")
    place = CACHE / version / package.rsplit("/", 1)[1]
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        flags = ("-ldflags", "-s -w")
        own = {"GOBIN": str(place.parent)}
        run("go", "install", *flags, module, timeout_s=BUILD_S, environment=own)
    return str(place)


def _build_with_a_version(tool: str) -> None:
    """Build the cluster's programs as its script does, but so that they know their version.

    Without it the server says v0.0.0, and `helm` finds every chart too new for it.
    """
    place = Path(tool).parent
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kubernetes-1.34"
    kube, source = cache / "kube", place / "kubernetes.d"
    if kube.exists() and "v0.0.0" not in run(str(kube), "kubectl", "version", "--client"):
        return
    cache.mkdir(parents=True, exist_ok=True)
    version = "k8s.io/component-base/version"
    values = {"gitVersion": "v1.34.0", "gitMajor": "1", "gitMinor": "34"}
    flags = " ".join(["-s -w", *(f"-X {version}.{key}={one}" for key, one in values.items())])
    run(
        *("go", "build", "-C", str(source), "-mod=readonly", "-ldflags", flags),
        *("-o", str(kube), "."),
        timeout_s=BUILD_S,
    )


class Cluster:
    """One node with every program of Kubernetes 1.34; containerd runs its pods."""

    def __init__(self) -> None:
        assert TOOL is not None
        self.tool = str(TOOL)
        self.kubeconfig = ""
        self._ran_before = False
        self._metrics: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()

    def up(self) -> None:
        """Start it, unless it runs; the first start on a machine builds it for 5 to 7 minutes."""
        self._ran_before = self.pid("kubelet") is not None
        _build_with_a_version(self.tool)
        said = run(self.tool, "up", timeout_s=BUILD_S)
        self.kubeconfig = said.splitlines()[-1]
        self._keep_images()
        for folder in (STATE / "volumes").iterdir():
            folder.chmod(0o777)  # a folder of the host takes no `fsGroup`

    def down(self) -> None:
        """Stop what `up` has started; a cluster that ran before stays."""
        self.stop_metrics()
        if not self._ran_before:
            run(self.tool, "down", timeout_s=180)

    def pid(self, name: str) -> int | None:
        """The process of kubelet, containerd, apiserver, ...; None when it does not run."""
        try:
            number = int((STATE / f"{name}.pid").read_text())
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return None if state == "Z" else number

    def command(self, name: str) -> list[str]:
        """The words that `name` was started with."""
        number = self.pid(name)
        assert number is not None, f"{name} does not run"
        return Path(f"/proc/{number}/cmdline").read_text().rstrip("\0").split("\0")

    def start(self, name: str, command: list[str]) -> None:
        """Start a program of the cluster again; the script finds it by its pid file as before."""
        with (STATE / f"{name}.log").open("ab") as log:
            one = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (STATE / f"{name}.pid").write_text(f"{one.pid}\n")

    def end(self, name: str, number: signal.Signals = signal.SIGKILL) -> list[str]:
        """Kill a program of the cluster; the words that it was started with."""
        command, process = self.command(name), self.pid(name)
        assert process is not None
        os.kill(process, number)
        wait_until(lambda: self.pid(name) is None, f"the end of {name}", 30)
        return command

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Without one of its programs, killed; it is started again at the end."""
        command = self.end(name)
        try:
            yield
        finally:
            self.start(name, command)

    def power_cycle(self) -> None:
        """What a reboot of the node does to kubelet, containerd and every pod."""
        with self.stopped("kubelet"):
            for line in self.ctr("tasks", "ls").splitlines()[1:]:
                self.kill_task(line.split()[0])
            with self.stopped("containerd"):
                pass
            wait_until(self._containerd_answers, "containerd", 30)

    def kill_task(self, container: str) -> None:
        with contextlib.suppress(CommandFailed):  # it may have ended with its pod's other one
            self.ctr("tasks", "kill", "--signal=KILL", "--all", container)

    def ctr(self, *arguments: str) -> str:
        return run(
            "ctr", f"--address={STATE / 'containerd.sock'}", "--namespace=k8s.io", *arguments
        )

    def _containerd_answers(self) -> bool:
        try:
            self.ctr("version")
        except CommandFailed:
            return False
        return True

    def _keep_images(self) -> None:
        """On a nearly full disk kubelet removes images, and none here can be pulled again."""
        file, line = STATE / "kubelet.yaml", "imageGCHighThresholdPercent: 100\n"
        if line not in file.read_text():
            with file.open("a") as written:
                written.write(line)
            self.start("kubelet", self.end("kubelet", signal.SIGTERM))
            run(self.tool, "load", "local/pause:1")

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        return run(self.tool, "kubectl", *arguments, stdin=stdin, timeout_s=timeout_s)

    def helm(self, *arguments: str, timeout_s: float = 400) -> str:
        own = {"KUBECONFIG": self.kubeconfig, "HELM_NO_PLUGINS": "1"}
        return run(program(HELM), *arguments, timeout_s=timeout_s, environment=own)

    def load(self, *images: str) -> None:
        """Bring images of the local Docker to the node."""
        for image in images:
            if image not in self._loaded:
                run(self.tool, "load", image, timeout_s=300)
                self._loaded.add(image)

    @contextmanager
    def namespace(self) -> Iterator[Namespace]:
        """A namespace that enforces the "restricted" standard; it goes with its volumes."""
        one = Namespace(self, f"cf-{uuid.uuid4().hex[:8]}")
        self.kubectl("create", "namespace", one.name)
        try:
            self.kubectl("label", "namespace", one.name, RESTRICTED)
            yield one
        finally:
            one.remove()

    def start_metrics(self) -> None:
        """Run metrics-server on the host, as the node's DNS does, and register its API."""
        if self._metrics is not None or "cpu" in self._first_metric():
            return
        log = (STATE / "metrics-server.log").open("ab")
        with log:
            self._metrics = subprocess.Popen(
                [
                    program(METRICS_SERVER),
                    f"--kubeconfig={self.kubeconfig}",
                    f"--authentication-kubeconfig={self.kubeconfig}",
                    f"--authorization-kubeconfig={self.kubeconfig}",
                    "--authentication-skip-lookup",
                    f"--cert-dir={STATE / 'metrics-server'}",
                    "--bind-address=10.91.0.1",
                    f"--secure-port={_METRICS_PORT}",
                    "--kubelet-insecure-tls",
                    "--kubelet-use-node-status-port",
                    "--kubelet-preferred-address-types=InternalIP",
                    "--metric-resolution=10s",
                    "--kubelet-request-timeout=9s",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.kubectl("apply", "--filename=-", stdin=_METRICS_API)
            wait_until(lambda: "cpu" in self._first_metric(), "metrics of the node", 120)
        except BaseException:
            self.stop_metrics()
            raise

    def stop_metrics(self) -> None:
        if self._metrics is None:
            return
        if self._ran_before:
            self.kubectl("delete", "--filename=-", "--ignore-not-found", stdin=_METRICS_API)
        self._metrics.terminate()
        try:
            self._metrics.wait(20)
        except subprocess.TimeoutExpired:
            self._metrics.send_signal(signal.SIGKILL)
            self._metrics.wait(20)
        self._metrics = None

    def _first_metric(self) -> str:
        if self._metrics is not None:
            assert self._metrics.poll() is None, f"see {STATE / 'metrics-server.log'}"
        try:
            return self.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/here")
        except CommandFailed:
            return ""


class Namespace:
    """One namespace of a test: `kubectl` and `helm` within it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        return self.cluster.kubectl(
            f"--namespace={self.name}", *arguments, stdin=stdin, timeout_s=timeout_s
        )

    def helm(self, *arguments: str, timeout_s: float = 400) -> str:
        return self.cluster.helm(*arguments, f"--namespace={self.name}", timeout_s=timeout_s)

    def get(self, *what: str) -> dict[str, Any]:
        """An object, or a list of them under `items`."""
        document: dict[str, Any] = json.loads(self.kubectl("get", *what, "--output=json"))
        return document

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """The pods that the labels select and that do not end."""
        items: list[dict[str, Any]] = self.get("pods", f"--selector={selector}")["items"]
        return [one for one in items if "deletionTimestamp" not in one["metadata"]]

    def ready(self, selector: str) -> list[str]:
        """Names of the pods that the labels select and that take requests."""
        return [pod["metadata"]["name"] for pod in self.pods(selector) if _is_ready(pod)]

    def rolled_out(self, *kinds_and_names: str, timeout_s: float = 180) -> None:
        for one in kinds_and_names:
            self.kubectl(
                "rollout", "status", one, f"--timeout={timeout_s:.0f}s", timeout_s=timeout_s + 10
            )

    def kill(self, pod: str, container: str) -> None:
        """Kill the processes of a container, as a lack of memory would; its pod stays."""
        states = self.get("pod", pod)["status"]["containerStatuses"]
        of = {each["name"]: each["containerID"].rpartition("/")[2] for each in states}
        self.cluster.kill_task(of[container])

    def evict(self, pod: str) -> None:
        """Ask for its eviction, as a drain of the node does; a budget may refuse it."""
        document = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        }
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        self.cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(document))

    def remove(self) -> None:
        """The namespace and all in it, and what its claims have written."""
        self.cluster.kubectl(
            "delete", "namespace", self.name, "--wait=true", "--timeout=300s", timeout_s=310
        )
        for volume in json.loads(self.cluster.kubectl("get", "pv", "--output=json"))["items"]:
            if volume["spec"].get("claimRef", {}).get("namespace") == self.name:
                _empty(self.cluster, volume)


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 60) -> float:
    """Seconds until it was true; raises AssertionError with `what` after `timeout_s`."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + timeout_s, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.3)
    return time.monotonic() - began


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _empty(cluster: Cluster, volume: dict[str, Any]) -> None:
    """A volume as it was before its claim: no provisioner does that for a folder of the host."""
    name, folder = volume["metadata"]["name"], Path(volume["spec"]["hostPath"]["path"])
    assert folder.parent == STATE / "volumes", f"{folder} is no volume of the tests' cluster"
    cluster.kubectl("delete", "pv", name)
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    kept = ("storageClassName", "capacity", "accessModes", "hostPath")
    document = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {key: volume["spec"][key] for key in kept},
    }
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(document))


_METRICS_PORT = 14443
# The script's API server has no certificate to show to others, so it asks as nobody.
_METRICS_API = f"""
apiVersion: v1
kind: Service
metadata: {{name: metrics-server, namespace: kube-system}}
spec: {{ports: [{{name: https, port: 443, protocol: TCP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: metrics-server
  namespace: kube-system
  labels: {{kubernetes.io/service-name: metrics-server}}
addressType: IPv4
endpoints: [{{addresses: [10.91.0.1]}}]
ports: [{{name: https, port: {_METRICS_PORT}, protocol: TCP}}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1beta1.metrics.k8s.io}}
spec:
  service: {{name: metrics-server, namespace: kube-system}}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: tests-read-metrics}}
rules:
- {{apiGroups: [metrics.k8s.io], resources: ["*"], verbs: [get, list]}}
- {{nonResourceURLs: ["/apis/*", "/openapi/*"], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: tests-read-metrics}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tests-read-metrics}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:unauthenticated"}}]
"""

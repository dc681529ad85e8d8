"""What a schema of Kubernetes does not see: how the parts of manifests fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_WORKLOADS = ("Deployment", "StatefulSet")


def faults(objects: Sequence[Object], outside: Sequence[str] = ()) -> list[str]:
    """The faults of manifests that are applied together.

    `outside`: names of Secrets and claims that others make.
    """
    return list(_Manifests(objects, frozenset(outside)).faults())


class _Manifests:
    def __init__(self, objects: Sequence[Object], outside: frozenset[str]) -> None:
        self.objects = objects
        self.outside = outside
        self.workloads = [each for each in objects if each["kind"] in _WORKLOADS]
        self.labels = [_template(each)["metadata"]["labels"] for each in self.workloads]

    def faults(self) -> Iterator[str]:
        names = [(each["kind"], each["metadata"]["name"]) for each in self.objects]
        yield from (
            f"{kind} {name} twice" for kind, name in set(names) if names.count((kind, name)) > 1
        )
        for each in self.objects:
            where = f"{each['kind']} {each['metadata']['name']}"
            yield from (f"{where}: {fault}" for fault in self._of(each))

    def _of(self, each: Object) -> Iterator[str]:
        name = each["metadata"]["name"]
        if not _NAME.fullmatch(name):
            yield f"the name {name} is no DNS label"
        for key, value in each["metadata"].get("labels", {}).items():
            if not isinstance(value, str) or not _LABEL.fullmatch(value):
                yield f"the label {key}: {value!r}"
        if each["kind"] in _WORKLOADS:
            yield from self._workload(each)
        check = getattr(self, f"_{each['kind'].lower()}", None)
        if check is not None:
            yield from check(each)

    def _workload(self, each: Object) -> Iterator[str]:
        template = _template(each)
        if not _selects(each["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]):
            yield "its selector does not match its pods' labels"
        pod = template["spec"]
        for key in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod.get(key) is not False:
                yield f"{key} is not false"
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        claims = each["spec"].get("volumeClaimTemplates", ())
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounted: set[str] = set()
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
            mounted |= mounts
            yield from (f"the mount {mount} of no volume" for mount in mounts - volumes)
            yield from self._container(container, pod["terminationGracePeriodSeconds"])
        yield from (f"the volume {volume} is not mounted" for volume in volumes - mounted)
        yield from self._restricted(pod)
        for volume in pod.get("volumes", ()):
            yield from self._source(volume)

    def _container(self, container: Object, grace_s: int) -> Iterator[str]:
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        yield from (f"the port {port}" for port in ports.values() if not 1024 <= port <= 65535)
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet") or probe.get("tcpSocket")
            if asked and asked["port"] not in ports:
                yield f"{kind} asks the port {asked['port']}, which is not there"
        if "livenessProbe" in container and "startupProbe" not in container:
            yield "a liveness probe without a startup probe"
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        if sleep and int(sleep[1]) >= grace_s:
            yield f"it sleeps {sleep[1]} s of the {grace_s} s that it has to end"
        resources = container.get("resources", {})
        for kind, quantities in resources.items():
            for key, quantity in quantities.items():
                if not _QUANTITY.fullmatch(str(quantity)):
                    yield f"{kind} of {key}: {quantity}"
            if any(not _QUANTITY.fullmatch(str(each)) for each in quantities.values()):
                return
        for key in resources.get("requests", {}).keys() & resources.get("limits", {}).keys():
            if _number(resources["requests"][key]) > _number(resources["limits"][key]):
                yield f"it requests more {key} than its limit"
        for variable in container.get("env", ()):
            if not isinstance(variable.get("value", ""), str):
                yield f"the variable {variable['name']} is no text"
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            if wanted:
                yield from self._wants("Secret", wanted["name"], wanted["key"])

    def _restricted(self, pod: Object) -> Iterator[str]:
        """Pod Security "restricted", which a server judges only when a pod is made."""
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield "it may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield "no seccomp profile"
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{container['name']} may gain privileges"
            if own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{container['name']} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{container['name']} may write to its image"

    def _source(self, volume: Object) -> Iterator[str]:
        if "secret" in volume:
            keys = [item["key"] for item in volume["secret"]["items"]]
            yield from self._wants("Secret", volume["secret"]["secretName"], *keys)
        if "configMap" in volume:
            yield from self._wants("ConfigMap", volume["configMap"]["name"])

    def _wants(self, kind: str, name: str, *keys: str) -> Iterator[str]:
        if name in self.outside:
            return
        wanted = (kind, name)
        there = [
            each for each in self.objects if (each["kind"], each["metadata"]["name"]) == wanted
        ]
        if not there:
            yield f"the {kind} {name}, which is not there"
        for each in there:
            missing = set(keys) - each["data"].keys()
            yield from (f"the key {key} of the {kind} {name}" for key in missing)

    def _matched(self, selector: Mapping[str, str]) -> list[Object]:
        return [
            workload
            for workload, labels in zip(self.workloads, self.labels, strict=True)
            if _selects(selector, labels)
        ]

    def _service(self, each: Object) -> Iterator[str]:
        matched = self._matched(each["spec"]["selector"])
        if len(matched) != 1:
            yield f"it selects {len(matched)} workloads"
        for port in each["spec"]["ports"]:
            names = {
                named["name"]
                for workload in matched
                for container in _template(workload)["spec"]["containers"]
                for named in container.get("ports", ())
            }
            if port["targetPort"] not in names:
                yield f"the port {port['targetPort']}, which its pods lack"
            if not 1 <= port["port"] <= 65535:
                yield f"the port {port['port']}"
            if "nodePort" in port and not 30000 <= port["nodePort"] <= 32767:
                yield f"the node's port {port['nodePort']}"

    def _poddisruptionbudget(self, each: Object) -> Iterator[str]:
        if len(self._matched(each["spec"]["selector"]["matchLabels"])) != 1:
            yield "it does not select one workload"
        if each["spec"].get("maxUnavailable") != 1:
            yield "it can keep a node from being drained"

    def _networkpolicy(self, each: Object) -> Iterator[str]:
        if len(self._matched(each["spec"]["podSelector"]["matchLabels"])) != 1:
            yield "it does not select one workload"
        for rule in each["spec"]["ingress"]:
            for peer in rule.get("from", ()):
                labels = peer.get("podSelector", {}).get("matchLabels")
                own = labels and labels.get("app.kubernetes.io/name") == "compreface"
                test = own and labels["app.kubernetes.io/component"] == "test"
                if own and not test and not self._matched(labels):
                    yield f"it lets in pods that nobody makes: {labels}"

    def _horizontalpodautoscaler(self, each: Object) -> Iterator[str]:
        target = each["spec"]["scaleTargetRef"]
        scaled = [
            workload
            for workload in self.workloads
            if (workload["kind"], workload["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        if not scaled:
            yield "it scales nothing"
        for workload in scaled:
            if "replicas" in workload["spec"]:
                yield "the Deployment's own replicas undo its work"
            (container,) = _template(workload)["spec"]["containers"]
            if "cpu" not in container["resources"].get("requests", {}):
                yield "its pods request no CPU, so that it has no share to go by"
        if each["spec"]["minReplicas"] > each["spec"]["maxReplicas"]:
            yield "its least is more than its most"

    def _ingress(self, each: Object) -> Iterator[str]:
        services = {
            other["metadata"]["name"]: {port["name"] for port in other["spec"]["ports"]}
            for other in self.objects
            if other["kind"] == "Service"
        }
        for rule in each["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                if service["port"]["name"] not in services.get(service["name"], set()):
                    yield f"it leads to {service}, which is not there"


def _template(workload: Object) -> Any:
    return workload["spec"]["template"]


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def _number(quantity: Any) -> float:
    match = re.fullmatch(r"([\d.]+)(\D*)", str(quantity))
    assert match, quantity
    factor = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(match[1]) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, **factor}[match[2]]

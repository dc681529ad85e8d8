"""The JSON Schema of a chart's values; settings come from the table of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from compreface_cli.config.settings_table import BY_KEY, MAX_REPLICAS, Rule
from compreface_cli.plan import jdbc
from compreface_cli.project.targets.chart_values import ENGINE_SETTINGS, SETTINGS

_USER = BY_KEY["postgres_user"].help
Schema: TypeAlias = dict[str, Any]

# Names as Kubernetes takes them: a DNS label, a DNS subdomain, a quantity, a label's value.
_LABEL = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"
_SUBDOMAIN = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
_HOST = r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_REPOSITORY = r"^[a-z0-9]([A-Za-z0-9._/:-]{0,254}[A-Za-z0-9])?$"
_TAG = r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"
_DIGEST = r"^(sha256:[0-9a-f]{64})?$"
_JDBC = r"^(jdbc:postgresql://[^\x00-\x20]+)?$"
_NODE_PORT = "Port on every node, 30000 to 32767; 0: chosen by Kubernetes."


def schema(of: Mapping[str, Any]) -> Schema:
    """The schema of the chart whose own values are `of`, which are its defaults there."""
    root = _object("", **_values())
    # Helm puts `global` beside the values of a chart that another one depends on.
    root["properties"]["global"] = {"type": "object"}
    _add_defaults(root, of)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values", **root}


def _values() -> dict[str, Schema]:
    return {
        "services": _choice("All five services, or the engine alone.", "full", "core"),
        "settings": _object(
            "Settings of the services beside the engine.",
            # a database elsewhere may have users of other names than the setting allows
            postgres_user={"type": "string", "description": _USER, "minLength": 1, "maxLength": 63},
            **{key: setting(key) for key in SETTINGS[1:]},
        ),
        "secrets": _object(
            "Passwords and keys: give them in a file of your own, or name a Secret.",
            existingSecret=_text(
                "Secret with the keys POSTGRES_PASSWORD, EMAIL_PASSWORD and, for API keys, "
                "api-keys (a line `sha256:HEX` each); empty: the chart makes one.",
                _SUBDOMAIN,
            ),
            postgres_password=setting("postgres_password"),
            email_password=setting("email_password"),
            api_keys=setting("api_keys"),
        ),
        "engine": _engine(),
        "admin": _object("The service that holds users and migrates the schema.", **_pod()),
        "api": _object(
            "The service that clients ask.",
            **_pod(),
            replicas=_whole("Number of api processes; more than one needs allowSeveral.", 1, 100),
            allowSeveral=_flag(BY_KEY["allow_several_apis"].help),
        ),
        "fe": _object(
            "nginx with the UI, which leads to the other services.",
            **_pod(),
            replicas=_whole("Number of pods.", 1, 100),
            service=_object(
                "Its Service, the address of the installation.",
                type=_choice("Kind.", "ClusterIP", "NodePort", "LoadBalancer"),
                port=_whole("Port of the Service.", 1, 65535),
                nodePort=_whole(_NODE_PORT, 0, 32767),
                annotations=_map("Annotations, as a cloud's load balancer reads them."),
            ),
            tls=_object(
                "TLS at the pod itself; with an Ingress it usually ends there.",
                secretName=_text("Secret of the type kubernetes.io/tls; empty: none.", _SUBDOMAIN),
            ),
        ),
        "database": _object(
            "PostgreSQL in the cluster, or elsewhere.",
            **_pod(),
            enabled=_flag("Whether the chart runs a PostgreSQL of its own."),
            external=_object(
                "Another database.",
                jdbc=_text("Its address, like jdbc:postgresql://db.example.com:5432/frs.", _JDBC),
                rootCert=_text(
                    "Certificate authority in PEM that its TLS is verified with; the address names "
                    f"it as {jdbc.ROOT_CERT}.",
                    None,
                ),
            ),
            volume=_object(
                "Its volume, which stays after an uninstall.",
                size=_text("Size of the claim; it can only grow.", _QUANTITY),
                storageClassName=_text("Storage class; empty: the cluster's own.", _SUBDOMAIN),
                existingClaim=_text("Claim that is there already; empty: a new one.", _SUBDOMAIN),
            ),
        ),
        "drain": _object(
            "How a pod ends.",
            delaySeconds=_whole(
                "Seconds that a pod goes on after it was told to end, until all nodes know.", 1, 60
            ),
        ),
        "networkPolicy": _object(
            "Who may reach which pod, where the cluster's network enforces it.",
            enabled=_flag("Whether there are policies."),
            prometheus=_list("Peers that read the engines' /metrics.", {"type": "object"}),
            engineFrom=_list("Further peers that may reach the engines.", {"type": "object"}),
            databaseFrom=_list("Further peers that may reach the database.", {"type": "object"}),
        ),
        "ingress": _object(
            "An Ingress to the UI.",
            enabled=_flag("Whether there is one."),
            className=_text("Its class; empty: the cluster's own.", _SUBDOMAIN),
            hosts={**_list("Host names.", _text("", _HOST)), "minItems": 1},
            tlsSecretName=_text("Secret with its certificate; empty: no TLS.", _SUBDOMAIN),
            annotations=_map("Annotations, such as the largest request of its controller."),
        ),
        "gateway": _object(
            "A route of the Gateway API to the UI.",
            enabled=_flag("Whether there is one; the cluster needs the API's kinds."),
            parentRefs=_list("Its gateways.", {"type": "object"}),
            hostnames=_list("Host names; empty: all of the gateway's.", _text("", _HOST)),
        ),
        "monitoring": _object(
            "Objects of the Prometheus operator, and a dashboard.",
            enabled=_flag("Whether there are a ServiceMonitor and a PrometheusRule."),
            dashboard=_flag("Whether there is a ConfigMap with the dashboard."),
            interval=_text("How often the engines are asked.", r"^[0-9]+(ms|s|m)$"),
            labels=_map("Labels by which the operator's Prometheus selects them."),
            keySecret=_object(
                "Secret with one of the engine's API keys; empty: it asks for none.",
                name=_text("Its name.", _SUBDOMAIN),
                key=_text("The key in it.", r"^[A-Za-z0-9._-]*$"),
            ),
        ),
        "imagePullSecrets": _list(
            "Secrets for the registry, each as {name: ...}.",
            {"type": "object", "required": ["name"]},
        ),
        "commonLabels": _map("Labels of every object and pod.", _VALUE),
        "commonAnnotations": _map("Annotations of every pod."),
    }


def _engine() -> Schema:
    return _object(
        "The engine.",
        **_pod(),
        replicas=_whole(
            "Number of engines, unless they are scaled by themselves.", 1, MAX_REPLICAS
        ),
        calculator=_text("Name of its calculator, for the volume's annotation.", None),
        settings={
            **_object(
                "Its settings; one that is left out has the engine's own default.",
                **{key: setting(key) for key in ENGINE_SETTINGS},
            ),
            "required": ["max_detect_size"],
        },
        apiKeys=_flag("Whether it asks for an API key: secrets has them."),
        startSeconds=_whole("Seconds that its start may take.", 1, 3600),
        progressDeadlineSeconds=_whole(
            "Seconds after which a rollout without progress has failed.", 10, 86400
        ),
        gpu=_object(
            "Cards of each engine.",
            count=_whole("Their number; 0: none.", 0, 1),
            resourceName=_text(
                "Name by which the device plugin offers them.", r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$"
            ),
            runtimeClassName=_text("RuntimeClass with the cards' libraries.", _SUBDOMAIN),
        ),
        service=_object(
            "Its Service.",
            type=_choice("Kind.", "ClusterIP", "NodePort", "LoadBalancer"),
            nodePort=_whole(_NODE_PORT, 0, 32767),
        ),
        autoscaling=_object(
            "A number of engines that follows the load.",
            enabled=_flag("Whether it does; the cluster needs a metrics server."),
            minReplicas=_whole("Least number.", 1, MAX_REPLICAS),
            maxReplicas=_whole("Largest number.", 1, MAX_REPLICAS),
            cpuPercent=_whole("CPU to hold, in percent of what they request.", 1, 100),
            queueLength=_whole(
                "Waiting requests to hold for each engine; 0: not by the queue. The cluster needs "
                "an adapter that offers the metric.",
                0,
                100_000,
            ),
            queueMetric=_text("Name of that metric.", r"^[A-Za-z0-9_:./-]+$"),
            scaleDownSeconds=_whole("Seconds of less load before it shrinks.", 0, 3600),
        ),
    )


def _pod() -> dict[str, Schema]:
    """What each kind of pod can be given."""
    return {
        "image": _object(
            "Its image.",
            repository=_text("Name with the registry.", _REPOSITORY),
            tag=_text("Tag; empty with a digest.", _TAG),
            digest=_text("Digest, which goes before the tag: sha256:...", _DIGEST),
            pullPolicy=_choice("When it is pulled.", "Always", "IfNotPresent", "Never"),
        ),
        "uid": _whole("User of the process; root is refused.", 1, 2**31 - 1),
        "extraEnv": _map("Further environment variables."),
        "podLabels": _map("Labels of its pods.", _VALUE),
        "podAnnotations": _map("Annotations of its pods."),
        "nodeSelector": _map("Labels of the nodes it may run on.", _VALUE),
        "tolerations": _list("Taints it tolerates.", {"type": "object"}),
        "affinity": {"type": "object", "description": "Affinity."},
        "priorityClassName": _text("PriorityClass.", _SUBDOMAIN),
        "resources": _object(
            "CPU and memory.",
            requests=_quantities("What a node must have free."),
            limits=_quantities("What it may use."),
        ),
    }


def setting(key: str) -> Schema:
    """The schema of a setting, from its row of the table."""
    row = BY_KEY[key]
    rule = row.parse
    assert isinstance(rule, Rule), f"the parser of {key} has no schema"  # noqa: S101
    found: Schema = {**rule.schema, "description": row.help}
    if row.secret and found["type"] == "string":
        del found["pattern"]  # a refusal would show the password
    return found


def _object(description: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "additionalProperties": False,
        "properties": properties,
    }


def _text(description: str, pattern: str | None) -> Schema:
    return {
        "type": "string",
        **({"description": description} if description else {}),
        **({"pattern": pattern} if pattern else {}),
    }


def _choice(description: str, *allowed: str) -> Schema:
    return {"type": "string", "description": description, "enum": list(allowed)}


def _whole(description: str, low: int, high: int) -> Schema:
    return {"type": "integer", "description": description, "minimum": low, "maximum": high}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _list(description: str, items: Schema) -> Schema:
    return {"type": "array", "description": description, "items": items}


def _map(description: str, pattern: str | None = None) -> Schema:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": _text("", pattern),
    }


def _quantities(description: str) -> Schema:
    values: Schema = {"type": ["string", "integer"], "pattern": _QUANTITY}
    return {"type": "object", "description": description, "additionalProperties": values}


def _add_defaults(of: Schema, values: Any) -> None:
    """Put each value of the chart into its schema, for editors and the reference."""
    properties = of.get("properties", {})
    for key, value in values.items():
        inner = properties[key]
        if "properties" in inner:
            _add_defaults(inner, value)
        else:
            inner["default"] = value

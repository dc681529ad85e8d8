"""The stack for Docker Swarm: what it says, what it never says, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli.config import paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.project.targets import TARGETS, swarm
from tests.cli.certificates import pair
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.cli.test_render import plan

OPEN: dict[str, Any] = {"bind": "0.0.0.0"}


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def stack(wanted: Plan) -> dict[str, Any]:
    rendered = swarm.render(wanted, with_models=False, revision="0" * 40)
    document: dict[str, Any] = yaml.safe_load(str(rendered.files[swarm.STACK_FILE]))
    return document


def test_the_engines_are_replaced_start_first_and_the_rest_one_at_a_time() -> None:
    services = stack(plan(**OPEN, replicas=4))["services"]
    engine = services["compreface-core"]["deploy"]
    assert engine["replicas"] == 4
    assert engine["update_config"]["order"] == "start-first"
    assert engine["update_config"]["failure_action"] == "rollback"
    assert "placement" not in engine
    for name in ("postgres-db", "admin", "api", "fe"):
        assert services[f"compreface-{name}"]["deploy"]["update_config"]["order"] == "stop-first"


def test_the_database_is_held_to_the_node_with_its_volume_or_is_not_there() -> None:
    document = stack(plan(**OPEN, instance="mine"))
    placement = document["services"]["compreface-postgres-db"]["deploy"]["placement"]
    assert placement["constraints"] == ["node.labels.cf-mine.database == true"]
    assert document["volumes"]["postgres-data"]["name"] == plan(**OPEN, instance="mine").volume
    elsewhere = stack(plan(**OPEN, postgres_host="db.example.org"))
    assert "compreface-postgres-db" not in elsewhere["services"]
    assert "volumes" not in elsewhere


def test_no_service_gets_a_password_but_by_a_secret() -> None:
    passwords: dict[str, Any] = {
        "postgres_password": "hunter2hunter2",
        "email_password": "another-one",
    }
    rendered = swarm.render(plan(**OPEN, **passwords), with_models=False, revision="0" * 40)
    texts = [content for content in rendered.files.values() if isinstance(content, str)]
    assert not [text for text in texts if "hunter2" in text or "another-one" in text]
    document = yaml.safe_load(str(rendered.files[swarm.STACK_FILE]))
    for service in document["services"].values():
        assert "POSTGRES_PASSWORD" not in service.get("environment", {})
    assert "email-password" not in document["secrets"]
    assert "email-password" in stack(plan(**OPEN, enable_email_server=True))["secrets"]


@pytest.mark.parametrize(
    ("publish", "mode", "replicas"),
    [("auto", "host", None), ("host", "host", None), ("ingress", "ingress", 2)],
)
def test_ports_are_numbers_on_each_node_or_on_the_ingress_network(
    publish: str, mode: str, replicas: int | None
) -> None:
    fe = stack(plan(**OPEN, publish=publish))["services"]["compreface-fe"]
    assert fe["ports"] == [
        {"target": 80, "published": 8000, "mode": mode},
        {"target": 3000, "published": 3000, "mode": mode},
    ]
    assert fe["deploy"].get("replicas") == replicas
    # A name that resolves to its tasks cannot have a port on the ingress network.
    assert ("endpoint_mode" in fe["deploy"]) == (mode == "host")


def test_a_changed_route_or_certificate_is_a_config_of_another_name(tmp_path: Path) -> None:
    def named(**flags: Any) -> str:
        name: str = stack(plan(**OPEN, **flags))["configs"]["ui-routes"]["name"]
        return name

    assert named() == named() != named(open_routes=True)
    files = pair(tmp_path)
    document = stack(plan(**OPEN, tls_cert=str(files.cert), tls_key=str(files.key)))
    assert document["secrets"]["tls-key"]["file"] == "./tls/key.pem"
    assert document["configs"]["tls-cert"]["file"] == "./tls/cert.pem"
    assert document["services"]["compreface-fe"]["ports"][0]["target"] == 443


def test_the_root_certificate_of_a_database_is_a_config_of_the_java_services(
    tmp_path: Path,
) -> None:
    root = tmp_path / "ca.pem"
    root.write_text("a certificate")
    url = f"postgresql://me@db.example.org/faces?sslmode=verify-full&sslrootcert={root}"
    document = stack(plan(**OPEN, database_url=url))
    assert document["configs"]["database-ca"]["file"] == "./database/ca.pem"
    for name in ("compreface-admin", "compreface-api"):
        (config,) = document["services"][name]["configs"]
        assert config["source"] == "database-ca"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"services": "core", **OPEN}, "--services core"),
        ({"device": "cuda", **OPEN}, "--launcher compose"),
        ({}, "--bind 0.0.0.0"),
        ({"api_keys": "a-key-of-eight", **OPEN}, "keys"),
        ({"port": "auto", **OPEN}, "a number"),
        ({"core_port": "auto", **OPEN}, "a number"),
    ],
)
def test_what_swarm_cannot_run_is_refused_with_the_way(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        swarm.render(plan(**flags))
    assert named in str(refused.value.hint)


def test_the_folder_keeps_its_key_and_names_its_command(cf: Cf, tmp_path: Path) -> None:
    words = ("render", "embedded", "--target", "swarm", "--bind", "0.0.0.0", "-o", "out")
    done = cf(*words)
    assert_named(done.out, "out/deploy.sh")
    key = writer.read_env(tmp_path / "out" / ".env")[swarm.ENGINE_KEY]
    assert len(key) >= 32
    assert cf(*words, "--json").document["changed"] == []
    assert writer.read_env(tmp_path / "out" / ".env")[swarm.ENGINE_KEY] == key
    refused = cf("render", "embedded", "--target", "swarm", "-o", "other")
    assert refused.code == 3
    assert not (tmp_path / "other").exists()
    assert paths.instances_dir().exists() is False


@pytest.mark.parametrize("flags", [{}, {"publish": "ingress"}, {"postgres_host": "db.example.org"}])
def test_docker_reads_the_stack(flags: dict[str, Any], tmp_path: Path) -> None:
    """`docker stack config` needs the program alone, and refuses what Swarm does not know."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("the docker program is not installed")
    rendered = TARGETS["swarm"].render()(plan(**OPEN, **flags), with_models=False)
    (tmp_path / "ui").mkdir()
    for name in (swarm.STACK_FILE, swarm.DEPLOY_FILE, "ui/nginx.conf.template"):
        (tmp_path / name).write_text(str(rendered.files[name]))
    chosen = {"POSTGRES_PASSWORD_SECRET": "one", "ENGINE_KEY_SECRET": "other", "PATH": "/bin"}
    read = subprocess.run(
        [docker, "stack", "config", f"--compose-file={tmp_path / swarm.STACK_FILE}"],
        env=chosen,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    assert read.stderr == ""
    assert yaml.safe_load(read.stdout)["secrets"]["postgres-password"]["name"] == "one"
    shell = ["sh", "-n", str(tmp_path / swarm.DEPLOY_FILE)]
    assert subprocess.run(shell, check=False).returncode == 0


def test_deploy_sh_names_a_secret_as_cf_does(tmp_path: Path) -> None:
    """So that neither makes the other's secrets anew."""
    env = {"POSTGRES_PASSWORD": "it's a \\ word", swarm.ENGINE_KEY: "a-key", "EMAIL_PASSWORD": ""}
    text = str(swarm.render(plan(**OPEN, instance="mine"), with_models=False).files["deploy.sh"])
    function = text[text.index("secret() {") : text.index("\n}\n") + 3]
    docker = "docker() { return 0; }\n"
    for name, (key, form) in swarm.PASSWORDS.items():
        script = f"{docker}{function}secret {name} '{form}' \"$VALUE\""
        said = subprocess.run(
            ["sh", "-c", script],
            env={
                swarm.ENGINE_KEY: env[swarm.ENGINE_KEY],
                "VALUE": env[key],
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == swarm.secret("cf-mine", name, env)[0]

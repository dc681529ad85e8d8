"""The rendered builds whose texts are kept; `python -m tests.golden.rendered` writes them anew."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.config import settings
from compreface_cli.plan import plan
from compreface_cli.project.rendered import FileRef, RenderedProject
from compreface_cli.project.targets import TARGETS

FOLDER = Path(__file__).parent / "rendered"
REVISION = "0" * 40
NOWHERE = Path("/nowhere")
AUTHORITY = Path(__file__).parent / "authority.pem"
MONITORING = "monitoring/"  # much text that differs in few values: kept of one instance
WITH_MONITORING = "second"

# name of the folder -> build and flags
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in (
            "embedded",
            "facenet",
            "mobilenet",
            "mobilenet-gpu",
            "arcface-r100",
            "arcface-r100-gpu",
            "yunet-embedded",
            "mnet25-mobilefacenet",
            "buffalo-s",
            "buffalo-l",
            "auraface",
            "sface",
        )
    },
    "facenet-tensorflow": ("facenet", {"runtime": "tensorflow", "services": "core"}),
    "mobilenet-mxnet": ("mobilenet", {"runtime": "mxnet", "services": "core"}),
    "embedded-core": ("embedded", {"services": "core"}),
    "embedded-gpu-1": ("embedded", {"gpu_index": 1, "services": "core"}),
    "embedded-cuda12-legacy": ("embedded", {"device": "cuda", "wheels": "cuda12-legacy"}),
    "embedded-database-elsewhere": (
        "embedded",
        {
            "database_url": "postgresql://me%40here:pass-word@db-postgresql.example.org:5433/"
            f"my%20faces?sslmode=verify-full&sslrootcert={AUTHORITY}"
        },
    ),
    "embedded-all-settings": (
        "embedded",
        {
            "instance": "second",
            "bind": "0.0.0.0",
            "port": 8123,
            "core_port": 3123,
            "max_detect_size": 1024,
            "max_concurrency": 3,
            "max_wait_s": 2.5,
            "registry": "",
            "fe_version": "9",
            "admin_image": "here/admin:1",
            "postgres_user": "me",
            "postgres_db": "faces",
            "postgres_host": "db.example.org",
            "postgres_port": 5433,
            "email_from": "a $b 'c' \"d\" #e",
            "enable_email_server": True,
            "save_images_to_db": False,
            "max_file_size": "7MB",
            "max_request_size": "20M",
            "base_image": "python:3.12-slim-bookworm",
        },
    ),
}

# the same for other targets than Compose: target, build and flags
TARGETED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "swarm": ("swarm", "embedded", {"bind": "0.0.0.0"}),
    "swarm-all-settings": (
        "swarm",
        "embedded",
        {
            **CASES["embedded-all-settings"][1],
            "instance": "third",
            "replicas": 3,
            "publish": "ingress",
            "image": "registry.example.org/faces/compreface-core:7",
        },
    ),
}


def rendered(name: str) -> RenderedProject:
    """The project of that case, its models left out (they are no text)."""
    of, build, flags = TARGETED.get(name) or ("compose", *CASES[name])
    found = settings.resolve(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    wanted = plan.resolve(builds.load(resources.builds_dir() / f"{build}.yaml"), found)
    return TARGETS[of].render()(wanted, with_models=False, revision=REVISION)


def texts(project: RenderedProject) -> dict[str, str]:
    """The texts, and instead of the copied files a list of where they come from."""
    files = {
        path: content
        for path, content in project.files.items()
        if project.instance == WITH_MONITORING or not path.startswith(MONITORING)
    }
    copied = {
        path: content.source.name for path, content in files.items() if isinstance(content, FileRef)
    }
    # The hashes of the networks are the engine's affair; test_render.py compares them.
    found = {
        path: re.sub(r"=[0-9a-f]{64}", "=SHA256", text)
        for path, text in files.items()
        if isinstance(text, str)
    }
    return {**found, "copied.json": json.dumps(copied, indent=1) + "\n"}


def refresh() -> None:
    """Write all golden files; what no case names goes."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in (*CASES, *TARGETED):
        for path, text in texts(rendered(name)).items():
            target = FOLDER / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")


if __name__ == "__main__":
    refresh()

"""A container whose engine hangs comes back by itself: Docker restarts only what has ended."""

from __future__ import annotations

import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.machine import Docker, free_port, get, post_photograph, wait_until
from tests.engine import hanging_engine
from tests.engine.costly_pictures import grain, saved


def test_a_container_comes_back_from_a_hung_worker_and_from_a_hung_loop(
    docker: Docker, embedded: dict[str, Any], tmp_path: Path
) -> None:
    name, port = f"cf-e2e-{uuid.uuid4().hex[:8]}", free_port()
    # As process 1, with the rights and the restart policy of the rendered Compose file.
    docker(
        *("run", "--detach", f"--name={name}", "--restart=unless-stopped", "--read-only"),
        *("--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        *("--env=CF_STUCK_S=2", "--env=EXTRA_PLUGINS=,", f"--publish=127.0.0.1:{port}:3000"),
        *(embedded["image"], "python", "-c", Path(hanging_engine.__file__).read_text("utf-8")),
    )
    url = f"http://127.0.0.1:{port}"

    def lives() -> bool:
        try:
            return get(f"{url}/live")[0] == 200
        except OSError:
            return False

    def restarted(count: int) -> bool:
        return bool(docker.inspect(name)["RestartCount"] == count)

    try:
        wait_until(lives)
        heights = (hanging_engine.HANGS, hanging_engine.HOLDS_THE_LOCK)
        for count, height in enumerate(heights, start=1):
            picture = tmp_path / f"{height}.png"
            picture.write_bytes(saved(grain(height, 40), "PNG"))
            with suppress(OSError):
                post_photograph(f"{url}/find_faces", picture, timeout_s=1)
            wait_until(partial(restarted, count))
            wait_until(lives)
        log = docker("logs", name)
        assert "a worker has been stuck for" in log
        assert "the event loop has not run for" in log
        assert log.count(" bytes)") >= 2
        began = docker.inspect(name)["State"]["StartedAt"]
        docker("stop", name)
        state = docker.inspect(name)["State"]
        assert (state["ExitCode"], state["StartedAt"]) == (0, began), "and SIGTERM ends it"
    finally:
        docker("rm", "--force", name)

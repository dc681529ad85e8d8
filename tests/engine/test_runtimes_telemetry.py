"""Nothing about a user's machine is collected or sent while networks run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.shared import ROOT

_RUN = """
import sys, time
from pathlib import Path
from compreface_engine.runtimes.onnxruntime import OnnxSession
OnnxSession(Path(sys.argv[1]), threads=1)
time.sleep(1)  # the collector writes from a thread of its own
"""


def test_loading_a_network_leaves_no_device_id_and_no_event_in_the_home_folder(
    tmp_path: Path,
) -> None:
    model = ROOT / "engine" / "compreface_engine" / "embedded_models" / "mtcnn_rnet.onnx"
    environment = {
        **{key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"},
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT / "engine"),
    }
    subprocess.run(
        [sys.executable, "-c", _RUN, str(model)], env=environment, cwd=ROOT, check=True, timeout=120
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

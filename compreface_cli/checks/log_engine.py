"""Messages of the engine (`core`): its own, and those of ONNX Runtime, CUDA and Python."""

from __future__ import annotations

from compreface_cli.causes.docker import PORT_TAKEN
from compreface_cli.checks import cpu
from compreface_cli.checks.log_row import DISK_FULL, OUT_OF_MEMORY, WRONG_ARCHITECTURE, Row
from compreface_cli.errors import ConflictError
from compreface_cli.topics import Topic

_CORE = ("core",)

GPU_MEMORY = Topic(
    "gpu-out-of-memory",
    means="The memory of the GPU did not suffice.",
    why="The engine refuses the request, or ends at its start.",
    see="`nvidia-smi` lists the programs on the card with their memory.",
    ways=(
        "Stop other programs on the card, or choose another card: `--gpu-index N`.",
        "Let fewer requests compute at once: CF_MAX_CONCURRENCY=1.",
    ),
)

GPU_UNUSABLE = Topic(
    "gpu-unusable",
    means="The engine cannot use the GPU: a library or the driver is missing, or does not fit.",
    why="It ends rather than compute on the processor, which would be many times slower.",
    see="`cf doctor` judges driver, card and toolkit; `nvidia-smi` shows the driver.",
    ways=(
        "See to what `cf doctor` lists.",
        "Use a build without a GPU: `cf list-builds --cpu`.",
    ),
)

MODEL_MISSING = Topic(
    "engine-model-missing",
    means="A file of a model is not where the engine looks for it.",
    why="The engine cannot compute without it and ends.",
    see="`cf models verify`; the message names the file.",
    ways=(
        "`cf up` again: it prepares what is missing.",
        "Build the image anew if the file is absent in it: `cf up BUILD --build`.",
    ),
)

MODEL_DAMAGED = Topic(
    "engine-model-damaged",
    means="A file of a model can be read, and is not the one that was prepared.",
    why="The engine ends rather than compute embeddings of another network.",
    see="`cf models verify`.",
    ways=("`cf up BUILD --build` prepares it again.",),
)

STUCK = Topic(
    "engine-stuck",
    means="A computation did not end, so that the engine's watcher ended it (exit code 5).",
    why="A hung worker would take no further request. Those that waited are lost.",
    see="`cf logs INSTANCE --service core` has the picture's size and the place in the code.",
    ways=(
        "It is started again by itself. If it repeats with one photograph, report it.",
        "On a very slow machine allow more: CF_STUCK_S.",
    ),
)

REFUSED_SETTINGS = Topic(
    "engine-settings",
    means="The engine does not accept a setting, and says which.",
    why="It ends at its start.",
    see="The message names the variable and a value that works.",
    ways=("Correct the setting: `cf config list` shows where it is set; then `cf up` again.",),
)

OVERLOADED = Topic(
    "engine-overloaded",
    means="More requests arrive than the engine computes: its queue is full, or some waited too "
    "long, and it refused them with 503.",
    why="The api shows such a refusal to its users as an error 500.",
    see="`curl -s http://127.0.0.1:3000/metrics | grep -E 'queue|refused'`.",
    ways=(
        "Let more wait, and longer: CF_MAX_QUEUE, CF_MAX_WAIT_S.",
        "Use a faster build (`cf list-builds --for speed`) or more processors.",
    ),
)

NO_THREADS = Topic(
    "engine-threads",
    means="The system refused to start the threads or processes that the engine needs.",
    why="A limit of the container or of the user (pids, nproc) is reached; the engine ends.",
    see="`cat /sys/fs/cgroup/pids.max` in the container, `ulimit -u` for the user.",
    ways=(
        "Raise `pids_limit` in compose.override.yaml, or the limit of the user.",
        "Let fewer requests compute at once: CF_MAX_CONCURRENCY.",
    ),
)

ROWS: tuple[Row, ...] = (
    Row(
        PORT_TAKEN,
        _CORE,
        r"address already in use|port .* is (taken|in use)",
        "another program took the port",
        error=ConflictError,
    ),
    Row(
        cpu.LACKS,
        _CORE,
        r"illegal instruction|SIGILL|exit code 132",
        "this CPU lacks an instruction",
    ),
    Row(
        GPU_MEMORY,
        _CORE,
        r"CUDA (failure|error) 2\b|CUDA_ERROR_OUT_OF_MEMORY|CUDA.*out of memory|"
        r"CUBLAS_STATUS_ALLOC_FAILED",
        "the memory of the GPU ran out",
    ),
    Row(
        GPU_UNUSABLE,
        _CORE,
        r"CUDA|libcudart|cudnn|GPU_IDX=\d",
        "the GPU cannot be used; `cf doctor` says more",
    ),
    Row(DISK_FULL, _CORE, r"no space left", "the disk is full"),
    Row(
        NO_THREADS,
        _CORE,
        r"refused to start \d+ threads|can't start new thread|Resource temporarily unavailable",
        "the limit of threads or processes is reached",
    ),
    Row(
        OUT_OF_MEMORY,
        _CORE,
        r"out of memory|MemoryError|std::bad_alloc|SIGKILL|exit code 137|"
        r"Failed to allocate memory for requested buffer",
        "memory ran out",
    ),
    Row(
        STUCK,
        _CORE,
        r"a worker has been stuck for|the event loop has not run for",
        "a computation hung",
    ),
    Row(
        MODEL_DAMAGED,
        _CORE,
        r"is damaged: its SHA-256 is|cannot be loaded by (ONNX Runtime|OpenVINO|TensorFlow|MXNet)",
        "a model file is damaged",
    ),
    Row(
        MODEL_MISSING,
        _CORE,
        r"No such file|FileNotFoundError|needs the model .* does not exist|"
        r"is not an existing folder",
        "a file is missing",
    ),
    Row(WRONG_ARCHITECTURE, _CORE, r"exec format error", "its image is for another architecture"),
    Row(
        REFUSED_SETTINGS,
        _CORE,
        r"^(\S+ +\| )?compreface-engine: (?!ready)",
        "the engine refused its settings",
    ),
    Row(
        OVERLOADED,
        _CORE,
        r'"status": 503\b',
        "requests were refused, since too many wait",
        fatal=False,
    ),
)
"""The first that matches counts."""

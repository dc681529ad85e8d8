"""`make bench`: prints the measurements side by side; `--json` gives them as one document."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import (
    alone,
    attributes,
    builds,
    crowd,
    decode,
    efficiency,
    facenet,
    memory,
    mobilenet,
    mtcnn,
    scaling,
    servers,
    startup,
)
from bench.result import Chapter

REQUESTS = 200
REQUESTS_BEFORE_WEIGHING = 500


def _facenet(options: argparse.Namespace) -> list[Chapter]:
    return [
        facenet.measure(
            options.shared, kind, requests=options.requests, weigh_after=options.weigh_after
        )
        for kind in options.baseline
    ]


# The chapters that need weights and photographs.
CHAPTERS: Mapping[str, Callable[[argparse.Namespace], list[Chapter]]] = {
    "builds": lambda options: [builds.measure(options.shared, write=options.write)],
    "decode": lambda options: [decode.measure(options.shared)],
    "mtcnn": lambda options: [mtcnn.measure(options.shared)],
    "attributes": lambda options: [attributes.measure(options.shared)],
    "alone": lambda options: [alone.measure(options.shared)],
    "efficiency": lambda options: [efficiency.measure(options.shared)],
    "facenet": _facenet,
    "mobilenet": lambda options: [mobilenet.measure(options.shared, requests=options.requests)],
    "crowd": lambda options: [crowd.measure(options.shared, requests=2 * options.requests)],
    "memory": lambda options: [memory.measure(options.shared, requests=options.long)],
}

# Those that need neither.
RECORDED: Mapping[str, Callable[[], Chapter]] = {"scaling": scaling.chapter}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chapters; returns 0 where all goals are reached, else 1."""
    options = _parser().parse_args(arguments)
    wanted = options.what or ["startup", *RECORDED, *CHAPTERS]
    result: dict[str, Any] = {"schema_version": 1, "machine": _machine()}
    if not options.json:
        _print_machine(result["machine"])
    reached = True
    if "startup" in wanted:
        result["startup"] = startup.measure(options.rounds)
        reached = all(row["ok"] for row in result["startup"])
        if not options.json:
            _print_startup(result["startup"])
    for name in (name for name in RECORDED if name in wanted):
        reached = _keep(RECORDED[name](), name, result, options) and reached
    for name in (name for name in CHAPTERS if name in wanted):
        if options.shared is None or not (options.shared / servers.PHOTO).is_file():
            print(f"{name}: skipped, {_lacking(options.shared)}", file=sys.stderr)
            continue
        for chapter in CHAPTERS[name](options):
            reached = _keep(chapter, name, result, options) and reached
    if options.json:
        print(json.dumps(result, indent=2))
    return 0 if reached else 1


def _keep(chapter: Chapter, name: str, result: dict[str, Any], options: argparse.Namespace) -> bool:
    """Add the chapter to the result and print it; whether its goals are reached."""
    result.setdefault(name, []).append(chapter.as_json())
    if not options.json:
        print("\n" + chapter.text(), flush=True)
    return all(row.ok is not False for row in chapter.rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what", nargs="*", choices=("startup", *RECORDED, *CHAPTERS, []), default=[]
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=startup.ROUNDS, help="of the start-up")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="to each server")
    parser.add_argument(
        "--baseline", nargs="+", choices=("tuned", "plain"), default=["tuned", "plain"]
    )
    weigh = REQUESTS_BEFORE_WEIGHING
    parser.add_argument("--weigh-after", type=int, default=weigh, help="requests to each server")
    parser.add_argument("--long", type=int, default=memory.REQUESTS, help="of the memory chapter")
    parser.add_argument(
        "--shared",
        type=Path,
        default=os.environ.get("CF_SHARED") or None,
        help="folder of weights and photographs; else CF_SHARED",
    )
    parser.add_argument(
        "--write", action="store_true", help="keep the chapter builds as builds/measured.json"
    )
    return parser


def _lacking(shared: Path | None) -> str:
    if shared is None:
        return "no folder of weights and photographs is named: give --shared or set CF_SHARED"
    return f"{shared} has no weights and photographs"


def _machine() -> dict[str, Any]:
    flags, model = "", platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            model = value.strip() if key.strip() == "model name" else model
            flags = value if key.strip() == "flags" else flags
    except OSError:
        pass
    wide = [
        name
        for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
        if name in flags.split()
    ]
    load = os.getloadavg()
    return {
        "cpu": model,
        "vector_flags": wide,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load[0],
        "python": platform.python_version(),
    }


def _print_machine(machine: dict[str, Any]) -> None:
    flags = " ".join(machine["vector_flags"]) or "no wide vectors"
    cores, load = machine["cores"], machine["load_before"]
    print(f"{machine['cpu']}, {cores} cores, {flags}; load before {load:.1f}", flush=True)


def _print_startup(rows: list[dict[str, Any]]) -> None:
    print("\nstart-up, ms              cf   bare Typer   ratio (quartiles)   allowed")
    for row in rows:
        low, high = row["ratio_quartiles"]
        print(
            f"{row['case']:<18}{row['cf_ms']:>10.0f}{row['bare_ms']:>13.0f}"
            f"{row['ratio']:>8.2f} ({low:.2f}-{high:.2f})"
            f"{row['allowed']:>12.1f}  {'ok' if row['ok'] else 'MISSED'}"
        )


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: prints the measurements side by side; `--json` gives them as one document."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import engine, startup


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all that was asked for was reached, 1 if not."""
    options = _parser().parse_args(arguments)
    result: dict[str, Any] = {"schema_version": 1, "machine": _machine()}
    if options.what in ("startup", "all"):
        result["startup"] = startup.measure(options.rounds)
    if options.what in ("engine", "all"):
        if options.shared is not None and (options.shared / engine.PHOTO).is_file():
            result["engine"] = [
                engine.measure(
                    options.shared,
                    kind,
                    requests=options.requests,
                    weigh_after=options.weigh_after,
                )
                for kind in options.baseline
            ]
        else:
            print(f"engine: skipped, {_lacking(options.shared)}", file=sys.stderr)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0 if _reached(result) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "startup", "engine"), default="all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=startup.ROUNDS, help="of the start-up")
    parser.add_argument("--requests", type=int, default=engine.REQUESTS, help="to each server")
    parser.add_argument(
        "--baseline", nargs="+", choices=("tuned", "plain"), default=["tuned", "plain"]
    )
    weigh = engine.REQUESTS_BEFORE_WEIGHING
    parser.add_argument("--weigh-after", type=int, default=weigh, help="requests to each server")
    parser.add_argument(
        "--shared",
        type=Path,
        default=os.environ.get("CF_SHARED") or None,
        help="folder of weights and photographs; else CF_SHARED",
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
        name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in flags.split()
    ]
    load = os.getloadavg()
    return {
        "cpu": model,
        "vector_flags": wide,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load[0],
        "python": platform.python_version(),
    }


def _reached(result: dict[str, Any]) -> bool:
    rows = [row["ok"] for row in result.get("startup", [])]
    measured = result.get("engine", [])
    counting = [one for one in measured if _counts(one)]
    rows += [_holds(one) for one in counting]
    # Only a baseline that is no straw man counts; if there is none, nothing was shown.
    rows.append(bool(counting) or not measured)
    return all(rows)


def _counts(one: dict[str, Any]) -> bool:
    fastest: float = max(row["baseline_per_s"] for row in one["speed"])
    return fastest >= engine.BASELINE_COUNTS_FROM


def _holds(one: dict[str, Any]) -> bool:
    at_8 = next(row for row in one["speed"] if row["connections"] == 8)
    return bool(
        at_8["ratio"] >= engine.NEEDED_RATIO and one["memory_ratio"] <= engine.NEEDED_MEMORY
    )


def _print(result: dict[str, Any]) -> None:
    machine = result["machine"]
    flags = " ".join(machine["vector_flags"]) or "no wide vectors"
    cores, load = machine["cores"], machine["load_before"]
    print(f"{machine['cpu']}, {cores} cores, {flags}; load before {load:.1f}")
    if "startup" in result:
        print("\nstart-up, ms              cf   bare Typer   ratio (quartiles)   allowed")
        for row in result["startup"]:
            low, high = row["ratio_quartiles"]
            print(
                f"{row['case']:<18}{row['cf_ms']:>10.0f}{row['bare_ms']:>13.0f}"
                f"{row['ratio']:>8.2f} ({low:.2f}-{high:.2f})"
                f"{row['allowed']:>12.1f}  {'ok' if row['ok'] else 'MISSED'}"
            )
    for one in result.get("engine", []):
        _print_engine(one)


def _print_engine(one: dict[str, Any]) -> None:
    photo, boxes = Path(engine.PHOTO).name, len(one["boxes"])
    print(f"\nscans of {photo}, {boxes} equal boxes; {one['baseline']} baseline")
    print("             scans a second      p50, ms        CPU, ms a scan    ratio of speed")
    print("connections  engine     TF    engine     TF    engine     TF    (quartiles)")
    for row in one["speed"]:
        low, high = row["ratio_quartiles"]
        pairs = "".join(
            f"{row[f'engine_{what}']:>10.{digits}f}{row[f'baseline_{what}']:>7.{digits}f}"
            for what, digits in (("per_s", 1), ("p50_ms", 0), ("cpu_ms", 0))
        )
        print(f"{row['connections']:>9}{pairs}{row['ratio']:>8.2f} ({low:.2f}-{high:.2f})")
    ours, theirs = (one["memory"][name]["rss_bytes"] / 1e6 for name in ("engine", "baseline"))
    print(
        f"memory after {one['weighed_after']} requests, MB: {ours:.0f} against "
        f"{theirs:.0f}, ratio {one['memory_ratio']:.2f}"
    )
    verdict = "reached" if _holds(one) else "not reached"
    if not _counts(one):
        verdict = f"baseline below {engine.BASELINE_COUNTS_FROM} scans/s here: does not count"
    print(
        f"needed: {engine.NEEDED_RATIO} at 8 connections, memory {engine.NEEDED_MEMORY}: {verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m compreface_engine`: reads the settings, binds the port, loads the models, serves."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from compreface_engine import __version__, logs
from compreface_engine.core.errors import EXIT_CONFIGURATION, ConfigurationError
from compreface_engine.settings import Settings
from compreface_engine.watchdog import Heartbeat, run_watched

EXIT_PORT_TAKEN = 4

USAGE = """usage: python -m compreface_engine [check | recognition]

Serves the engine until SIGTERM. Environment variables configure it:
CF_HOST, CF_PORT, FACE_DETECTION_PLUGIN, CALCULATION_PLUGIN, EXTRA_PLUGINS, ...
(the engine's README lists all of them).

`check` loads the configured plugins and exits; see `check --help`. `recognition` compares the
embeddings of two calculators; see `recognition --help`."""


def main(arguments: list[str]) -> int:
    """Runs the engine until it is stopped; returns the exit code."""
    if arguments == ["--version"]:
        print(f"compreface-engine {__version__}")
        return 0
    if arguments[:1] == ["check"]:
        from compreface_engine import check

        return check.main(arguments[1:])
    if arguments[:1] == ["recognition"]:
        from compreface_engine import recognition

        return recognition.main(arguments[1:])
    if arguments:
        print(USAGE, file=sys.stdout if arguments in (["-h"], ["--help"]) else sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    return run_watched(_serve)


def _serve(heartbeat: Heartbeat) -> int:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    # Imported late, so that --version and errors of settings are printed at once.
    from compreface_engine.admission import stop_if_disconnected
    from compreface_engine.api.server import PortTaken, bind, serve
    from compreface_engine.api.telemetry import Telemetry

    try:
        settings = Settings.from_env(os.environ)
        log = logs.set_up(settings.log_level, settings.build_version)
        for warning in settings.warnings:
            log.warning(warning)
        with bind(settings.host, settings.port) as bound:
            telemetry = Telemetry.start(settings.service_name, __version__, traces=settings.traces)
            from compreface_engine.pipeline import Pipeline

            config = settings.pipeline_config()
            pipeline = Pipeline.load(config, telemetry.observe, stop_if_disconnected)
            serve(settings, pipeline, bound, telemetry, heartbeat)
    except ConfigurationError as error:
        return _print_error(str(error), EXIT_CONFIGURATION)
    except PortTaken as error:
        return _print_error(str(error), EXIT_PORT_TAKEN)
    return 0


def _print_error(reason: str, code: int) -> int:
    print(f"compreface-engine: {' '.join(reason.split())}", file=sys.stderr, flush=True)
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    """Exits at once while models load. A running server drains first and raises the signal anew."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The record of an instance while `cf up` changes it: saved before each change, restored by undo.

However the run ends, the next `cf` can read from it what was in progress (deploy/unfinished.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

from compreface_cli.deploy import running
from compreface_cli.deploy.observe import digest
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.instance import history
from compreface_cli.instance.history import Versions
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output


class RunRecord:
    """Of one run for a settled plan; `old`: the record before it."""

    def __init__(self, plan: Plan, old: Record | None, command: str = "") -> None:
        self._plan, self._old = plan, old
        self._store = running.instances()
        self._record = Record(
            name=plan.instance,
            build=plan.build,
            calculator=plan.calculator,
            services=plan.services,
            phase="starting",
            created=now(),
            deployment=old.deployment if old else {},  # until there is a new one
            previous_record=asdict(old) if old else None,
            plan=plan.as_dict(),
            engine_env=old.engine_env if old else "",
            adopted=old.adopted if old else {},
            command=command or f"cf up {plan.build}",
            task=old.task if old else {},
            images=old.images if old else {},
            history=old.history if old else [],
        )

    @property
    def touched(self) -> list[str]:
        """The services that may be in the middle of a stop."""
        return list(self._record.touched)

    @property
    def image(self) -> str:
        """Id of the engine's image that the run starts; "" until it is known."""
        deployment = self._record.deployment
        started = deployment and (not self._old or deployment != self._old.deployment)
        return str(deployment["data"].get("image") or "") if started else ""

    def begin(self) -> None:
        """Save it before anything is changed."""
        self._store.save(self._record)

    def prepared(self, new: Deployment, answer: KnownAnswer, engine_env: str) -> None:
        """Save that all is ready for a start; `engine_env`: a process's environment, else ""."""
        self._change(
            digest=digest(self._plan),
            deployment=new.as_dict(),
            answer=asdict(answer),
            engine_env=engine_env,
        )

    def touches(self, services: Iterable[str]) -> None:
        """Save that these may be in the middle of a stop if the run is interrupted from now on."""
        self._change(touched=list(services))

    def backed_up(self, archive: str, **task: object) -> None:
        """Save that the archive has the data as they are under the present versions.

        `task`: what the command needs to go on if the run is interrupted from now on.
        """
        self._record = history.with_backup(self._record, archive)
        self._change(task={"backup": archive, **task})

    def finish(
        self,
        start_s: Mapping[str, float],
        runs: Versions | None = None,
        images: Mapping[str, str] | None = None,
    ) -> None:
        """Save the new instance as running; `start_s`: seconds that each service took.

        `images`: of the stack that were chosen for this instance; None: those of before.
        """
        known = self._old.start_s if self._old else {}
        if runs is not None:
            self._record = history.with_present(self._record, runs)
        self._change(
            phase="running",
            previous_record=None,
            touched=[],
            command="",
            task={},
            images=self._record.images if images is None else dict(images),
            start_s={**known, **start_s},
        )

    def put_back(self, failures: list[str], out: Output) -> None:
        """Undo: restore the old record, unless something else could not be undone."""
        name = self._plan.instance
        if failures:
            out.warning(
                f"what is left of '{name}' is known: the next `cf up` of it puts it right, "
                f"`cf down {name}` stops it"
            )
        elif self._old is None:
            self._store.remove(name)
        else:
            self._store.save(self._old)

    def _change(self, **fields: object) -> None:
        self._record = replace(self._record, **fields)  # type: ignore[arg-type]
        self._store.save(self._record)

"""The previous instance: kept until its successor has answered, restored if that fails."""

from __future__ import annotations

from compreface_cli.checks.calculator import INPUT
from compreface_cli.deploy import changes, running, takeover
from compreface_cli.engine import known_answer
from compreface_cli.errors import DataRefusedError
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Kind
from compreface_cli.plugin_table import same_calculator
from compreface_cli.terminal.output import Output


class Previous:
    """The instance as it was before this run of `cf up`; there may be none."""

    def __init__(self, record: Record | None, out: Output, timeout_s: float | None) -> None:
        self.record = record
        self.deployment = running.deployment(record) if record and record.deployment else None
        self.runs = self.deployment is not None and running.alive(
            running.launcher(self.deployment.launcher).services(self.deployment)
        )
        self._out = out
        self._timeout_s = timeout_s
        self._gave_way = False

    def of(self, kind: Kind) -> Deployment | None:
        """Its deployment if it is of that launcher, so that the new one replaces it there."""
        return self.deployment if self.deployment and self.deployment.launcher == kind else None

    def gives_way(self) -> None:
        """Mark that it may be stopped from now on; the undo then starts it again."""
        self._gave_way = self.runs

    def refuse_other_model(self, answer: known_answer.KnownAnswer, calculator: str) -> None:
        """Raise DataRefusedError if the calculator has the same name but another model.

        The stored embeddings of the instance could not be compared with new ones.
        """
        record = self.record
        if record is None or not record.answer:
            return
        if not same_calculator(record.calculator, calculator):
            return  # another name was refused before, unless no embedding is stored
        if not known_answer.same_space(known_answer.KnownAnswer.from_dict(record.answer), answer):
            raise DataRefusedError(
                f"the model of {calculator} differs from the one of instance "
                f"'{record.name}': their embeddings cannot be compared",
                hint="Give the new model a name of its own in the build, or start it as another "
                "instance (--instance NAME).",
                topic=INPUT,
            )

    def start_again(self, touched: list[str]) -> None:
        """Undo: start it again and check its answer; the services `touched` may be stopping."""
        if self.record is None or self.deployment is None:
            return
        known, launcher = self.deployment, running.launcher(self.deployment.launcher)
        if not self._gave_way:
            if self.runs:
                launcher.tidy(known)
            return
        answer = known_answer.KnownAnswer.from_dict(self.record.answer)
        limit_s = self._timeout_s or running.TIMEOUT_S[known.launcher]
        launcher.tidy(known, touched)
        if not takeover.obstacle(known, known) and "core" in changes.of(known):
            takeover.swap(known, answer, self._out, limit_s=limit_s, every=False)
        launcher.start(known, self._out.note, limit_s=self._timeout_s)
        running.prove(known, answer, limit_s)
        self._out.note("The previous instance runs again and answers correctly")

    def discard(self, successor: Kind) -> None:
        """Remove what only it needed; a project or stack now belongs to its successor."""
        known = self.deployment
        if known is not None and (known.launcher != successor or successor == "process"):
            running.launcher(known.launcher).remove(known)

"""An adopted instance: its settings, and what may not be done with it."""

from __future__ import annotations

from pathlib import Path

from compreface_cli.config.settings import Settings
from compreface_cli.deploy import running
from compreface_cli.errors import CfError, ConflictError
from compreface_cli.instance import adopted as kept
from compreface_cli.instance.records import Record


def refuse_half(record: Record | None) -> None:
    """Raise ConflictError where an adoption or a release was cut off: it comes first."""
    if record is not None and kept.half(record):
        again = kept.cut_off_command(record)
        raise ConflictError(
            f"instance '{record.name}': an earlier `{again}` was cut off",
            hint=f"Run it again{kept.ways_on(record)}.",
            details={"instance": record.name},
        )


def refuse_removal(record: Record | None) -> None:
    """Raise ConflictError for an adopted instance: its record is the way back to upstream's."""
    adopted = kept.of(record)
    if record is not None and adopted is not None:
        raise ConflictError(
            f"instance '{record.name}' is adopted from {adopted.from_words}, and its volume "
            f"{adopted.volume} is never removed by cf",
            hint=f"`cf release {record.name}` gives it back, `cf down {record.name}` stops it.",
            details={"instance": record.name, "volume": adopted.volume},
        )


def with_settings(chosen: Settings) -> Settings:
    """The settings with those that the instance was adopted with, weaker than flags and CF_*."""
    name = chosen.get("instance") or Path(str(chosen.get("build"))).stem
    try:
        record = running.instances().load(name)
    except CfError:
        return chosen  # a damaged record is reported where it matters
    adopted = kept.of(record)
    if record is None or adopted is None:
        return chosen
    # `cf upgrade` and `cf rollback` have chosen these since.
    own = {key: value for key, value in adopted.settings.items() if key not in record.images}
    return chosen.under(own, f"instance, adopted from {adopted.from_words}")

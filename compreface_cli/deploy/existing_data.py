"""`cf up --data`: the plan on an instance's or a volume's existing data, and its password."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compreface_cli.config import paths
from compreface_cli.config.settings import Settings
from compreface_cli.deploy import running
from compreface_cli.errors import ConfigurationError, ConflictError, UsageError
from compreface_cli.plan import data as existing
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.facts.places import Place

UPSTREAMS_PASSWORD = "postgres"  # noqa: S105 - of CompreFace's own `.env`, public
_DATABASE = "compreface-postgres-db"  # the host name of the stack's own database


def on_data(plan: Plan, chosen: Settings, out: Output) -> Plan:
    """The plan on the data that `data` names, or that the instance runs on since then.

    The same plan where there is neither. Raises ConfigurationError for an unknown name,
    ConflictError for an instance with other data, UsageError for a plan without a database.
    """
    given = chosen.given("data")
    if plan.services != "full" or plan.launcher == "process":
        if given is not None and given.layer == "flag":
            raise UsageError(
                f"--data {given.value} needs the full stack, and this is the engine alone",
                hint="Leave out --services core and --launcher process, or --data.",
            )
        if given is not None:
            out.warning(f"data ({given.where}) has no effect on an engine alone")
        return plan
    if plan.stack["postgres_host"] != _DATABASE:
        if given is None:
            return plan
        raise ConfigurationError(
            f"data ({given.where}) and postgres_host ({chosen.origin('postgres_host')}) are both "
            "set, and the second is a database elsewhere",
            hint="Leave one of them out.",
        )
    data = known = remembered(plan.instance)
    if given is not None and given.value != plan.instance:
        data = _named(str(given.value), plan)
        _refuse_other_data(plan, known, data)
    if data is None:
        return plan
    plan = existing.on(plan, data, password_of(data, plan.instance))
    # Only a container of Docker can mount it.
    return replace(plan, launcher="compose") if plan.launcher == "auto" else plan


def remembered(instance: str) -> Data | None:
    """The existing data that the instance runs on, by its record or its project folder."""
    record = running.instances().load(instance)
    if record is not None:
        return existing.of_record(record.plan)
    volume = writer.rendered_for(paths.project_dir(instance)).volume
    if not volume:
        return None
    from compreface_cli.facts.places import place_of

    return data_of(place_of(volume))


def data_of(place: Place) -> Data:
    """The data of a place, as a plan names it."""
    record, image, owner = place.record, place.image, place.instance
    if record is not None:
        if lent := existing.of_record(record.plan):
            owner = lent.instance
        image = str((record.plan.get("stack") or {}).get("postgres_image") or image)
    elif place.container:
        image = _image_of(place.container) or image
    return Data(place.volume, image, place.user, place.database, owner)


def obtain_image(plan: Plan, out: Output) -> None:
    """Pull the PostgreSQL that reads the data before a start, if it is absent."""
    from compreface_cli.deploy.build import shown
    from compreface_cli.docker import image

    image.obtain(plan.stack["postgres_image"], report=out.note, waiting=shown(out))


def _named(name: str, plan: Plan) -> Data | None:
    """The data of that instance or volume; None for the volume of the plan's own instance."""
    from compreface_cli.facts.places import place_of

    place = place_of(name)
    own = place.project == plan.project and place.volume == f"{plan.project}_postgres-data"
    return None if own else data_of(place)


def _image_of(container: str) -> str:
    """The name by which the container names its image; "" if that is another image by now."""
    from compreface_cli.docker import client, image

    row = client.find("containers", container, "json") or {}
    name = str((row.get("Config") or {}).get("Image") or "")
    return name if name and image.id_of(name) == row.get("Image") else ""


def password_of(data: Data, instance: str) -> str:
    """The password of the data's database, as far as a project knows it, else upstream's.

    Of `instance` itself, of the instance that the volume was made for, or of a container on it.
    """
    for name in filter(None, (instance, data.instance)):
        folder = paths.project_dir(name)
        volume = writer.rendered_for(folder).volume or f"cf-{name}_postgres-data"
        password = writer.read_env(folder / ENV_FILE).get("POSTGRES_PASSWORD")
        if volume == data.volume and password:
            return password
    return UPSTREAMS_PASSWORD


def _refuse_other_data(plan: Plan, known: Data | None, wanted: Data | None) -> None:
    """Raise ConflictError if the instance has data already that is not in the wanted volume."""
    from compreface_cli.docker import belongings
    from compreface_cli.docker.labels import PROJECT

    own = f"{plan.project}_postgres-data"
    volume = wanted.volume if wanted else own
    had = known.volume if known else own
    if had == volume or (
        known is None and had not in belongings.volumes(f"{PROJECT}={plan.project}")
    ):
        return
    raise ConflictError(
        f"the instance '{plan.instance}' has data of its own, in the volume {had}",
        hint=f"Start the build on {volume} as another instance: --instance NEW. Nothing was "
        "changed.",
        details={"instance": plan.instance, "volume": had, "wanted": volume},
    )

"""The models that a plan's plugins need, and the entry to write for a model that is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compreface_cli import plugin_table
from compreface_cli.errors import ConfigurationError
from compreface_cli.models import catalogue as bundled
from compreface_cli.models.entry import Model

if TYPE_CHECKING:
    from compreface_cli.builds.builds import BuildFile

_USUAL = "w600k_mbf"  # of the catalogue: a calculator like most


def of_plugins(
    build: BuildFile, plugins: tuple[str, ...], catalogue: Mapping[str, Model] | None
) -> tuple[Model, ...]:
    """The models of these plugins, without duplicates: the build's own, else the catalogue's."""
    from compreface_cli.builds import builds, imported

    if build.origin == "image":
        return ()  # they are in the image
    folder = "" if build.origin == "bundled" else str(build.path.parent)
    known = bundled.model if catalogue is None else catalogue.get
    own = {entry.name: entry for entry in build.spec.models}
    needed: dict[str, Model] = {}
    for plugin in plugins:
        name = plugin_table.model_of(plugin)
        if name is None:
            continue
        if name in own:
            model: Model | None = builds.model_of(own[name], folder)
        else:
            model = known(name)
        if model is None:
            models = bundled.models() if catalogue is None else catalogue
            raise _no_model(plugin, name, build, models)
        wanted = plugin_table.model_role(plugin)
        wrong = None if name in own else plugin_table.misplaced(plugin, name)
        if wrong is None and model.role != wanted:
            wrong = f"{plugin} needs a model with the role {wanted}, and {name} has {model.role}"
        if wrong is not None:
            raise ConfigurationError(wrong, hint="`cf show BUILD` shows the build's models")
        needed[name] = model
    if build.origin == "imported":
        needed = imported.with_files(needed, build.path)
    return tuple(needed.values())


def _no_model(
    plugin: str, name: str, build: BuildFile, catalogue: Mapping[str, Model]
) -> ConfigurationError:
    from compreface_cli.config.yamlfile import did_you_mean

    wanted = plugin_table.model_role(plugin)
    named = [entry.name for entry in build.spec.models if entry.role == wanted]
    named += [
        other
        for other, model in catalogue.items()
        if model.role == wanted and plugin_table.misplaced(plugin, other) is None
    ]
    meant = did_you_mean(name, named)
    return ConfigurationError(
        f"{plugin}: neither the build nor the catalogue has a model {name!r}"
        + (f"; {meant}" if meant else ""),
        hint=_how_to_name_a_model(plugin, name, build),
    )


def _how_to_name_a_model(plugin: str, name: str, build: BuildFile) -> str:
    """A whole build file, since a model has more to say than a flag can take.

    Its values are those of the catalogue's model for that plugin, so they fit what the plugin does.
    """

    def shown(values: tuple[float, ...] | None) -> str:
        numbers = [str(int(value) if value == int(value) else value) for value in values or ()]
        return f"[{', '.join(numbers)}]" if len(numbers) > 1 else "".join(numbers) or "null"

    role = plugin_table.model_role(plugin)
    row = plugin_table.PLUGINS[plugin_table.split(plugin)[0]]
    like = (*(row.models or ()), *row.fits, _USUAL)[0]
    model = bundled.models()[like]
    of_input = {
        "size": "null" if model.size is None else model.size,
        **({"layout": model.layout} if model.layout != "nchw" else {}),
        **({"colour": model.colour} if model.colour != "rgb" else {}),
        "mean": shown(model.mean),
        "scale": shown(model.scale),
    }
    entry = f"""models:
  - name: {name}
    role: {role}
    format: onnx
    files: [{{path: {name}.onnx}}]  # beside the build file
    # as {like} was trained; give what yours was trained with
    input: {{{", ".join(f"{key}: {value}" for key, value in of_input.items())}}}"""
    if role == "calculator":
        entry += f"\n    align: {model.align}\n    similarity: {shown(model.similarity)}"
    if build.origin != "bundled":
        return f"write a models: entry for it in {build.path}, like this:\n{entry}"
    lines = {
        "detector": f"detector: {plugin if role == 'detector' else build.spec.detector}",
        "calculator": f"calculator: {plugin if role == 'calculator' else build.spec.calculator}",
        "analyzer": f"plugins: [{plugin}]" if role == "analyzer" else "",
    }
    chosen = "\n".join(line for line in lines.values() if line)
    return (
        "a model is described in a build file; write builds/my-build.yaml like this, then name the "
        f"build my-build and no plugin:\nschema: 1\nname: my-build\n{chosen}\n{entry}"
    )

"""The entry that a refusal shows for a model nobody knows: it fits the plugin it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli.builds.builds import model_of
from compreface_cli.builds.spec import from_text
from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.errors import ConfigurationError
from compreface_cli.models import catalogue
from compreface_cli.models.entry import Model
from compreface_cli.plan.plan import resolve
from compreface_cli.plugin_table import PLUGINS
from tests.cli.build_files import build_file
from tests.cli.test_plan import NOWHERE

OPEN = [base for base, row in PLUGINS.items() if row.models is None]


def shown(base: str) -> Model:
    """The model in the build file that is shown where its name is not known."""
    key = "plugins" if PLUGINS[base].role == "analyzer" else PLUGINS[base].role
    wanted: dict[str, Any] = {key: f"{base}@my-model"}
    settings = resolve_settings(wanted, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    with pytest.raises(ConfigurationError) as caught:
        resolve(replace(build_file(), origin="bundled"), settings)
    (entry,) = from_text(str(caught.value.hint).partition("\n")[2]).models
    return model_of(entry)


@pytest.mark.parametrize("base", OPEN)
def test_the_entry_has_the_input_of_the_catalogues_model_for_the_plugin(base: str) -> None:
    known = catalogue.models()[(*PLUGINS[base].fits, "w600k_mbf")[0]]
    same = ("role", "size", "layout", "colour", "mean", "scale", "align", "similarity")
    own = shown(base)
    assert {key: getattr(own, key) for key in same} == {key: getattr(known, key) for key in same}


def test_a_plugin_with_another_input_has_another_entry() -> None:
    assert shown("genderage.AgeDetector").mean == (0.0,)
    assert shown("dlib.GenderDetector").scale == (256.0,)
    assert shown("facemask.MaskDetector").scale == (127.5,)
    assert shown("yunet.FaceDetector").colour == "bgr"

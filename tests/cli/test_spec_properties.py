"""Whatever stands in a file: it is read as meant, or refused with a line; never a crash."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compreface_cli import plugin_table
from compreface_cli.builds import builds, spec
from compreface_cli.config.yamlfile import parse
from compreface_cli.errors import ConfigurationError
from tests.cli.build_files import build_data, model_entry

names = st.from_regex(spec.NAME, fullmatch=True)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
real = st.floats(min_value=0.01, max_value=1000, allow_nan=False)
channels = st.one_of(real, st.lists(real, min_size=3, max_size=3))
sound = st.fixed_dictionaries(
    {
        "schema": st.just(1),
        "name": names,
        "summary": st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=60),
        "device": st.sampled_from(["cpu", "cuda"]),
        "detector": st.sampled_from(plugin_table.known("detector")),
        "calculator": st.sampled_from(plugin_table.known("calculator")),
        "plugins": st.lists(
            st.sampled_from(plugin_table.known("analyzer")), unique=True, max_size=4
        ),
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "max_detect_size": st.integers(0, 16384),
                "max_concurrency": st.one_of(st.none(), st.integers(1, 1024)),
                "max_wait_s": st.floats(0.5, 600),
            },
        ),
        "models": st.lists(
            st.builds(
                lambda name, mean, scale, c0, c1: model_entry(
                    name=name,
                    input={"size": 112, "mean": mean, "scale": scale},
                    similarity=[c0, c1],
                ),
                st.from_regex(spec.MODEL_NAME, fullmatch=True),
                channels,
                channels,
                st.floats(0.01, 1.99),
                real,
            ),
            max_size=2,
            unique_by=lambda entry: str(entry["name"]),
        ),
    }
)


@given(sound)
def test_a_sound_build_survives_being_written_and_read(data: dict[str, Any]) -> None:
    build = spec.validate(parse(yaml.safe_dump(data, allow_unicode=True), "b.yaml"))
    written = builds.text_of(build)
    assert spec.from_text(written) == build
    assert builds.written_by_cf(written)
    assert not builds.written_by_cf(written + "# mine\n")


@given(st.text(max_size=300))
def test_any_text_is_a_build_or_a_refusal(content: str) -> None:
    with suppress(ConfigurationError):
        spec.from_text(content)


@given(st.data())
@settings(max_examples=150)
def test_any_value_at_any_place_is_read_or_refused_with_a_line(data: st.DataObject) -> None:
    whole = build_data(limits={"max_detect_size": 1}, facts={"licence": {"weights": "x"}})
    place: Any = whole
    while True:  # walk down to some key of some mapping or list
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[key] = data.draw(anything)
            break
        place = inner
    document = parse(yaml.safe_dump(whole, allow_unicode=True), "b.yaml")
    found, faults = spec.check(document)
    assert (found is None) == bool(faults)
    assert all(1 <= fault.line <= 100 and fault.message for fault in faults)

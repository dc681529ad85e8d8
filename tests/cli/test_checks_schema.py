"""Which schema an admin may start on: that of its own version or an older one."""

from __future__ import annotations

import pytest

from compreface_cli.checks import schema

OF_1_2_0 = ["0.0.1 create-user-table", "0.2.7 drop-qrtz_triggers-table"]
LATER = "1.3.0 add-note-to-subject"


@pytest.mark.parametrize(
    ("image", "tag", "number"),
    [
        ("exadel/compreface-admin:1.2.0", "1.2.0", (1, 2, 0)),
        ("host:5000/compreface-admin:v1.3", "v1.3", (1, 3)),
        ("host:5000/compreface-admin", "", None),
        ("compreface-admin:1.2.0@sha256:abc", "1.2.0", (1, 2, 0)),
        ("compreface-admin:latest", "latest", None),
    ],
)
def test_a_tag_may_state_a_version(image: str, tag: str, number: tuple[int, ...] | None) -> None:
    assert schema.tag(image) == tag
    assert schema.number(image) == number


def test_released_versions_are_known() -> None:
    assert schema.beyond("x:1.2.0", [*OF_1_2_0, LATER], None) == [LATER]
    assert schema.beyond("x:1.1.0", OF_1_2_0, None) == OF_1_2_0[1:]
    assert schema.beyond("x:1.2.0", ["own.yaml change"], None) == ["own.yaml change"]
    assert schema.beyond("x:1.3.0", [*OF_1_2_0, LATER], None) is None
    assert schema.beyond("x:latest", [LATER], None) is None


def test_what_an_image_has_started_on_counts_before_its_tag() -> None:
    assert schema.beyond("x:latest", [*OF_1_2_0, LATER], set(OF_1_2_0)) == [LATER]
    assert schema.beyond("x:1.2.0", [*OF_1_2_0, LATER], {*OF_1_2_0, LATER}) == []


def test_only_a_newer_schema_is_refused() -> None:
    assert schema.judge("mine", "x:1.2.0", OF_1_2_0, None) is None
    assert schema.judge("mine", "x:1.2.0", None, None) is None
    refused = schema.judge("mine", "x:1.2.0", [*OF_1_2_0, LATER], None)
    assert refused is not None
    assert refused.code == 5
    assert LATER in refused.message

"""The gate takes the same examples each time; `explore` takes new ones, in CI as by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.shared import ROOT

PROFILE = """
import sys
import tests.conftest
from hypothesis import settings
profile = settings.get_profile(sys.argv[1])
print(profile.derandomize, profile.database is not None)
"""


@pytest.mark.parametrize(
    "variables", [{}, {"CI": "true"}, {"CI": "true", "GITHUB_ACTIONS": "true"}]
)
@pytest.mark.parametrize(
    ("profile", "repeats", "remembers"), [("repeatable", True, False), ("explore", False, True)]
)
def test_only_explore_is_random(
    profile: str, repeats: bool, remembers: bool, variables: dict[str, str]
) -> None:
    outside = {
        name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROFILE, profile],
        env={**outside, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(repeats), str(remembers)]

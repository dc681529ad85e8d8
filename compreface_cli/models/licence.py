"""What may be done with the weights of several plugins together: the strictest of their terms."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from compreface_cli import notation
from compreface_cli.models.catalogue import About, about

LEVELS = ("allowed", "unclear", "excluded")  # from lax to strict
_LONGEST = 500  # of a text in a build file

# The networks inside the engine, as the builds that ship say of them.
_MTCNN = About("", "", "MIT", "allowed", "")
_MOBILEFACENET = About(
    *("", "", "Apache-2.0", "unclear"),
    "trained on MS-Celeb-1M, which its publisher withdrew and which is commonly treated as "
    "research-only",
)
_AGE_GENDER = About(
    *("", "", "MIT", "unclear"),
    "trained on sets of photographs of which several are known as published for research only",
)
_BUILT_IN: Mapping[str, tuple[str, About]] = {
    "embedded.FaceDetector": ("MTCNN", _MTCNN),
    "facenet.FaceDetector": ("MTCNN", _MTCNN),
    "embedded.Calculator": ("MobileFaceNet", _MOBILEFACENET),
    "embedded.AgeDetector": ("face-api's age and gender", _AGE_GENDER),
    "embedded.GenderDetector": ("face-api's age and gender", _AGE_GENDER),
}


def stricter(one: str, other: str) -> bool:
    """Whether the first of two words for commercial use allows less than the other."""
    return LEVELS.index(one) > LEVELS.index(other)


def together(plugins: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, str]:
    """`facts.licence` of a build of these plugins.

    `own`: that of the build whose own models they take, as the catalogue knows nothing of them.
    """
    terms = dict(filter(None, (_terms(plugin, own or {}) for plugin in plugins)))
    level = max((one.commercial for one in terms.values()), key=LEVELS.index, default="allowed")
    reasons = {name: one.reason for name, one in terms.items() if one.commercial == level}
    found = {
        "weights": _joined({name: one.licence for name, one in terms.items()}) or "none",
        "commercial": level,
        "reason": _joined(reasons) if level != "allowed" else "",
    }
    return {key: value for key, value in found.items() if value}


def _terms(plugin: str, own: Mapping[str, Any]) -> tuple[str, About] | None:
    model = notation.model_of(plugin)
    if model is None:
        return _BUILT_IN.get(notation.split(plugin)[0])
    nothing = About("", "", "not known", "unclear", "nothing is known of its terms")
    said = About(
        *("", "", str(own.get("weights", nothing.licence))),
        str(own.get("commercial", nothing.commercial)),
        str(own.get("reason", nothing.reason)),
    )
    return model, about().get(model, said)


def _joined(texts: Mapping[str, str]) -> str:
    """`a, b: text; c: text`: each text once, with the names it is about."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    whole = "; ".join(f"{', '.join(of)}: {text}" for text, of in names.items())
    return textwrap.shorten(whole, _LONGEST, placeholder=" ...")

"""Schemathesis hooks that send real photographs, with and without a face."""

from __future__ import annotations

import base64
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from tests.shared import ROOT


def _blank() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, "PNG")
    return out.getvalue()


PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()
PICTURES = (PORTRAIT, PORTRAIT[:20_000], _blank())

schemathesis.openapi.format("binary", st.sampled_from(PICTURES))
schemathesis.openapi.format(
    "byte", st.sampled_from([base64.b64encode(picture).decode() for picture in PICTURES])
)

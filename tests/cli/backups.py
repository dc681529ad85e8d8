"""A small backup, as `cf data backup` writes it, around any bytes as its dump."""

from __future__ import annotations

import io
import json
from typing import Any

from compreface_cli.data.archive import Writer

MANIFEST: dict[str, Any] = {
    "format": 1,
    "cf": "0.1.0",
    "created": "2026-11-30T20:00:00+00:00",
    "instance": "demo",
    "volume": "cf-demo_postgres-data",
    "build": "embedded",
    "calculator": "embedded.Calculator@mobilefacenet192",
    "calculators": {"embedded.Calculator@mobilefacenet192": 9},
    "tables": {"public.embedding": 29},
    "change_sets": {"count": 45, "sha256": "0" * 64},
    "postgres": {"version": 150018, "user": "postgres", "database": "frs"},
    "database_bytes": 9000000,
    "images": {"postgres": "exadel/compreface-postgres-db:1.2.0"},
    "settings": {},
}


def made_backup(dump: bytes = b"dump" * 1000, **changes: Any) -> bytes:
    """The archive of that dump; `changes`: of its manifest."""
    text = json.dumps({**MANIFEST, **changes}, indent=1).encode()
    return b"".join(Writer(text, None, io.BytesIO(dump)).pieces())

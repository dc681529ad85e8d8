"""Computes the embeddings of a target calculator from stored images, in batches that last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from compreface_cli.data import recompute
from compreface_cli.data.migration.tables import SCHEMA, Target, uuids
from compreface_cli.data.recompute import Seen
from compreface_cli.docker.postgres import Session, literal
from compreface_cli.engine.client import EngineClient

BATCH_ROWS = 64
BATCH_BYTES = 16 << 20  # of images; a single larger one is a batch of its own
_NOTHING = "00000000-0000-0000-0000-000000000000"
_COLUMNS = ("embedding_id", "img_id", "img_version", "outcome", "reason", "embedding")
_REASON_CHARACTERS = 300

Face: TypeAlias = dict[str, Any]  # id, img_id, version, bytes


def compute(
    session: Session,
    client: EngineClient,
    target: Target,
    *,
    at_once: int,
    advance: Callable[[Sequence[Seen]], None] = lambda seen: None,
) -> int:
    """One pass over all faces without a valid embedding of the target; returns how many it took.

    Each batch is stored in a transaction of its own. `advance` is called after it, with what was
    seen for each face. Raises QueryError, and as `recompute.several` does.
    """
    done, last = 0, _NOTHING
    while batch := pending(session, target, after=last):
        last = batch[-1]["id"]
        seen = seen_in(session, client, batch, at_once=at_once)
        store(session, target, batch, seen)
        advance([seen[face["img_id"]] for face in batch if face["img_id"] in seen])
        done += len(batch)
    return done


def pending(session: Session, target: Target, *, after: str = _NOTHING) -> list[Face]:
    """The next faces without a valid embedding, by id: a batch, bounded in rows and bytes."""
    rows = list(
        session.rows(
            "select e.id, e.img_id, i.xmin::text as version, octet_length(i.content) as bytes"
            f" from {target.source} where {target.other} and i.id is not null"
            f" and v.embedding_id is null and e.id > '{after}' order by e.id limit {BATCH_ROWS}"
        )
    )
    return bounded(rows)


def bounded(rows: Sequence[Face], most: int = BATCH_BYTES) -> list[Face]:
    """The first rows whose images have `most` bytes together, one row at least."""
    batch: list[Face] = []
    total = 0
    for row in rows:
        total += int(row["bytes"])
        if batch and total > most:
            break
        batch.append(row)
    return batch


def seen_in(
    session: Session, client: EngineClient, batch: Sequence[Face], *, at_once: int
) -> dict[str, Seen]:
    """What the engine sees in the images of the faces, by image; a deleted one is left out."""
    ids = list(dict.fromkeys(str(face["img_id"]) for face in batch))
    images = list(_images(session, ids))  # no statement waits for the engine
    return dict(recompute.several(client, images, at_once=at_once))


def _images(session: Session, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    query = f"select id, encode(content, 'hex') from public.img where id = any({uuids(ids)})"
    for line in session.copy_out(query):
        key, _, content = line.partition(b"\t")
        yield key.decode(), bytes.fromhex(content.decode())


def store(session: Session, target: Target, batch: Sequence[Face], seen: dict[str, Seen]) -> None:
    """Write down what was seen, but of faces whose image has changed or gone since."""
    with session.transaction():
        session.execute(
            "create temp table batch (embedding_id uuid, img_id uuid, img_version text,"
            " outcome text, reason text, embedding float8[]) on commit drop"
        )
        session.copy_in(f"batch ({', '.join(_COLUMNS)})", _rows(batch, seen))
        session.execute(
            f"insert into {SCHEMA}.vector (calculator, {', '.join(_COLUMNS)})"
            f" select {literal(target.calculator)}, b.{', b.'.join(_COLUMNS)}"
            " from batch b join public.embedding e on e.id = b.embedding_id and e.img_id = b.img_id"
            " join public.img i on i.id = b.img_id and i.xmin::text = b.img_version"
            " on conflict (embedding_id, calculator) do update set outcome = excluded.outcome,"
            " reason = excluded.reason, embedding = excluded.embedding, img_id = excluded.img_id,"
            " img_version = excluded.img_version where vector.outcome <> 'stored'"
        )


def _rows(batch: Sequence[Face], seen: dict[str, Seen]) -> Iterator[tuple[Any, ...]]:
    for face in batch:
        if (looked := seen.get(str(face["img_id"]))) is None:
            continue
        reason = looked.reason[:_REASON_CHARACTERS] or None
        vector = array(looked.faces[0].embedding) if looked.faces else None
        yield face["id"], face["img_id"], face["version"], looked.kind, reason, vector


def array(values: Sequence[float]) -> str:
    """An array of float8, exactly: the shortest digits that give each number back."""
    return "{" + ",".join(map(repr, values)) + "}"

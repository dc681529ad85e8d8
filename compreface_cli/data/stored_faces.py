"""Compares an engine's embeddings of stored pictures with the stored ones."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from compreface_cli.data import recompute
from compreface_cli.docker.postgres import Server, Session, literal
from compreface_cli.engine import embeddings
from compreface_cli.engine.client import EngineClient
from compreface_cli.instance.state import Endpoint
from compreface_cli.plugin_table import same_calculator

# Upstream decodes JPEG with another library, which moves a box now and then and with it the
# embedding: one network gave cosines of 0.852 to 1 with a median of 0.9983 on 46 faces
# (docs/decisions/jpeg-decoding.md). Another network gives about 0, the same one with another crop
# a lower median.
MIN_COSINE = 0.8
MIN_MEDIAN = 0.98
SHARE = 0.9  # of the faces that must agree: another detector may miss one
PER_SERVICE = 4
MOST = 24
MAX_PICTURE_BYTES = 8 * 2**20
MAX_BYTES = 48 * 2**20
_SLOW_S = 300.0  # a table of 100 000 rows is read from disk once


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A stored embedding whose picture is stored too; `bytes` are the picture's."""

    id: str
    picture: str
    service: str
    subject: str
    calculator: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The faces of one database: how many by calculator, and those that can be compared."""

    faces: Mapping[str, int]  # without CompreFace's demo faces
    sample: tuple[StoredFace, ...]

    @property
    def count(self) -> int:
        return sum(self.faces.values())


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well an engine agrees with a sample of stored faces: a cosine for each that it found."""

    compared: int
    cosines: tuple[float, ...]
    without: tuple[str, ...] = ()  # subjects in whose picture it found no face
    apart: tuple[str, ...] = ()  # subjects whose embedding it does not agree with
    by_calculator: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # agreeing, compared
    limit: float = MIN_COSINE
    share: float = SHARE

    @property
    def agreeing(self) -> int:
        return sum(cosine >= self.limit for cosine in self.cosines)

    @property
    def holds(self) -> bool:
        """Whether the engine may work on this database; True where nothing could be compared."""
        if not self.compared:
            return True
        enough = self.agreeing >= self.share * self.compared
        return enough and median(self.cosines) >= MIN_MEDIAN

    @property
    def words(self) -> str:
        """The figures: `12 of 12 stored faces agree: cosine 0.9991 to 1.0000, median 0.9998`."""
        text = f"{self.agreeing} of {self.compared} stored faces agree"
        if self.cosines:
            low, high, middle = min(self.cosines), max(self.cosines), median(self.cosines)
            text += f": cosine {low:.4f} to {high:.4f}, median {middle:.4f}"
        if self.without:
            text += f"; no face found in {len(self.without)}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """For `--json`, and the details of an error."""
        return {
            "compared": self.compared,
            "agreeing": self.agreeing,
            "least_cosine": min(self.cosines, default=None),
            "median_cosine": median(self.cosines) if self.cosines else None,
            "without_face": len(self.without),
            "by_calculator": {
                name: {"agreeing": agreeing, "compared": compared}
                for name, (agreeing, compared) in self.by_calculator.items()
            },
            "needed": {"cosine": self.limit, "share": self.share, "median": MIN_MEDIAN},
        }


def stored(server: Server, calculator: str) -> Stored:
    """The faces in the database, and a sample of those of this calculator that have a picture.

    The sample is the same at each call: a few of each service, bounded in number and bytes.
    """
    with Session(server, statement_s=_SLOW_S) as session:
        if session.value("select to_regclass('public.embedding') is null"):
            return Stored({}, ())
        # CompreFace's own demo faces have the calculator of a version before 0.6, and no picture.
        counted = list(
            session.rows(
                "select calculator, count(*) as faces from public.embedding where not (calculator ="
                " 'Facenet2018' and img_id is null) group by calculator order by 1"
            )
        )
        faces = {str(row["calculator"]): int(row["faces"]) for row in counted}
        same = [name for name in faces if same_calculator(name, calculator)]
        return Stored(faces, tuple(_sample(session, same)))


def agreement(server: Server, endpoint: Endpoint, sample: Sequence[StoredFace]) -> Agreement:
    """How well the engine's embeddings of the sample's pictures agree with the stored ones.

    Of several faces in a picture the nearest counts: the api stores a picture of one face only, and
    another detector may see more. Raises UnhealthyError for an engine that does not answer.
    """
    cosines: list[float] = []
    without, apart = [], []
    by_calculator: dict[str, tuple[int, int]] = {}
    known = {face.id: face for face in sample}
    vectors = dict[str, list[float]]()
    with (
        Session(server) as session,
        EngineClient(endpoint.url, key=endpoint.key, timeout_s=60.0) as client,
    ):
        pictures = _pictures(session, sample, vectors)
        compared = 0
        for id_, seen in recompute.several(client, pictures, at_once=2):
            face = known[id_]
            compared += 1
            stored_vector = vectors.pop(id_)
            best = max(
                (_cosine(each.embedding, stored_vector) for each in seen.faces), default=None
            )
            if best is None:
                without.append(face.subject)
            else:
                cosines.append(best)
                if best < MIN_COSINE:
                    apart.append(face.subject)
            agrees, of = by_calculator.get(face.calculator, (0, 0))
            agrees += best is not None and best >= MIN_COSINE
            by_calculator[face.calculator] = (agrees, of + 1)
    return Agreement(compared, tuple(cosines), tuple(without), tuple(apart), by_calculator)


def _sample(session: Session, calculators: Sequence[str]) -> Iterator[StoredFace]:
    if not calculators:
        return
    names = ", ".join(map(literal, calculators))
    rows = session.rows(
        "select id, picture, service, subject, calculator, bytes from ("
        " select e.id, e.img_id as picture, m.name as service, s.subject_name as subject,"
        " e.calculator, octet_length(i.content) as bytes,"
        " row_number() over (partition by m.id order by md5(e.id::text)) as place"
        " from public.embedding e join public.subject s on s.id = e.subject_id"
        " join public.model m on m.api_key = s.api_key join public.img i on i.id = e.img_id"
        f" where e.calculator in ({names}) and octet_length(i.content) <= {MAX_PICTURE_BYTES}) f"
        f" where place <= {PER_SERVICE} order by place, id limit {MOST}"
    )
    total = 0
    for row in list(rows):
        total += int(row["bytes"])
        if total <= MAX_BYTES:
            yield StoredFace(**row)


def _pictures(
    session: Session, sample: Sequence[StoredFace], vectors: dict[str, list[float]]
) -> Iterator[tuple[str, bytes]]:
    """The pictures of the sample, one at a time; their embeddings go into `vectors`."""
    for face in sample:
        row = session.row(
            "select encode(i.content, 'base64') as content, e.embedding"
            " from public.embedding e join public.img i on i.id = e.img_id"
            f" where e.id = {literal(face.id)}::uuid"
        )
        if row is None:
            continue  # deleted since
        vectors[face.id] = [float(value) for value in row["embedding"]]
        yield face.id, base64.b64decode(row["content"])


def _cosine(computed: Sequence[float], stored_vector: Sequence[float]) -> float:
    try:
        return embeddings.cosine(computed, stored_vector)
    except ValueError:
        return -1.0  # of another length, or no vector at all

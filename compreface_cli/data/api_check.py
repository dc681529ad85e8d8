"""Checks an instance as its clients use it: the api recognises the faces that it has stored."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compreface_cli.docker.postgres import Server, Session, literal
from compreface_cli.engine.client import EngineClient, Refused, until
from compreface_cli.errors import UnhealthyError
from compreface_cli.facts import contents
from compreface_cli.instance.state import Endpoint
from compreface_cli.plugin_table import same_calculator

LIMIT_S = 60.0
_TRIED = 5  # faces, of different subjects; one may have been stored with another threshold
_LOOKED_AT = 200
_PAUSE_S = 0.5
_SAME = 1e-4  # two subjects with the same photograph are equally like it
_PATH = "/api/v1/recognition/recognize"
_STARTING = (502, 503, 504)  # nginx, while the api starts


@dataclass(frozen=True, slots=True)
class StoredFace:
    """An embedding of a recognition service whose photograph is stored too."""

    subject: str
    service: str
    service_id: int
    application: str
    image: str  # id in `img`
    key: str = field(repr=False)  # of the service


@dataclass(frozen=True, slots=True)
class Recognised:
    """A stored face that the api has recognised; `similarity` 0..1, as it answered."""

    subject: str
    service: str
    application: str
    similarity: float


def check(
    server: Server,
    ui: Endpoint,
    calculator: str,
    *,
    service_id: int | None = None,
    limit_s: float = LIMIT_S,
) -> Recognised | None:
    """Have the api recognise a stored face, through the UI's port and with the service's own key.

    `calculator`: the engine's. `service_id`: only of that service. Returns None where no service
    has a photograph to try; services with embeddings of other calculators too are left out, since
    they cannot answer. Raises UnhealthyError when none of several stored faces is recognised, or
    no answer comes within `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    with Session(server) as session:
        faces = _chosen(session, calculator, service_id)
        if not faces:
            return None
        reasons: list[str] = []
        for face in faces:
            picture = _photograph(session, face)
            if picture is None:
                continue  # removed meanwhile
            outcome = recognise(ui, face, picture, deadline)
            if isinstance(outcome, Recognised):
                return outcome
            reasons.append(f'"{face.subject}" of "{face.service}": {outcome}')
    if not reasons:
        return None
    raise unrecognised(faces, reasons)


def unrecognised(faces: Sequence[StoredFace], reasons: Sequence[str]) -> UnhealthyError:
    """The error for faces of which none was recognised, with the reason for each."""
    return UnhealthyError(
        "the api does not recognise the faces that it has stored:\n  " + "\n  ".join(reasons),
        details={"service": "api", "tried": [face.subject for face in faces]},
    )


def _chosen(session: Session, calculator: str, service_id: int | None) -> list[StoredFace]:
    """Up to five faces, each of another subject; services with other calculators are left out."""
    services: dict[int, bool] = {}
    for row in contents.by_calculator(session):
        if service_id in (None, row["service_id"]) and not row["demo"]:
            fits = same_calculator(row["calculator"], calculator)
            services[row["service_id"]] = fits and services.get(row["service_id"], True)
    wanted = ", ".join(str(int(number)) for number, fits in services.items() if fits)
    if not wanted:
        return []
    rows = session.rows(
        "select s.subject_name as subject, m.name as service, m.id as service_id,"
        " coalesce(a.name, '') as application, e.img_id as image, m.api_key as key"
        " from public.embedding e join public.subject s on s.id = e.subject_id"
        " join public.model m on m.api_key = s.api_key"
        " left join public.app a on a.id = m.app_id"
        f" where e.img_id is not null and m.type = 'R' and m.id in ({wanted})"
        f" limit {_LOOKED_AT}"
    )
    chosen: dict[tuple[int, str], StoredFace] = {}
    for row in rows:
        face = StoredFace(**row)
        chosen.setdefault((face.service_id, face.subject), face)
    return list(chosen.values())[:_TRIED]


def _photograph(session: Session, face: StoredFace) -> bytes | None:
    text = session.value(
        "select encode(content, 'base64') as content from public.img"
        f" where id = {literal(face.image)}"
    )
    return None if text is None else base64.b64decode(text)


def recognise(ui: Endpoint, face: StoredFace, picture: bytes, deadline: float) -> Recognised | str:
    """The api's answer about the stored photograph, or why it is not what it should be.

    An api that is still starting is asked again until `deadline` (time.monotonic).
    """
    query = {"limit": "0", "prediction_count": "5"}
    while True:
        left = until(deadline)
        try:
            limit_s = max(1.0, left)
            with EngineClient(
                ui.url, key=face.key, timeout_s=limit_s, certificate=ui.certificate
            ) as client:
                answer = client.send(_PATH, picture, filename="face.jpg", query=query)
            return judged(face, answer)
        except Refused as refused:
            if refused.status not in _STARTING or not left:
                return f"status {refused.status}, {refused.message}"
        except UnhealthyError as error:
            status = error.details.get("status")
            if (status is not None and status not in _STARTING) or not left:
                return f"status {status}" if status else "no answer in time"
        time.sleep(_PAUSE_S)


def judged(face: StoredFace, answer: Any) -> Recognised | str:
    best = "nobody"
    try:
        for likest in _subjects(answer):
            top = max((similarity for _, similarity in likest), default=0.0)
            for subject, similarity in likest:
                if subject == face.subject and similarity >= top - _SAME:
                    return Recognised(face.subject, face.service, face.application, similarity)
                best = subject if similarity == top else best
    except (KeyError, TypeError, ValueError) as error:
        return f"its answer is not understood: {error!r}"
    return f"it recognises {best}"


def _subjects(answer: Any) -> Iterator[list[tuple[str, float]]]:
    """Of each face in the answer: subjects and their similarity."""
    for face in answer["result"]:
        yield [(str(each["subject"]), float(each["similarity"])) for each in face["subjects"]]

"""Stands in for CompreFace's api: its REST answers, its memory, and its faults."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from .database import DEMO_KEYS, Database
from .engine import EngineClient, EngineFailed, NoFace, Photograph
from .front import Answer, Part, Request, serve

ENDINGS = ("tif", "tiff", "jpg", "jpeg", "png", "bmp", "ico", "gif", "webp")
FACE = ("age", "gender", "pose", "embedding", "box", "execution_time", "landmarks", "mask")
KNOWN = ("age", "gender", "detector", "calculator", "mask", "pose")  # of times and versions
TYPES = {"recognition": "R", "detection": "D", "verification": "V"}
BEHAVIOUR = os.environ.get("STANDIN_BEHAVIOUR", "well")  # or: broken, slow
SLOW_S = 60.0
SAVES_IMAGES = os.environ.get("SAVE_IMAGES_TO_DB", "true") == "true"


class Refused(Exception):
    """An error as the api answers it: status, code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.answer = Answer(status, {"message": message, "code": code})


class Undefined(Exception):
    """Whatever the api did not foresee: 400 with code 0 and no reason."""


class Fallen(Exception):
    """The check of the key has failed: no database, or an address that is no service's."""


class NotAForm(Exception):
    """415; the api's requests in JSON are not stood in for."""


class Unreadable(Exception):
    """A value that is of another type than it should be: 400 without a word."""


def bytes_of(size: str) -> int:
    """Bytes of a size as Spring reads it, such as 5MB."""
    for suffix, factor in (("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("B", 1)):
        if size.endswith(suffix):
            return int(size.removesuffix(suffix)) * factor
    return int(size)


LARGEST_FILE = bytes_of(os.environ.get("MAX_FILE_SIZE", "5MB"))
LARGEST_REQUEST = bytes_of(os.environ.get("MAX_REQUEST_SIZE", "10MB"))


class Row(NamedTuple):
    id: str
    subject: str
    embedding: list[float]


@dataclass
class Collection:
    """The faces of a service in memory. Rows of two lengths do not fit into one matrix."""

    rows: list[Row]

    def __post_init__(self) -> None:
        if len({len(row.embedding) for row in self.rows}) > 1:
            raise Undefined

    def add(self, row: Row) -> None:
        Collection([*self.rows, row])
        self.rows = [*self.rows, row]


@dataclass
class Api:
    """All that the api remembers: `/status` of the engine, and each collection in use."""

    engine: EngineClient
    database: Database
    _status: dict[str, Any] | None = None
    _collections: dict[str, Collection] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        try:
            return self._routed(request)
        except Refused as refused:
            return refused.answer
        except NoFace:
            return Refused(400, 28, "No face is found in the given image").answer
        except Unreadable:
            return Answer(400)
        except NotAForm:
            return Answer(415, None, ("Accept: multipart/form-data, application/json",))
        except Fallen:
            return _whitelabel(500, request.path)
        except EngineFailed as failed:
            said = f"Error during synchronization between servers: {failed}"
            return Refused(500, 41, said).answer
        except Exception as failed:
            print(f"Undefined exception occurred: {failed!r}", flush=True)
            return Refused(400, 0, "Something went wrong, please try again").answer

    def _routed(self, request: Request) -> Answer:
        path = request.path
        if path == "/api/v1/consistence/status" and request.method == "GET":
            return self._consistence()
        if path == "/v2/api-docs":
            return Answer(200, {"swagger": "2.0"})
        key = self._key(request)
        route = ROUTES.get((request.method, path))
        if route is not None:
            return route(self, request, key)
        if request.method == "DELETE" and path.startswith("/api/v1/recognition/faces/"):
            return self._forget(key, path.rsplit("/", 1)[1])
        if path in {known for _, known in ROUTES}:
            raise Refused(404, 0, f"Request method '{request.method}' not supported")
        return _whitelabel(404, path)

    def _key(self, request: Request) -> str:
        key = request.headers.get("x-api-key")
        if key is None:
            raise Refused(400, 20, "Missing header: x-api-key")
        try:
            uuid.UUID(key)
        except ValueError:
            raise Refused(400, 26, "Service API key should be UUID") from None
        kind = request.path.removeprefix("/api/v1/").split("/")[0]
        if kind not in TYPES:
            raise Fallen
        try:
            with self.database.transaction() as connection:
                found = connection.execute(
                    "select type from public.model where api_key = %s", (key,)
                ).fetchone()
        except psycopg.Error:
            raise Fallen from None
        if found is None or found[0] != TYPES[kind]:
            said = f"{kind.capitalize()} service with API Key {key} not found"
            raise Refused(404, 10, said)
        return key

    def remembered_status(self) -> dict[str, Any]:
        """What the engine said when it was asked first; asked anew only after a restart."""
        status = self._status
        if status is None:
            status = self._status = self.engine.status()
        return status

    def _consistence(self) -> Answer:
        calculator = self.remembered_status()["calculator_version"]
        others = (
            "select count(*) from public.embedding e join public.subject s on s.id = e.subject_id"
            " where e.calculator <> %s and s.api_key {} %s"
        )
        with self.database.transaction() as connection:
            found = [
                connection.execute(others.format(sign), (known, DEMO_KEYS[0])).fetchone()
                for sign, known in (("=", "Facenet2018"), ("<>", calculator))
            ]
        demo, own = (row is not None and row[0] > 0 for row in found)
        return Answer(
            200,
            {
                "demoFaceCollectionIsInconsistent": demo,
                "dbIsInconsistent": own,
                "saveImagesToDB": SAVES_IMAGES,
                "status": "OK",
            },
        )

    def found(
        self, photograph: Part, form: Mapping[str, str], *, limit: int, calculator: bool
    ) -> dict[str, Any]:
        """The engine's answer; `calculator` puts that plugin in front of those asked for.

        What a 200 without a face comes to is each caller's own affair, and often an accident.
        """
        plugins = form.get("face_plugins", "")
        if calculator and "calculator" not in plugins:
            plugins = f"calculator,{plugins}" if plugins.strip() else "calculator"
        threshold = form.get("det_prob_threshold")
        answer = self.engine.find_faces(
            Photograph(photograph.filename or "", photograph.content_type, photograph.content),
            limit=limit,
            det_prob_threshold=float(threshold) if threshold else None,
            face_plugins=plugins,
            detect_faces=form.get("detect_faces", "true") == "true",
        )
        return answer

    def add(self, request: Request, key: str) -> Answer:
        photograph = _photograph(request, "file")
        form = request.form()
        subject = form.get("subject")
        if subject is None:
            raise Refused(400, 33, "Required parameter subject is missing")
        if not subject.strip():
            raise Refused(400, 26, "Subject name is empty; ")
        asked = {name: form[name] for name in ("det_prob_threshold",) if name in form}
        answer = self.found(photograph, asked, limit=2, calculator=True)
        if len(answer["result"]) > 1:
            raise Refused(400, 31, "More than one face in the source image")
        embedding = unit(answer["result"][0]["embedding"])
        calculator = answer["plugins_versions"]["calculator"]
        row = self._stored(key, subject, embedding, calculator, photograph.content)
        with self._lock:
            collection = self._collections.get(key)
            if collection is not None:
                collection.add(row)  # the row is stored by now, whatever comes of it here
        return Answer(201, {"image_id": row.id, "subject": subject})

    def _stored(
        self, key: str, subject: str, embedding: list[float], calculator: str, content: bytes
    ) -> Row:
        with self.database.transaction() as connection:
            found = self._subject(connection, key, subject)
            if found is None:
                found = self._new_subject(connection, key, subject)
            image = str(uuid.uuid4()) if SAVES_IMAGES else None
            if image is not None:
                connection.execute(
                    "insert into public.img (id, content) values (%s, %s)", (image, content)
                )
            one = str(uuid.uuid4())
            connection.execute(
                "insert into public.embedding (id, subject_id, embedding, calculator, img_id)"
                " values (%s, %s, %s, %s, %s)",
                (one, found[0], embedding, calculator, image),
            )
        return Row(one, found[1], embedding)

    @staticmethod
    def _subject(
        connection: psycopg.Connection[Any], key: str, name: str
    ) -> tuple[str, str] | None:
        row = connection.execute(
            "select id, subject_name from public.subject"
            " where api_key = %s and upper(subject_name) = upper(%s)",
            (key, name),
        ).fetchone()
        return None if row is None else (str(row[0]), row[1])

    @staticmethod
    def _new_subject(connection: psycopg.Connection[Any], key: str, name: str) -> tuple[str, str]:
        one = str(uuid.uuid4())
        connection.execute(
            "insert into public.subject (id, api_key, subject_name) values (%s, %s, %s)",
            (one, key, name),
        )
        return one, name

    def faces(self, request: Request, key: str) -> Answer:
        """A page of what is stored."""
        form = request.form()
        size, page = int(form.get("size", 20)), int(form.get("page", 0))
        with self.database.transaction() as connection:
            rows = connection.execute(
                "select e.id, s.subject_name from public.embedding e"
                " join public.subject s on s.id = e.subject_id where s.api_key = %s"
                " and (%s::text is null or s.subject_name = %s) order by 1",
                (key, form.get("subject"), form.get("subject")),
            ).fetchall()
        shown = rows[page * size : (page + 1) * size]
        return Answer(
            200,
            {
                "faces": [{"image_id": str(one), "subject": subject} for one, subject in shown],
                "page_number": page,
                "page_size": size,
                "total_pages": math.ceil(len(rows) / size),
                "total_elements": len(rows),
            },
        )

    def _forget(self, key: str, one: str) -> Answer:
        try:
            uuid.UUID(one)
        except ValueError:
            raise Unreadable from None
        with self.database.transaction() as connection:
            row = connection.execute(
                "select s.subject_name, e.img_id from public.embedding e"
                " join public.subject s on s.id = e.subject_id"
                " where s.api_key = %s and e.id::text = %s",
                (key, one),
            ).fetchone()
            if row is None:
                raise Refused(404, 44, f"Image {one} not found")
            connection.execute("delete from public.embedding where id::text = %s", (one,))
            connection.execute(
                "delete from public.img where id = %s"
                " and not exists (select from public.embedding where img_id = %s)",
                (row[1], row[1]),
            )
        with self._lock:
            if collection := self._collections.get(key):
                collection.rows = [kept for kept in collection.rows if kept.id != one]
        return Answer(200, {"image_id": one, "subject": row[0]})

    def subjects(self, request: Request, key: str) -> Answer:
        with self.database.transaction() as connection:
            rows = connection.execute(
                "select subject_name from public.subject where api_key = %s order by 1", (key,)
            ).fetchall()
        return Answer(200, {"subjects": [row[0] for row in rows]})

    def recognize(self, request: Request, key: str) -> Answer:
        if BEHAVIOUR == "broken":
            raise Undefined
        if BEHAVIOUR == "slow":
            time.sleep(SLOW_S)
        photograph = _photograph(request, "file")
        form = request.form()
        count = _number(form, "prediction_count", 1)
        if count < 1:
            raise Refused(400, 26, "prediction_count should be equal or greater than 1; ")
        answer = self.found(photograph, form, limit=_limit(form), calculator=True)
        if not answer["result"]:
            return Answer(200, {"result": []})
        collection = self._collection(key)
        faces = [
            {**_shown(face, form), "subjects": self._likest(face, collection, count)}
            for face in answer["result"]
        ]
        return Answer(200, _with_versions({"result": faces}, answer, form))

    def _collection(self, key: str) -> Collection:
        """In memory from the first question on; one that cannot be loaded is tried each time."""
        with self._lock:
            collection = self._collections.get(key)
            if collection is None:
                with self.database.transaction() as connection:
                    rows = connection.execute(
                        "select e.id, s.subject_name, e.embedding from public.embedding e"
                        " join public.subject s on s.id = e.subject_id where s.api_key = %s",
                        (key,),
                    ).fetchall()
                collection = Collection([Row(str(row[0]), row[1], row[2]) for row in rows])
                self._collections[key] = collection
            return collection

    def _likest(
        self, face: Mapping[str, Any], collection: Collection, count: int
    ) -> list[dict[str, Any]]:
        embedding = unit(face["embedding"])
        rows = collection.rows
        if rows and len(rows[0].embedding) != len(embedding):
            raise Undefined
        found = sorted(
            ((self._similarity(embedding, row.embedding), row.subject) for row in rows),
            key=lambda one: -one[0],
        )
        return [
            {"subject": subject, "similarity": round(similarity, 5)}
            for similarity, subject in found[:count]
        ]

    def _similarity(self, one: list[float], other: list[float]) -> float:
        middle, slope = self.remembered_status()["similarity_coefficients"]
        return (math.tanh((middle - math.dist(one, other)) * slope) + 1) / 2

    def detect(self, request: Request, key: str) -> Answer:
        photograph = _photograph(request, "file")
        form = {**request.form(), "detect_faces": "true"}
        answer = self.found(photograph, form, limit=_limit(form), calculator=False)
        if "result" not in answer:
            return Answer(200, {})
        # Only here the api does not round the detector's probability.
        faces = [{**_shown(face, form), "box": face["box"]} for face in answer["result"]]
        return Answer(200, _with_versions({"result": faces}, answer, form))

    def verify(self, request: Request, key: str) -> Answer:
        source, target = (_photograph(request, name) for name in ("source_image", "target_image"))
        form = {**request.form(), "detect_faces": "true"}
        limit = _limit(form)
        first = self.found(source, form, limit=limit, calculator=True)
        if not first or not first.get("result"):
            raise NoFace
        if len(first["result"]) > 1:
            raise Refused(400, 31, "More than one face in the source image")
        second = self.found(target, form, limit=limit, calculator=True)
        if not second["result"]:
            raise Undefined
        embedding = unit(first["result"][0]["embedding"])
        matches = [
            {
                **_shown(face, form),
                "similarity": round(self._similarity(embedding, unit(face["embedding"])), 5),
            }
            for face in second["result"]
        ]
        shown = {
            "source_image_face": _shown(first["result"][0], form),
            "face_matches": matches,
        }
        return Answer(200, {"result": [_with_versions(shown, first, form)]})


ROUTES: Mapping[tuple[str, str], Callable[[Api, Request, str], Answer]] = {
    ("GET", "/api/v1/recognition/faces"): Api.faces,
    ("POST", "/api/v1/recognition/faces"): Api.add,
    ("GET", "/api/v1/recognition/subjects"): Api.subjects,
    ("POST", "/api/v1/recognition/recognize"): Api.recognize,
    ("POST", "/api/v1/detection/detect"): Api.detect,
    ("POST", "/api/v1/verification/verify"): Api.verify,
}


def unit(vector: list[float]) -> list[float]:
    """The vector at length one, as every stored one has it."""
    length = math.hypot(*vector)
    return [value / length for value in vector]


def _whitelabel(status: int, path: str) -> Answer:
    """What answers where no handler of the api does."""
    phrase = {404: "Not Found", 500: "Internal Server Error"}[status]
    return Answer(status, {"status": status, "error": phrase, "path": path})


def _number(form: Mapping[str, str], name: str, otherwise: int) -> int:
    try:
        return int(form.get(name) or otherwise)
    except ValueError:
        raise Unreadable from None


def _limit(form: Mapping[str, str]) -> int:
    limit = _number(form, "limit", 0)
    if limit < 0:
        raise Refused(400, 26, "Limit should be equal or greater than 0; ")
    return limit


def _shown(face: Mapping[str, Any], form: Mapping[str, str]) -> dict[str, Any]:
    """A face as the api passes it on."""
    shown = {name: face[name] for name in FACE if face.get(name) is not None}
    shown["box"] = {**face["box"], "probability": round(face["box"]["probability"], 5)}
    if "calculator" not in form.get("face_plugins", ""):
        shown.pop("embedding", None)
    times = shown.pop("execution_time", {})
    if form.get("status", "false") == "true":
        shown["execution_time"] = {key: float(times[key]) for key in KNOWN if key in times}
    return shown


def _photograph(request: Request, name: str) -> Part:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise NotAForm
    parts = [part for part in request.parts() if part.name == name and part.filename is not None]
    if not parts:
        raise Refused(400, 34, f"Required part {name} is missing")
    if len(parts[0].content) > LARGEST_FILE or len(request.body) > LARGEST_REQUEST:
        raise Undefined
    filename = parts[0].filename or ""
    if filename.lower().rpartition(".")[2] not in ENDINGS:
        raise Refused(400, 21, f"File [{filename}] has an unavailable extension")
    return parts[0]


def _with_versions(
    shown: dict[str, Any], answer: Mapping[str, Any], form: Mapping[str, str]
) -> dict[str, Any]:
    if form.get("status", "false") == "true":
        versions = answer["plugins_versions"]
        shown["plugins_versions"] = {key: versions[key] for key in KNOWN if key in versions}
    return shown


def main() -> None:
    database = Database()
    if not database.is_reachable():
        raise SystemExit("the database does not answer")
    print("Started TrainServiceApplication", flush=True)
    serve(Api(EngineClient.from_environment(), database))


if __name__ == "__main__":
    main()

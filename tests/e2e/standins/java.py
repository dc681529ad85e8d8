"""Stands in for the two Java services: answers only with the database, and asks the real engine."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

ROLE = sys.argv[1]
ENGINE = os.environ.get("PYTHON_URL", "http://compreface-core:3000")
SCHEMA = """
create table if not exists subject (id serial primary key, subject_name varchar(255) unique);
create table if not exists embedding (
  id serial primary key, subject_id int references subject (id) on delete cascade,
  embedding float8[] not null, calculator varchar(255) not null)
"""

# The original asks the engine once and keeps the answer until it is restarted.
engine_status: dict[str, Any] | None = None


def connect() -> psycopg.Connection[Any]:
    address = os.environ["POSTGRES_URL"].removeprefix("jdbc:")
    match = re.fullmatch(r"postgresql://([^:/]+)(?::(\d+))?/(\w+)", address)
    if match is None:
        raise SystemExit(f"POSTGRES_URL is not understood: {address}")
    return psycopg.connect(
        host=match[1],
        port=int(match[2] or 5432),
        dbname=match[3],
        user=os.environ.get("POSTGRES_USER", "postgres"),
        password=os.environ.get("POSTGRES_PASSWORD", "postgres"),
        connect_timeout=3,
    )


def status_of_engine() -> dict[str, Any]:
    global engine_status
    if engine_status is None:
        with urllib.request.urlopen(f"{ENGINE}/status", timeout=10) as answer:
            engine_status = json.load(answer)
    assert engine_status is not None
    return engine_status


def ask_engine(body: bytes, content_type: str, query: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{ENGINE}/find_faces?{query}", data=body, headers={"Content-Type": content_type}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


class Handler(BaseHTTPRequestHandler):
    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        try:
            if ROLE == "admin" and path == "/admin/status":
                with connect() as database:
                    database.execute("select 1 from embedding limit 1")
                self.answer(200, {"status": "OK"})
            elif ROLE == "api" and path == "/api/v1/consistence/status":
                with connect() as database:
                    found = database.execute("select distinct calculator from embedding").fetchall()
                calculator = status_of_engine()["calculator_version"]
                wrong = any(row[0] != calculator for row in found)
                self.answer(200, {"dbIsInconsistent": wrong, "calculator": calculator})
            elif ROLE == "api" and path == "/api/v1/recognition/subjects":
                with connect() as database:
                    rows = database.execute(
                        "select subject_name from subject order by 1"
                    ).fetchall()
                self.answer(200, {"subjects": [row[0] for row in rows]})
            else:
                self.answer(404, {"message": "not found"})
        except (psycopg.Error, OSError) as failed:
            self.answer(503, {"status": "NOT_READY", "message": str(failed)})

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if ROLE != "api" or address.path not in (
            "/api/v1/recognition/faces",
            "/api/v1/detection/detect",
        ):
            return self.answer(404, {"message": "not found"})
        try:
            status, found = ask_engine(
                body, self.headers.get("Content-Type", ""), "face_plugins=calculator"
            )
            if status != 200 or address.path.endswith("detect"):
                return self.answer(status, found)
            subject = parse_qs(address.query)["subject"][0]
            with connect() as database:
                row = database.execute(
                    "insert into subject (subject_name) values (%s)"
                    " on conflict (subject_name) do update set subject_name = excluded.subject_name"
                    " returning id",
                    (subject,),
                ).fetchone()
                assert row is not None
                database.execute(
                    "insert into embedding (subject_id, embedding, calculator) values (%s, %s, %s)",
                    (
                        row[0],
                        found["result"][0]["embedding"],
                        found["plugins_versions"]["calculator"],
                    ),
                )
            self.answer(201, {"subject": subject})
        except (psycopg.Error, OSError) as failed:
            self.answer(500, {"message": str(failed)})


def migrate() -> None:
    """Only admin makes the schema, as upstream does; it waits for the database."""
    for attempt in range(60):
        try:
            with connect() as database:
                database.execute(SCHEMA)
            print("schema is there", flush=True)
            return
        except psycopg.OperationalError as failed:
            print(f"waiting for the database ({attempt}): {failed}", flush=True)
            time.sleep(0.5)
    raise SystemExit("the database does not answer")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if ROLE == "admin":
        migrate()
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()

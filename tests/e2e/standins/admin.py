"""Stands in for CompreFace's admin: makes the schema, and lets people make services."""

from __future__ import annotations

import base64
import crypt
import json
import os
import secrets
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .database import NOBODY, Database, migrate
from .front import Answer, Request, serve

CLIENT = "Basic " + base64.b64encode(b"CommonClientId:password").decode()
TYPES = {"RECOGNITION": "R", "DETECTION": "D", "VERIFY": "V"}
SESSION = "CFSESSION"


def refused(status: int, message: str, code: int = 0) -> Answer:
    return Answer(status, {"message": message, "code": code})


@dataclass
class Admin:
    """Sessions live in memory: who was signed in signs in again after a restart."""

    database: Database
    _sessions: dict[str, int] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        try:
            return self._routed(request)
        except Exception as failed:
            print(f"Undefined exception occurred: {failed!r}", flush=True)
            return refused(400, "Something went wrong, please try again")

    def _routed(self, request: Request) -> Answer:
        match request.method, request.path.strip("/").split("/")[1:]:
            case "GET", ["status"]:
                ready = self.database.is_reachable()
                return Answer(200, {"status": "OK" if ready else "NOT_READY"})
            case "POST", ["user", "register"]:
                return self._register(json.loads(request.body))
            case "POST", ["oauth", "token"]:
                return self._sign_in(request)
        user = self._sessions.get(_cookies(request).get(SESSION, ""))
        if user is None:
            said = "Full authentication is required to access this resource"
            return Answer(401, {"error": "unauthorized", "error_description": said})
        match request.method, request.path.strip("/").split("/")[1:]:
            case "GET", ["apps"]:
                return self._apps(user)
            case "POST", ["app"]:
                return self._new_app(user, json.loads(request.body)["name"])
            case "GET", ["app", app, "models"]:
                return self._models(app)
            case "POST", ["app", app, "model"]:
                wanted = json.loads(request.body)
                return self._new_model(app, wanted["name"], wanted["type"])
        return refused(404, f"Request method '{request.method}' not supported")

    def _register(self, user: Mapping[str, Any]) -> Answer:
        """The first to register takes the demo's user over, and with it the whole install."""
        salt = "".join(secrets.choice(string.ascii_letters) for _ in range(22))
        password = crypt.crypt(user["password"], f"$2b$10${salt}")
        values = (user["email"].lower(), password, user["firstName"], user["lastName"])
        with self.database.transaction() as connection:
            taken = connection.execute(
                'update public."user" set email = %s, password = %s, first_name = %s,'
                " last_name = %s, guid = %s, allow_statistics = %s where password = %s",
                (*values, str(uuid.uuid4()), bool(user.get("isAllowStatistics")), NOBODY),
            )
            if not taken.rowcount:
                known = connection.execute(
                    'select from public."user" where email = %s', (values[0],)
                ).fetchone()
                if known is not None:
                    return refused(400, "This email already registered", 4)
                connection.execute(
                    'insert into public."user" (id, email, password, first_name, last_name, guid,'
                    " account_non_expired, account_non_locked, credentials_non_expired, enabled,"
                    " global_role) values (nextval('public.user_id_seq'), %s, %s, %s, %s, %s,"
                    " true, true, true, true, 'U')",
                    (*values, str(uuid.uuid4())),
                )
        return Answer(201)

    def _sign_in(self, request: Request) -> Answer:
        form = request.form()
        if request.headers.get("authorization") != CLIENT:
            return Answer(401, {"error": "unauthorized"})
        with self.database.transaction() as connection:
            row = connection.execute(
                'select id, password from public."user" where email = %s',
                (form.get("username", "").lower(),),
            ).fetchone()
        if row is None or crypt.crypt(form.get("password", ""), row[1]) != row[1]:
            return Answer(400, {"error": "invalid_grant", "error_description": "Bad credentials"})
        session = secrets.token_urlsafe(32)
        self._sessions[session] = row[0]
        cookies = (
            f"Set-Cookie: {SESSION}={session}; Path=/admin; Max-Age=2400; HttpOnly",
            f"Set-Cookie: REFRESH_TOKEN={secrets.token_urlsafe(32)}; Path=/admin/oauth/token;"
            " Max-Age=1209600; HttpOnly",
        )
        return Answer(200, None, cookies)

    def _apps(self, user: int) -> Answer:
        with self.database.transaction() as connection:
            rows = connection.execute(
                "select a.guid, a.name, a.api_key from public.app a"
                " join public.user_app_role r on r.app_id = a.id where r.user_id = %s"
                " order by a.id",
                (user,),
            ).fetchall()
        return Answer(200, [_app(*row) for row in rows])

    def _new_app(self, user: int, name: str) -> Answer:
        guid, key = str(uuid.uuid4()), str(uuid.uuid4())
        with self.database.transaction() as connection:
            role = connection.execute(
                'select global_role from public."user" where id = %s', (user,)
            ).fetchone()
            if role is None or role[0] != "O":
                return refused(403, "You have no privileges to perform this action", 1)
            connection.execute(
                "with made as (insert into public.app (id, name, guid, api_key)"
                " values (nextval('public.app_id_seq'), %s, %s, %s) returning id)"
                " insert into public.user_app_role (app_id, user_id, role)"
                " select id, %s, 'O' from made",
                (name, guid, key, user),
            )
        return Answer(201, _app(guid, name, key))

    def _models(self, app: str) -> Answer:
        with self.database.transaction() as connection:
            rows = connection.execute(
                "select m.guid, m.name, m.api_key, m.type from public.model m"
                " join public.app a on a.id = m.app_id where a.guid = %s order by m.id",
                (app,),
            ).fetchall()
        return Answer(200, [_model(*row) for row in rows])

    def _new_model(self, app: str, name: str, kind: str) -> Answer:
        guid, key = str(uuid.uuid4()), str(uuid.uuid4())
        try:
            with self.database.transaction() as connection:
                connection.execute(
                    "insert into public.model"
                    " (id, name, guid, app_id, api_key, type, created_date)"
                    " select nextval('public.model_id_seq'), %s, %s, id, %s, %s, now()"
                    " from public.app where guid = %s",
                    (name, guid, key, TYPES[kind], app),
                )
        except psycopg.errors.UniqueViolation:
            return refused(400, "Service with the same name already exists", 4)
        return Answer(201, _model(guid, name, key, TYPES[kind]))


def _app(guid: str, name: str, key: str) -> dict[str, Any]:
    return {"id": guid, "name": name, "apiKey": key, "role": "OWNER"}


def _model(guid: str, name: str, key: str, kind: str) -> dict[str, Any]:
    kinds = {letter: word for word, letter in TYPES.items()}
    return {"id": guid, "name": name, "apiKey": key, "type": kinds[kind]}


def _cookies(request: Request) -> dict[str, str]:
    pairs = (item.partition("=") for item in request.headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def main() -> None:
    migrate(os.environ.get("STANDIN_VERSION", "1.2.0"))
    print("Started FrsApplication", flush=True)
    serve(Admin(Database()))


if __name__ == "__main__":
    main()

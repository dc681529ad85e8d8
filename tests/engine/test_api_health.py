"""Liveness, health and readiness: with a full queue the engine is not ready, but alive."""

from __future__ import annotations

import asyncio

from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.settings import Settings
from tests.contract.process import MULTIPART, photograph_form
from tests.engine.fakes import AsgiReply, Caller, FakePipeline


class Service:
    """One application with one worker and one place to wait."""

    def __init__(self) -> None:
        self.pipeline = FakePipeline()
        self.gate = Gate(concurrency=1, max_queue=1, max_bytes=10_000, max_wait_s=9)
        self._app = App(Settings.from_env({}, cores=1), self.pipeline, self.gate)

    def find(self) -> asyncio.Task[AsgiReply]:
        headers, body = {"Content-Type": MULTIPART}, photograph_form(b"1")
        caller = Caller(self._app, "POST", "/find_faces", headers=headers, body=body)
        return asyncio.ensure_future(caller.run())

    async def get(self, path: str) -> AsgiReply:
        return await Caller(self._app, "GET", path).run()

    async def health(self) -> dict[str, int]:
        paths = ("/live", "/healthcheck", "/ready")
        return {path: (await self.get(path)).status for path in paths}


WELL = {"/live": 200, "/healthcheck": 200, "/ready": 200}


def test_with_a_full_queue_the_engine_is_healthy_but_not_ready() -> None:
    async def session() -> None:
        service = Service()
        assert await service.health() == WELL
        service.pipeline.go.clear()
        first = service.find()
        while not service.gate.running:
            await asyncio.sleep(0.001)
        assert await service.health() == WELL, "one more may wait"
        second = service.find()
        while not service.gate.waiting:
            await asyncio.sleep(0.001)
        assert await service.health() == {**WELL, "/ready": 503}
        reply = await service.get("/ready")
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json() == {"message": "503 Service Unavailable: The queue is full"}
        service.pipeline.go.set()
        assert {(await first).status, (await second).status} == {200}
        assert await service.health() == WELL

    asyncio.run(session())


def test_a_stopping_engine_is_not_ready_and_serves_admitted_requests() -> None:
    async def session() -> None:
        service = Service()
        service.gate.stopping = True
        assert await service.health() == {**WELL, "/ready": 503}

        assert (await service.find()).status == 200
        service.gate.close()
        assert (await service.find()).status == 503
        assert await service.health() == {**WELL, "/ready": 503}

    asyncio.run(session())


def test_with_a_stuck_worker_all_health_routes_answer_503_and_name_the_request() -> None:
    async def session() -> None:
        service = Service()
        service.pipeline.go.clear()
        first = service.find()
        while not service.gate.running:
            await asyncio.sleep(0.001)
        service.gate.age(60)
        assert await service.health() == {**WELL}
        service.gate.age(1)
        assert await service.health() == {"/live": 503, "/healthcheck": 503, "/ready": 503}
        message = (await service.get("/live")).json()["message"]
        service.pipeline.go.set()
        request_id = (await first).headers["x-request-id"]
        assert f"61 s at request {request_id} (unknown, 1 bytes)" in message
        assert await service.health() == WELL

    asyncio.run(session())

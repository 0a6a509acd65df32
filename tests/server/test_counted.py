"""What readers count is counted once, also if the answer to a report is lost."""

import asyncio
import json

import httpx
import pytest

import kvengine.aio
from kvengine.errors import StoreReadOnly
from kvengine.server.counted import CountedDoor, Telling
from kvengine.server.figures import Figures
from kvengine.server.health import Ready
from kvengine.server.messages import Request
from kvengine.server.serving import make_backend
from kvengine.server.settings import ServerSettings
from tests.server.running import ACCOUNT, TOKEN


class Losing(httpx.AsyncBaseTransport):
    """Carries requests to a door; answers with the given numbers are lost."""

    def __init__(self, door, lost):
        self.door, self.lost, self.count = door, lost, 0

    async def handle_async_request(self, request):
        body = await request.aread()
        self.count += 1

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope = {"method": "POST", "path": "/counted", "raw_path": b"/counted", "headers": headers}
        answer = await self.door(Request({**scope, "query_string": b""}, receive))
        if self.count in self.lost:
            raise httpx.ReadError("lost")
        return httpx.Response(answer.status, content=answer.body)


@pytest.mark.parametrize("lost", [set(), {1}, {1, 2}, {2}, {1, 3}])
def test_a_report_whose_answer_was_lost_is_counted_once(lost):
    async def main():
        settings = ServerSettings(data="", port=0, account=ACCOUNT, first_token=TOKEN)
        async with (
            kvengine.aio.Database.in_memory() as db,
            kvengine.aio.Database.in_memory() as reader,
        ):
            namespace = await db.namespace("n")
            near = await reader.namespace("n")
            backend = make_backend(db, settings, ACCOUNT)
            figures = Figures(backend)
            door = CountedDoor(backend, figures, "secret", Ready(backend))
            near_backend = make_backend(reader, settings, ACCOUNT)
            ready = Ready(near_backend)
            telling = Telling(near_backend, Figures(backend), "nowhere", "secret", ready)
            telling._http = httpx.AsyncClient(
                transport=Losing(door, lost),
                headers={"kv-secret": "secret"},
                base_url="http://writer",
            )
            for one in reader._namespaces.values():
                one._inner.id = namespace.id
            total = 0
            for reads in (3, 5, 7):
                near.meter.reads += reads
                total += reads
                await telling.tell()
            assert ready.writer_why is None
            db._inner.store.refuse_writes(StoreReadOnly("no room"))
            await telling.tell()
            await telling.close()
            assert "no room" in ready.writer_why  # a reader is as ready as its writer
            assert namespace.meter.reads == total
            assert json.dumps(telling._waiting) == "[]"

    asyncio.run(main())

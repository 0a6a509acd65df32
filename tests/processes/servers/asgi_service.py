"""The service of `wsgi_service.py` for uvicorn, whose workers open the database in their loop."""

import json
import os
import secrets

import kvengine
import kvengine.aio


class Service:
    """An ASGI application."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        found = await self.answer(scope["path"])
        status = 404 if found is None else 200
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        body = json.dumps({"pid": os.getpid()} | (found or {})).encode()
        await send({"type": "http.response.body", "body": body})

    async def live(self, receive, send):
        """Have the database open from start to shutdown."""
        await receive()
        async with kvengine.aio.open(os.environ["KVENGINE_TEST_DB"]) as db:
            self.counters = await db.namespace("counters")
            self.sessions = await db.namespace("sessions")
            self.settings = await db.namespace("settings")
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, path):
        """Return what a path asks for; None: there is no such session."""
        _, what, *name = path.split("/")
        if what == "visit":
            return {"value": await self.counters.increment("visits")}
        if what == "login":
            session, user = secrets.token_hex(8), {"user": name[0], "visits": 0}
            await self.sessions.put(session, user, type="json", if_version=0, expiration_ttl=3600)
            return {"session": session}
        if what == "session":
            return await self.touch(name[0])
        return {"value": await self.settings.get(name[0]) if name else None}

    async def touch(self, session):
        """Count a visit in a session by compare-and-set."""
        while True:
            found = await self.sessions.get_with_metadata(session, "json")
            if found.value is None:
                return None
            value = {**found.value, "visits": found.value["visits"] + 1}
            try:
                await self.sessions.put(session, value, type="json", if_version=found.version)
            except kvengine.VersionConflict:
                continue
            return value


application = Service()

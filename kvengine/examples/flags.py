"""Feature flags with a kill switch, with FastAPI and async functions.

A flag says for how many percent of the users a feature is on.  Every request asks and nothing is
cached: a read of a small value takes less than a microsecond and waits for nobody, so it may stand
in async code as it is.  A write waits for the disk, so it goes to a thread.

The kill switch turns every feature off from the next request on.  One process has the database
open for writing, so others, a script or a person, throw the switch with a POST.

    AUTH="Authorization: Bearer $ADMIN_TOKEN"                  (the server prints ADMIN_TOKEN)
    curl "localhost:8000/checkout?user=ada"
    curl localhost:8000/flags/express-checkout -H "$AUTH" -X PUT --json '{"percent": 50}'
    curl localhost:8000/kill -H "$AUTH" --json '{"reason": "payments fail"}'
    curl localhost:8000/flags
    curl localhost:8000/kill -H "$AUTH" -X DELETE
"""

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path

import kvengine
from kvengine.examples.command import example, secret_option
from kvengine.examples.with_fastapi import new_app, only, serve

KILL = "kill"
FLAG = "flag/"  # then the name of the flag

Name = Annotated[str, Path(pattern="^[a-z0-9-]{1,64}$")]
Percent = Annotated[int, Body(embed=True, ge=0, le=100, strict=True)]
Reason = Annotated[str, Body(embed=True, max_length=200)]


def enabled(kv: kvengine.Namespace, flag: str, user: str) -> bool:
    """Return whether a feature is on for a user: always the same while the percentage is."""
    if kv.get(KILL) is not None:
        return False
    bucket = int.from_bytes(hashlib.sha256(f"{flag}/{user}".encode()).digest()) % 100
    return bucket < int(kv.get(FLAG + flag) or 0)


def create_app(kv: kvengine.Namespace, admin_token: str) -> FastAPI:
    """Return the application; flags are kept in a namespace."""
    app, admin = new_app("Feature flags"), only(admin_token)

    @app.get("/checkout")
    async def checkout(user: str) -> dict[str, str]:
        return {"checkout": "express" if enabled(kv, "express-checkout", user) else "classic"}

    @app.get("/flags")
    async def show() -> dict[str, Any]:
        percents = kv.get_many([info.name for info in kv.keys(FLAG)])
        return {
            "killed": kv.get(KILL),
            "percent": {name.removeprefix(FLAG): int(percents[name] or 0) for name in percents},
        }

    @app.put("/flags/{name}", dependencies=[admin])
    async def change(name: Name, percent: Percent) -> dict[str, int]:
        await asyncio.to_thread(kv.put, FLAG + name, str(percent))
        return {name: percent}

    @app.post("/kill", dependencies=[admin])
    async def kill(reason: Reason) -> dict[str, str]:
        await asyncio.to_thread(kv.put, KILL, reason)
        return {"killed": reason}

    @app.delete("/kill", status_code=204, dependencies=[admin])
    async def revive() -> None:
        await asyncio.to_thread(kv.delete, KILL)

    return app


@example(__doc__)
@secret_option("--admin-token", "Who has it may change flags and throw the kill switch.")
def main(data: str, port: int, admin_token: str) -> None:
    """Open the database and serve."""
    with kvengine.open(data) as db:
        app = create_app(db.namespace("flags"), admin_token)
        serve(app, port, 'curl "{url}/checkout?user=ada"')


if __name__ == "__main__":
    main()

"""A small JSON API: notes that several people edit, with FastAPI.

Each note has a version, which is its ETag.  A client that changes a note sends the ETag that
it read as If-Match.  If another client was faster, `put(if_version=...)` writes nothing and the
answer is 412.

FastAPI runs functions that are not async in threads, where a write may wait for the disk.

    curl -i localhost:8000/notes --json '{"title": "Milk", "text": "two bottles"}'
    curl -i localhost:8000/notes/ID
    curl -i localhost:8000/notes/ID -X PUT -H 'If-Match: "12"' --json '{"title": "Milk, eggs"}'
    curl -i localhost:8000/notes/ID -X DELETE -H 'If-Match: "13"'
    curl "localhost:8000/notes?limit=10"                       (then &cursor=... of the answer)
"""

import asyncio
import re
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import kvengine
from kvengine.examples.command import example
from kvengine.examples.with_fastapi import new_app, serve

IfMatch = Annotated[str | None, Header()]
Limit = Annotated[int, Query(ge=1, le=1000)]


class Note(BaseModel):
    """What a user writes."""

    title: str = Field(min_length=1, max_length=150)
    text: str = Field(default="", max_length=100_000)


def version_in(if_match: str | None) -> int:
    """Return the version that an If-Match header asks for."""
    if if_match is None:
        raise HTTPException(428, "send If-Match with the ETag of the note as you have read it")
    etag = re.fullmatch(r'"([1-9][0-9]{0,17})"', if_match)
    if etag is None:
        raise HTTPException(412, f"the ETag of a note is a number in quotes, not {if_match}")
    return int(etag[1])


def create_app(kv: kvengine.Namespace) -> FastAPI:
    """Return the application; notes are kept in a namespace."""
    app = new_app("Notes")

    @app.exception_handler(kvengine.VersionConflict)
    def conflict(_request: Request, error: kvengine.VersionConflict) -> Response:
        if error.found == 0:
            return JSONResponse({"detail": "there is no such note"}, 404)
        return JSONResponse({"detail": "another client changed the note; read it again"}, 412)

    def write(note_id: str, note: Note, if_version: int, response: Response) -> dict[str, Any]:
        value, shown = note.model_dump(), {"title": note.title}
        version = kv.put(note_id, value, type="json", metadata=shown, if_version=if_version)
        response.headers["ETag"] = f'"{version}"'
        return {"id": note_id, **value}

    @app.post("/notes", status_code=201)
    def create(note: Note, response: Response) -> dict[str, Any]:
        note_id = uuid4().hex
        response.headers["Location"] = f"/notes/{note_id}"
        return write(note_id, note, 0, response)  # version 0: there is none yet

    @app.get("/notes")
    def show(limit: Limit = 20, cursor: str | None = None) -> dict[str, Any]:
        page = kv.list(limit=limit, cursor=cursor)  # titles are metadata: no note is read
        notes = [{"id": info.name, **info.metadata} for info in page.keys]
        return {"notes": notes, "cursor": page.cursor}

    @app.get("/notes/{note_id}")
    def read(note_id: str, response: Response) -> dict[str, Any]:
        found = kv.get_with_metadata(note_id, "json")
        if found.value is None:
            raise HTTPException(404, "there is no such note")
        response.headers["ETag"] = f'"{found.version}"'
        return {"id": note_id, **found.value}

    @app.put("/notes/{note_id}")
    def change(
        note_id: str, note: Note, response: Response, if_match: IfMatch = None
    ) -> dict[str, Any]:
        return write(note_id, note, version_in(if_match), response)

    @app.delete("/notes/{note_id}", status_code=204)
    def remove(note_id: str, if_match: IfMatch = None) -> None:
        kv.delete(note_id, if_version=version_in(if_match))

    return app


@example(__doc__)
def main(data: str, port: int) -> None:
    """Open the database and serve."""
    with kvengine.open(data) as db:
        app = create_app(db.namespace("notes"))
        asyncio.run(serve(app, port, """curl -i {url}/notes --json '{"title": "Milk"}'"""))


if __name__ == "__main__":
    main()

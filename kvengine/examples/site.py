"""A static site from a folder, with Flask.

The files of FOLDER become keys, with content type and ETag in their metadata; what is the same
already is not written again, what is gone from the folder is deleted.  Only keys are served, so no
path leads out of the site.  Browsers ask for pages each time, and get 304 if the ETag is the same;
other files they keep for an hour.

Without FOLDER it serves what the database has, a first page if there is nothing.

    python -m kvengine.examples.site ./public --data ./site-data
    curl -i localhost:8000/
    curl -i localhost:8000/ -H 'If-None-Match: "ETAG"'         (304: not changed)
    curl -i localhost:8000/logo.svg -r 0-99                    (206: the first 100 bytes)
"""

import hashlib
import io
import mimetypes
from pathlib import Path

import click
from flask import Flask, abort, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response
from werkzeug.wsgi import wrap_file

import kvengine
from kvengine.examples.command import example
from kvengine.examples.with_flask import new_app, serve

FIRST_PAGE = b"<!doctype html><title>kvengine</title><h1>It works</h1>"


def store(kv: kvengine.Namespace, name: str, file: io.BufferedIOBase) -> bool:
    """Put a file, unless the namespace has it as it is; return whether it was put."""
    etag = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    metadata = {"type": content_type, "etag": etag}
    details = kv.get_metadata(name)
    if details is not None and details.metadata == metadata:
        return False
    file.seek(0)
    kv.put(name, file, metadata=metadata)
    return True


def load(kv: kvengine.Namespace, folder: Path) -> str:
    """Make the namespace hold the files of a folder; hidden files and links are left out."""
    changed, names = 0, set[str]()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or "/." in f"/{name}":
            continue
        names.add(name)
        with path.open("rb") as file:
            try:
                changed += store(kv, name, file)
            except kvengine.InvalidRequest as error:
                raise click.ClickException(f"{path}: {error}") from None
    gone = {info.name for info in kv.keys("")} - names
    for name in gone:
        kv.delete(name)
    return f"{len(names)} files: {changed} stored, {len(gone)} deleted"


def create_app(kv: kvengine.Namespace) -> Flask:
    """Return the application that serves a namespace."""
    app = new_app()

    def answer(name: str) -> Response | None:
        file, metadata, _, _ = kv.get_with_metadata(name, "stream")
        if file is None:
            return None
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        body = wrap_file(request.environ, file)  # streamed: never whole in memory
        response = Response(body, mimetype=metadata["type"], direct_passthrough=True)
        response.content_length = size
        response.set_etag(metadata["etag"])
        is_page = metadata["type"] == "text/html"
        response.headers["Cache-Control"] = "no-cache" if is_page else "public, max-age=3600"
        return response.make_conditional(request, accept_ranges=True, complete_length=size)

    @app.get("/")
    @app.get("/<path:name>")
    def page(name: str = "") -> ResponseReturnValue:
        found = answer(name + "index.html" if name == "" or name.endswith("/") else name)
        if found is None and f"{name}/index.html" in kv:
            return redirect(f"/{name}/", 301)
        return found or abort(404)

    return app


@example(__doc__)
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def main(data: str, port: int, folder: Path | None) -> None:
    """Open the database, load the folder, and serve."""
    if folder is not None and Path(data).resolve().is_relative_to(folder.resolve()):
        raise click.UsageError(f"--data {data} lies in {folder}: the site would show its database")
    with kvengine.open(data) as db:
        kv = db.namespace("site")
        if folder is not None:
            click.echo(load(kv, folder))
        elif "index.html" not in kv:
            store(kv, "index.html", io.BytesIO(FIRST_PAGE))
        serve(create_app(kv), port, "curl -i {url}/")


if __name__ == "__main__":
    main()

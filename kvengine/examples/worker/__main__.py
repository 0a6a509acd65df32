"""Load the example's site into a server, and write a configuration for workerd.

python -m kvengine.examples.worker --url http://127.0.0.1:8787 --modules node_modules --into DIR

The token is taken from KVENGINE_TOKEN; README.md beside this file has all commands.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import click

import kvengine

HERE = Path(__file__).parent
BINDINGS = {"SITE": "site", "FLAGS": "site-flags", "TOKENS": "site-tokens"}
HANDLER = Path("@cloudflare") / "kv-asset-handler" / "dist" / "index.js"
SERVICE = """(name = "{name}", external = (address = "{address}", http = (injectRequestHeaders = [
      (name = "KV-Namespace", value = "{id}"),
      (name = "Authorization", value = "Bearer {token}"),
    ]))),"""


def load(url: str, token: str) -> dict[str, str]:
    """Put the site, two flags and an access token into namespaces; return their ids by binding."""
    with kvengine.connect(url, token=token) as db:
        spaces = {name: db.namespace(title) for name, title in BINDINGS.items()}
        for file in (HERE / "site").iterdir():
            spaces["SITE"].put(file.name, file.read_bytes())
        spaces["FLAGS"].put_many({"dark-mode": "on", "checkout": "off"})
        spaces["TOKENS"].put("let-me-in", {"name": "Ada"}, type="json", expiration_ttl=86_400)
        return {name: space.id for name, space in spaces.items()}


def write(
    folder: Path, modules: Path, url: str, token: str, port: int, ids: dict[str, str]
) -> None:
    """Write what workerd needs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "worker.js", folder)
    shutil.copy(modules / HANDLER, folder / "kv-asset-handler.js")
    address = urlsplit(url).netloc
    services = [
        SERVICE.format(name=name.lower(), address=address, id=one, token=token)
        for name, one in ids.items()
    ]
    bindings = [f'(name = "{name}", kvNamespace = "{name.lower()}")' for name in ids]
    config = (HERE / "config.capnp").read_text().replace("{port}", str(port))
    config = config.replace("    {kv}", "    " + "\n    ".join(services))
    config = config.replace("[{bindings}]", "[" + ", ".join(bindings) + "]")
    target = folder / "config.capnp"
    target.touch(mode=0o600)  # it holds the token
    target.write_text(config)


@click.command()
@click.option("--url", default="http://127.0.0.1:8787", show_default=True, help="Of the server.")
@click.option(
    "--modules", type=click.Path(exists=True, path_type=Path), default=Path("node_modules")
)
@click.option("--into", type=click.Path(path_type=Path), default=Path("worker"), show_default=True)
@click.option("--port", default=8080, show_default=True, help="On which the Worker listens.")
def main(url: str, modules: Path, into: Path, port: int) -> None:
    """Load the example's site into a server, and write a configuration for workerd."""
    token = os.environ.get("KVENGINE_TOKEN")
    if not token:
        raise click.UsageError("set KVENGINE_TOKEN to a token of the server that may administer it")
    write(into, modules, url, token, port, load(url, token))
    click.echo(f"workerd serve {into / 'config.capnp'}, then open http://127.0.0.1:{port}/")


if __name__ == "__main__":
    main()

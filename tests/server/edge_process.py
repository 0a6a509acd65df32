"""A primary or an edge as a process of its own, for tests: prints its port when it listens.

python -m tests.server.edge_process primary FOLDER HOST PORT
python -m tests.server.edge_process edge URL NAME HOST PORT [SETTING=NUMBER ...]
"""

import asyncio
import contextlib
import sys

import kvengine.aio
from kvengine.server.api.edge_endpoints import open_edge, wrote_here
from kvengine.server.api.forward import Forwarder
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.site import Site
from tests.server.running import ACCOUNT, TOKEN


def settings(host: str, port: str) -> ServerSettings:
    return ServerSettings(
        data="",
        host=host,
        port=int(port),
        account=ACCOUNT,
        first_token=TOKEN,
        key_write_interval_s=0.0,
    )


async def serve(server: Server) -> None:
    await server.start()
    print(server.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until it is closed
    await server.stop()


async def primary(folder: str, host: str, port: str) -> None:
    chosen = settings(host, port)
    async with kvengine.aio.open(folder, limits="strict", durability="os") as db:
        backend = make_backend(db, chosen, ACCOUNT)
        await serve(Server(Site(backend, chosen)))


async def edge(url: str, name: str, host: str, port: str, *options: str) -> None:
    chosen = settings(host, port)
    numbers = {key: float(value) for key, value in (option.split("=") for option in options)}
    edge = await open_edge(url, token=TOKEN, name=name, **numbers)
    forwarder = Forwarder(url, after_write=wrote_here(edge))
    async with edge, contextlib.aclosing(forwarder):
        backend = make_backend(edge, chosen, ACCOUNT)
        await serve(Server(Site(backend, chosen, forwarder)))


if __name__ == "__main__":
    asyncio.run({"primary": primary, "edge": edge}[sys.argv[1]](*sys.argv[2:]))

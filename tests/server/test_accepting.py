"""Connections are accepted and counted, and none that was accepted is dropped."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import kvengine.aio
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.site import Site
from tests.server.processes import certificate_in, wait_for
from tests.server.running import ACCOUNT, running

ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_what_was_accepted_while_the_server_stops_is_answered() -> None:
    async def main() -> bytes:
        async with kvengine.aio.Database.in_memory() as db:
            settings = ServerSettings(data="", port=0, is_open=True)
            server = Server(Site(make_backend(db, settings, ACCOUNT), settings))
            await server.start()
            with socket.create_connection(("127.0.0.1", server.port), 30) as client:
                client.sendall(ASK)
                for _ in range(2):  # in the second turn of the loop it is accepted
                    await asyncio.sleep(0)
                await server.stop()
                return client.recv(1 << 16)

    assert asyncio.run(main()).startswith(b"HTTP/1.1 200")


def test_a_server_without_descriptors_goes_on_when_there_are_some() -> None:
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running() as server, socket.socket() as client:
        client.settimeout(30)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            client.connect(("127.0.0.1", server.port))
            time.sleep(0.2)  # it tries to accept
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        client.sendall(ASK)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_handshake_may_end_while_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certificate_in(tmp_path)
    monkeypatch.setattr("kvengine.server.serving.LEAVE_S", 30.0)
    running_server = running(certificate=certificate, private_key=key)
    server = running_server.__enter__()
    stopping = threading.Thread(target=running_server.__exit__, args=(None, None, None))
    comes, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=certificate)
    tls = context.wrap_bio(comes, goes, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.port), 30) as link:

        def finish(step: Any) -> Any:
            while True:
                with suppress(ssl.SSLWantReadError):
                    found = step()
                    link.sendall(goes.read())
                    return found
                link.sendall(goes.read())
                piece = link.recv(1 << 16)
                assert piece, "the server has closed the connection"
                comes.write(piece)
                if not stopping.ident:  # it has answered the first message: so it has accepted
                    stopping.start()
                    wait_for(lambda: is_refused(server.port))

        finish(tls.do_handshake)
        finish(lambda: tls.write(ASK))
        assert finish(lambda: tls.read(1 << 16)).startswith(b"HTTP/1.1 200")
    stopping.join(30)
    assert not stopping.is_alive()


def test_handshakes_are_counted(tmp_path: Path) -> None:
    """Who says nothing has a place only as long as a head may take; too many have none."""
    certificate, key = certificate_in(tmp_path)
    with running(
        certificate=certificate, private_key=key, connections=4, head_timeout_s=2.0
    ) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(3)]
        with suppress(ConnectionResetError):
            assert idle[2].recv(1) == b""  # of one address there are two
        idle[0].sendall(ASK)  # no TLS
        for connection in idle[:2]:
            with suppress(ConnectionResetError):
                while connection.recv(100):
                    pass
            connection.close()
        idle[2].close()
        context = ssl.create_default_context(cafile=certificate)
        for _ in range(5):
            url = f"https://127.0.0.1:{server.port}/health"
            assert httpx.get(url, verify=context).status_code == 200


def is_refused(port: int) -> bool:
    """True if nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 30).close()
    except OSError:
        return True
    return False

"""The log over sockets: real processes, connections that break, bytes that change."""

import contextlib
import itertools
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvengine import (
    Database,
    Follower,
    InvalidType,
    LogCompacted,
    ProtocolError,
    ReplicaDiverged,
    Store,
    UpstreamUnavailable,
    connect_log,
    serve_log,
)
from kvengine.replication.network import log_request
from kvengine.replication.network.log_request import (
    REQUEST_BYTES,
    LogRequest,
    decode_request,
    encode_request,
)
from kvengine.replication.network.remote import RemoteSource

PAGE = (Path(__file__).parents[2] / "kvengine/replication/WIRE.md").read_text()


@pytest.fixture
def store():
    with Store.in_memory() as opened:
        for number in range(100):
            opened.put(b"%d" % number, b"v" * number, metadata=b"m")
        opened.delete(b"7")
        yield opened


@pytest.fixture(params=["unix", "tcp"])
def server(request, store, tmp_path):
    address = str(tmp_path / "log") if request.param == "unix" else ("127.0.0.1", 0)
    with serve_log(store, address) as opened:
        yield opened


def test_a_tail_over_a_socket_is_that_of_the_store(store, server):
    far = connect_log(server.address)
    assert far.uuid == store._parts.manifest.uuid
    assert far.version == store.version
    for after in (0, 50, store.version):
        assert list(far.tail(after)) == list(store.tail(after))
    follower = far.tail(store.version, follow=True)
    for number in range(20):
        version = store.put(b"new", b"%d" % number)
        change = next(follower)
        assert (change.version, change.value) == (version, b"%d" % number)
    assert list(far.tail(store.version, follow=True, timeout=0)) == []


def test_a_replica_over_a_socket(server, store, tmp_path):
    with Follower(connect_log(server.address), tmp_path / "replica") as replica:
        replica.wait(store.version)
        version = store.put(b"k", b"new")
        assert replica.wait(version)
        assert replica.store.digest().sum == store.digest().sum
    store.put(b"k", b"newer")
    with Follower(connect_log(server.address), tmp_path / "replica") as replica:
        assert replica.wait(store.version)
        assert list(replica.store.scan()) == list(store.scan())


def test_of_a_database_and_a_namespace_of_it(tmp_path):
    with Database.in_memory() as db, serve_log(db, str(tmp_path / "log")) as server:
        db.namespace("a").put("k", "1")
        db.namespace("b").put("k", "2")
        with Follower(connect_log(server.address), namespaces=["a"]) as replica:
            replica.wait(db.version)
            found = replica.database()
            assert found.namespace("a").get("k") == "1"
            assert [info.title for info in found.namespaces()] == ["a"]


def test_another_store_is_refused(tmp_path):
    address = str(tmp_path / "log")
    far = connect_log(address)
    with Store.in_memory() as store, serve_log(store, address):
        store.put(b"k", b"v")
        assert len(list(far.tail())) == 1
    Path(address).unlink()
    with Store.in_memory() as other, serve_log(other, address):
        with pytest.raises(ReplicaDiverged, match="it is another log"):
            list(far.tail(1))
        with pytest.raises(ReplicaDiverged):
            next(far.tail(1, follow=True))


def test_changes_that_are_gone(tmp_path):
    with Store.in_memory(segment_bytes=4096, compaction="manual") as store:
        for number in range(50):
            store.put(b"%d" % number, b"x" * 200)
            if number > 10:
                store.delete(b"%d" % number)
        store.checkpoint()
        store.compact()
        assert store._parts.manifest.forgotten > 20
        with serve_log(store, str(tmp_path / "log")) as server:
            far = connect_log(server.address)
            with pytest.raises(LogCompacted):
                list(far.tail(5))
            assert [change.key for change in far.tail(0)] == [c.key for c in store.tail(0)]


SENDER = """
import sys, time, kvengine
with kvengine.Store(sys.argv[1], durability="os") as store:
    with kvengine.serve_log(store, sys.argv[2]) as server:
        print("ready", flush=True)
        for line in sys.stdin:
            key, value = line.split()
            print(store.put(key.encode(), value.encode()), flush=True)
"""


def test_the_sender_is_killed_and_comes_back(tmp_path):
    address, chance = str(tmp_path / "log"), random.Random(3)
    followed, versions, replica = [], [0], None
    far = connect_log(address)

    def follow():
        for change in far.tail(follow=True):
            followed.append(change.version)
            if change.key == b"end":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    for life in range(4):
        with contextlib.suppress(FileNotFoundError):
            Path(address).unlink()
        with subprocess.Popen(
            [sys.executable, "-c", SENDER, str(tmp_path / "s"), address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as sender:  # fmt: skip
            assert sender.stdout.readline() == "ready\n"
            if replica is None:
                replica = Follower(connect_log(address), tmp_path / "replica")
            for number in range(50):
                key = "end" if life == 3 and number == 49 else f"k{chance.randrange(9)}"
                sender.stdin.write(f"{key} {number}\n")
                sender.stdin.flush()
                versions.append(int(sender.stdout.readline()))
            if life == 3:
                assert replica.wait(versions[-1], 60)
                thread.join(60)
            sender.kill()
    assert followed == versions[1:]
    with Store(tmp_path / "s") as store, replica:
        assert list(replica.store.scan()) == list(store.scan())


class BadLine:
    """A proxy in front of a log server: it cuts, delays and changes what passes."""

    def __init__(self, address, seed):
        self.address, self.chance, self.is_bad = address, random.Random(seed), True

    def connect(self):
        near, far = socket.socketpair()
        server = socket.create_connection(self.address)
        threading.Thread(target=self.join, args=(far, server), daemon=True).start()
        return near

    def join(self, far, server):
        back = threading.Thread(target=self.carry, args=(server, far), daemon=True)
        back.start()
        self.carry(far, server)
        back.join()
        far.close()
        server.close()

    def carry(self, origin, target):
        chance = random.Random(self.chance.random())
        with contextlib.suppress(OSError):
            while data := origin.recv(chance.choice([1, 100, 5000])):
                what = chance.random() if self.is_bad else 1.0
                if what < 0.03:
                    break
                if what < 0.06:
                    place = chance.randrange(len(data))
                    bit = bytes([data[place] ^ 1 << chance.randrange(8)])
                    data = data[:place] + bit + data[place + 1 :]
                elif what < 0.08:
                    data += data
                elif what < 0.1:
                    data = data[1:]
                elif what < 0.12:
                    time.sleep(0.002)
                target.sendall(data)
        for one in (origin, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("seed", range(6))
def test_over_a_bad_line_a_replica_is_never_wrong(store, seed):
    with serve_log(store, ("127.0.0.1", 0)) as server:
        line = BadLine(server.address, seed)
        line.is_bad = False
        far = RemoteSource(line.connect)
        assert far.version == store.version
        line.is_bad = True
        with Follower(far) as replica:
            for number in range(300):
                store.put(b"%d" % (number % 50), b"%d" % number)
                if number % 30 == 0:
                    time.sleep(0.01)
            line.is_bad = False
            assert replica.wait(store.version, 60)
            assert list(replica.store.scan()) == list(store.scan())


def test_garbage_harms_nobody(store):
    chance = random.Random(1)
    with serve_log(store, ("127.0.0.1", 0)) as server:
        for size in (0, 1, 47, 48, 500):
            with socket.create_connection(server.address) as connection:
                connection.sendall(chance.randbytes(size))
                with contextlib.suppress(OSError):  # the server may have closed it already
                    connection.shutdown(socket.SHUT_WR)
                    assert connection.recv(100) == b""
        assert len(list(connect_log(server.address).tail())) == 101


def test_who_can_not_be_reached_says_so(tmp_path):
    far = connect_log(str(tmp_path / "none"))
    for call in (lambda: far.version, lambda: far.uuid, lambda: list(far.tail())):
        with pytest.raises(UpstreamUnavailable, match="can't reach the log server"):
            call()
    near, other = socket.socketpair()
    other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 100)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(UpstreamUnavailable, match="the log server does not answer"):
        list(RemoteSource(lambda: near).tail())
    other.close()


def test_bad_servers(tmp_path):
    with pytest.raises(InvalidType, match="needs a Store or Database, not dict"):
        serve_log({}, ("127.0.0.1", 0))
    address = str(tmp_path / "log")
    with Store.in_memory() as store, serve_log(store, address), pytest.raises(OSError, match="use"):
        serve_log(store, address)


def test_a_closed_server_leaves_nothing(store):
    before = set(threading.enumerate())
    server = serve_log(store, ("127.0.0.1", 0))
    tails = [connect_log(server.address).tail(follow=True) for _ in range(5)]
    assert [next(tail).version for tail in tails] == [1] * 5
    server.close()
    server.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(UpstreamUnavailable):
        list(connect_log(server.address).tail())


def test_every_damaged_question_is_refused():
    data = encode_request(LogRequest(7, True, b"u" * 16))
    assert decode_request(data) == LogRequest(7, True, b"u" * 16)
    for place in range(REQUEST_BYTES):
        with pytest.raises(ProtocolError):
            decode_request(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(ProtocolError):
            decode_request(data[:place])
    for after in (1 << 48, (1 << 64) - 1):
        with pytest.raises(ProtocolError, match="format 1"):
            decode_request(encode_request(LogRequest(after, False)))


def test_the_page_has_the_question():
    section = PAGE.split("## Question")[1]
    example = section.split("```hex ask\n")[1].split("```")[0]
    assert decode_request(bytes.fromhex(example)) == LogRequest(7, True)
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| ")]
    sizes = [(int(offset), int(size)) for offset, size, _ in rows[1:]]
    assert sizes[0][0] == 0
    assert all(a + b == c for (a, b), (c, _) in itertools.pairwise(sizes))
    assert sum(sizes[-1]) == REQUEST_BYTES == log_request.LAYOUT.size + 8


def test_a_finalizer_may_close_a_server_that_takes_a_connection(store, tmp_path):
    """The collector runs it in any thread, so also in one that holds the lock of the server."""
    server = serve_log(store, str(tmp_path / "log"))

    class Collected(dict):
        def __len__(self):
            server.close()
            return 0

    server._open = Collected()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(server.address)
        assert client.recv(1) == b""
    server._thread.join(60)
    assert not server._thread.is_alive()


def test_a_server_without_descriptors_goes_on_when_there_are_some(store, tmp_path):
    with (
        serve_log(store, str(tmp_path / "log")) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second,
    ):
        first.settimeout(60)
        second.settimeout(60)
        _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # poll() may look at so many
        try:
            first.connect(server.address)  # the descriptor of who waits is reserved already
            second.connect(server.address)
            server._thread.join(0.2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert server._thread.is_alive()
        for client in (first, second):
            client.sendall(b"no question".ljust(REQUEST_BYTES))
            assert client.recv(1) == b""


def test_a_server_without_threads_turns_readers_away(store, tmp_path, monkeypatch):
    with (
        serve_log(store, str(tmp_path / "log")) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        client.settimeout(60)

        def start(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            client.connect(server.address)
            assert client.recv(1) == b""
        assert server._thread.is_alive()
        assert not server._open

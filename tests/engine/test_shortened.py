"""Files that somebody else shortens under an open store (finding E21).

Touching what is not there any more ends a process with SIGBUS.  Wherever bytes come into memory
first, that is CorruptData instead; so each case runs in a process of its own.
"""

import os

import pytest

from kvengine import CorruptData, Store

OPTIONS = {"durability": "os", "compaction": "manual"}


def use(path, what, ending):
    """Shorten files under an open store, and use them; return which are blamed."""
    store = Store(path, **OPTIONS)
    tail = store.tail(0)
    for file in sorted(path.glob("*" + ending))[:3]:
        os.truncate(file, 4096 if ending == ".keys" else 8192)
    numbers = range(750)

    def reopen():
        store.close()
        Store(path, **OPTIONS).get(b"key1")

    calls = {
        "get": lambda: [store.get(b"key%d" % number) for number in numbers],
        "get_many": lambda: store.get_many([b"key%d" % number for number in numbers]),
        "large": lambda: store.get(b"large"),
        "view": lambda: store.get_view(b"large"),
        "scan": lambda: list(store.scan()),
        "keys": lambda: list(store.keys()),
        "tail": lambda: list(tail),
        "digest": store.digest,
        "backup": lambda: store.backup(path.with_name("backup")),
        "compact": lambda: (
            [store.delete(b"key7%d" % number) for number in range(5)] and store.compact()
        ),
        "open": reopen,
        "put": lambda: [store.put(b"key%d" % number, b"") for number in numbers],
    }
    if what == "verify":
        return [problem.file for problem in store.verify().problems]
    try:
        calls[what]()
    except CorruptData as error:
        return [error.file]
    return []


IN_SEGMENTS = (
    "get", "get_many", "large", "view", "scan", "tail", "verify", "digest", "backup", "compact",
    "open", "put",
)  # fmt: skip
CASES = [
    *((what, ".log") for what in IN_SEGMENTS),
    *((what, ".index") for what in ("verify", "backup", "open")),
    *((what, ".keys") for what in ("keys", "scan", "verify")),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("shortened") / "store"
    with Store(path, segment_bytes=1 << 17, durability="os", compaction="manual") as store:
        store[b"large"] = bytes(range(256)) * 800
        for number in range(750):
            store[b"key%d" % number] = bytes(1000)
        store.checkpoint()
    return path


@pytest.mark.parametrize(("what", "ending"), CASES)
def test_a_shortened_file_is_damage_and_not_the_end(prepared, tmp_path, what, ending):
    path = tmp_path / "store"
    path.mkdir(0o700)
    for file in prepared.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, "\n".join(use(path, what, ending)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader) as file:
        blamed = file.read().split()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert any(name.endswith(ending) for name in blamed)

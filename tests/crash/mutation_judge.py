"""What a store makes of files whose checksums are right and whose content is not.

Run as a program (``python -m tests.crash.mutation_judge FOLDER FIRST COUNT``) it tries so many
mutations of the store in a folder, in a process of its own, so that a crash is seen.

Invariants:

* Whatever is mutated, every call ends, with an answer or an error of ours.
* A mutated record, header or manifest may change what it says itself, and nothing else.
* Where what is derived was mutated, answers are right or verify() says that something is wrong; and
  with rebuild=True everything is there, also after writes and a compaction.
"""

import faulthandler
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kvengine.engine.recovery.salvage import salvage
from kvengine.engine.recovery.verifying import verify
from kvengine.engine.store import Store
from kvengine.errors import KvError
from kvengine.testing.crashing import KeptDirectory, folder_of
from tests.crash.mutations import Mutation, mutated

OPTIONS = {"compaction": "manual", "durability": "os", "groups": (b"k", 1), "segment_bytes": 8192}
MODEL = "model.json"
SECONDS_MAX = 60  # for one mutation, however slow the machine
DISK_EACH = 25  # one in so many is tried on disk as well, with the tools for damaged stores
DERIVED = ("index", "run", "consumer", "control")

Model = dict[bytes, bytes]


def write_model(folder: Path, model: Model) -> None:
    """Save what a store holds beside its files."""
    text = {key.hex(): value.hex() for key, value in model.items()}
    (folder / MODEL).write_text(json.dumps(text))


def read_model(folder: Path) -> Model:
    """Load what write_model() saved."""
    text = json.loads((folder / MODEL).read_text())
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in text.items()}


class Judge:
    """Tries mutations of one store and collects what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.model = read_model(folder)
        self.files = {
            path.name: path.read_bytes()
            for path in folder.iterdir()
            if path.name not in (MODEL, "LOCK", "CONSUMERS")
        }
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self._disk = Path(tempfile.mkdtemp(prefix="kvengine-mutation-", dir=folder.parent))
        self._seed, self._mutation = 0, Mutation("", "", "")

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._disk)

    def report(self, what: str) -> None:
        """Note something that must not happen."""
        self.findings.append(f"seed {self._seed}, {self._mutation}: {what}")

    def try_seed(self, seed: int) -> None:
        """Do everything with one mutation."""
        faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
        files, self._mutation = mutated(self.files, seed)
        self._seed = seed
        self.counts[self._mutation.structure] += 1
        folder = folder_of(files)
        expected, is_open = dict(self.model), False
        store = self.attempt("open", lambda: Store._in_directory(folder, **OPTIONS))
        if isinstance(store, Store):
            is_open = True
            self._use(store, expected)
        else:
            self.counts["refused"] += 1
        self._open_again(folder, expected, changed=is_open)
        if seed % DISK_EACH == 0:
            self._use_tools(files)
        faulthandler.cancel_dump_traceback_later()

    def attempt(self, what: str, call: Callable[[], object]) -> object:
        """Call; return the answer, or an error of ours; another error is a finding."""
        try:
            return call()
        except KvError as error:
            return error
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(f"{what} raised {error!r}")
            return error

    # -- a store with a mutation

    def _use(self, store: Store, expected: Model) -> None:
        """Read, write, compact, close; `expected` is brought up to date."""
        wrong = self._wrong_answers(store, expected)
        report = self.attempt("verify", store.verify)
        noticed = isinstance(report, Exception) or not getattr(report, "ok", False)
        self.counts["noticed" if noticed else "unnoticed"] += 1
        if wrong and not (noticed and self._mutation.structure in ("index", "run", "manifest")):
            self.report(f"wrong, and verify finds {'a problem' if noticed else 'nothing'}: {wrong}")
        self.attempt("tail", lambda: list(store.tail(0)))
        self.attempt("consumers", store.consumers)
        self.attempt("consumer", lambda: list(store.consumer("one").changes()))
        self._change(store, expected, b"k new", b"new")
        self._change(store, expected, min(expected), b"changed")
        self._change(store, expected, max(expected), None)
        for call in (store.checkpoint, store.compact, store.compact, store.verify, store.stats):
            self.attempt(call.__name__, call)
        wrong = self._wrong_answers(store, expected)
        if wrong and not (noticed and self._mutation.structure in ("index", "run", "manifest")):
            self.report(f"wrong after the compaction: {wrong}")
        self.attempt("close", store.close)

    def _change(self, store: Store, expected: Model, key: bytes, value: bytes | None) -> None:
        """Put or delete; what was refused has changed nothing."""
        if value is None:
            if not isinstance(self.attempt("delete", lambda: store.delete(key)), Exception):
                expected.pop(key, None)
        elif not isinstance(self.attempt("put", lambda: store.put(key, value)), Exception):
            expected[key] = value

    def _wrong_answers(self, store: Store, expected: Model) -> list[str]:
        """Read in every way; return what is neither right nor an error."""
        mine = set(self._mutation.keys)
        wrong = []
        for key in (*expected, b"k absent"):
            if key not in mine:
                found = self.attempt("get", lambda k=key: store.get(k))  # type: ignore[misc]
                if not isinstance(found, Exception) and found != expected.get(key):
                    wrong.append(f"get({key!r}) gives {found!r:.40}")
        keys = sorted(set(expected) - mine)
        entries = lambda: [(e.key, e.value) for e in store.scan() if e.key not in mine]  # noqa: E731
        reads: list[tuple[str, Callable[[], object], object]] = [
            ("scan", entries, [(key, expected[key]) for key in keys]),
            ("keys", lambda: [key for key in iter(store) if key not in mine], keys),
            (
                "keys in reverse",
                lambda: [key for key in store.keys(reverse=True) if key not in mine],
                keys[::-1],
            ),
        ]
        if not mine:
            count = sum(key.startswith(b"k") for key in expected)
            reads.append(("len", lambda: len(store), len(expected)))
            reads.append(("group_size", lambda: store.group_size(b"k").keys, count))
        for what, call, right in reads:
            found = self.attempt(what, call)
            if not isinstance(found, Exception) and found != right:
                wrong.append(f"{what} gives {found!r:.60}")
        return wrong if self._is_told_by_the_log() else []

    def _is_told_by_the_log(self) -> bool:
        """False for a manifest with other segments: it describes another store."""
        return not (
            self._mutation.structure == "manifest" and self._mutation.detail.startswith("segments")
        )

    def _open_again(self, folder: KeptDirectory, expected: Model, *, changed: bool) -> None:
        """Open what is left, as it is and with rebuild=True."""
        for rebuild in (False, True):
            options = {**OPTIONS, "rebuild": rebuild}
            store = self.attempt("reopen", lambda o=options: Store._in_directory(folder, **o))  # type: ignore[misc]
            if isinstance(store, Store):
                if rebuild and (wrong := self._wrong_answers(store, expected)):
                    self.report(f"wrong after a rebuild, changed {changed}: {wrong}")
                self.attempt("close", store.close)
            elif rebuild and self._mutation.structure in ("index", "run", "consumer"):
                self.report(f"rebuild=True does not help: {store!r}")

    # -- the tools for damaged stores

    def _use_tools(self, files: dict[str, bytes]) -> None:
        """verify(), a reader, backup() and salvage() of a folder on disk."""
        path = self._disk / "store"
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
        report = self.attempt("verify(path)", lambda: verify(path))
        for options in ({"read_only": True}, {"read_only": True, "rebuild": True}, {}):
            store = self.attempt("open on disk", lambda o=options: Store(path, **o))  # type: ignore[misc]
            if isinstance(store, Store):
                self.attempt("scan", lambda s=store: list(s.scan()))  # type: ignore[misc]
                target = self._disk / "backup"
                self.attempt("backup", lambda s=store, t=target: s.backup(t))  # type: ignore[misc]
                shutil.rmtree(target, ignore_errors=True)
                self.attempt("close", store.close)
            elif not options and getattr(report, "ok", False):
                self.report(f"verify finds nothing, and open does: {store!r}")
        target = self._disk / "salvaged"
        done = self.attempt("salvage", lambda: salvage(path, target))
        if not isinstance(done, Exception) and self._mutation.structure != "segment header":
            with Store(target, read_only=True) as store:
                found = {entry.key: entry.value for entry in store.scan()}
            mine = set(self._mutation.keys)
            wrong = [
                key for key in {*self.model, *found} - mine if found.get(key) != self.model.get(key)
            ]
            if len(wrong) > 1:
                self.report(f"salvage lost {wrong[:5]}")
        for name in ("store", "salvaged"):
            shutil.rmtree(self._disk / name, ignore_errors=True)


def peak_memory_bytes() -> int:
    """Return the most memory that this program had; getrusage() counts its parent's before exec."""
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) * 1024


def main(arguments: list[str]) -> int:
    """Try some seeds; findings and counts go to stdout, as JSON."""
    folder, first, count = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    judge = Judge(folder)
    try:
        for seed in range(first, first + count):
            print(f"trying seed {seed}", flush=True)
            judge.try_seed(seed)
    finally:
        judge.close()
    memory = peak_memory_bytes()
    result = {"findings": judge.findings, "counts": judge.counts, "memory": memory}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

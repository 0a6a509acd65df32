"""Damage to the files of a small store, one at a time, and a judge of what the store makes of it.

Run as a program (``python -m tests.crash.damage FOLDER PART PARTS SEED LONG``) it tries the
damages of one part in a process of its own, so that a crash is seen and costs nothing else.

Invariants:

* A store with one damage gives the right answers or errors of ours: never a wrong value, never a
  missing key, never another exception, and never a hang.
* What open refuses, verify() reports.
* Salvage brings back every record but those that lie where the damage is.
"""

import faulthandler
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvengine.engine.recovery.salvage import salvage
from kvengine.engine.recovery.verifying import verify
from kvengine.engine.store import Store
from kvengine.errors import CorruptData, KvError, NotAStore
from kvengine.testing.crashing import folder_of
from kvengine.testing.history import State

OPTIONS = {"compaction": "manual", "durability": "os"}
EXPECTATION = "expectation.json"
SALVAGE_EACH = 6  # one in so many damages of a log is salvaged too; with `long` all are

SECONDS_MAX = 120  # for one damage, which takes milliseconds: then it hangs


@dataclass(frozen=True, slots=True)
class Damage:
    """One damage to one file."""

    file: str
    kind: str  # xor, cut, delete, empty, double
    at: int = 0
    mask: int = 0

    def apply(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return the files with this damage."""
        result = dict(files)
        data = files[self.file]
        if self.kind == "delete":
            del result[self.file]
        elif self.kind == "xor":
            changed = bytearray(data)
            changed[self.at] ^= self.mask
            result[self.file] = bytes(changed)
        else:
            result[self.file] = {"cut": data[: self.at], "empty": b"", "double": data * 2}[
                self.kind
            ]
        return result


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the undamaged store holds as of each version that a recovery may end at."""

    states: dict[int, State]
    newest: int

    def write(self, folder: Path) -> None:
        """Save it beside the files of the store."""
        states = {
            str(version): {key.hex(): [value.hex(), at] for key, (value, at) in state.items()}
            for version, state in self.states.items()
        }
        (folder / EXPECTATION).write_text(json.dumps({"states": states, "newest": self.newest}))

    @staticmethod
    def read(folder: Path) -> "Expectation":
        """Load what write() saved."""
        loaded = json.loads((folder / EXPECTATION).read_text())
        states = {
            int(version): {
                bytes.fromhex(key): (bytes.fromhex(value), at) for key, (value, at) in state.items()
            }
            for version, state in loaded["states"].items()
        }
        return Expectation(states, loaded["newest"])


def positions(name: str, data: bytes, source: random.Random, long: bool) -> list[int]:
    """Return which bytes of a file to change: all, but a sample of long stretches of zeros."""
    if long or len(data) < 4096:
        return list(range(len(data)))
    used = [at for at, byte in enumerate(data) if byte]
    unused = [at for at, byte in enumerate(data) if not byte]
    return sorted(used + source.sample(unused, min(len(unused), 300)))


def damages(files: dict[str, bytes], seed: int, long: bool) -> Iterator[Damage]:
    """Yield every damage to try."""
    source = random.Random(seed)
    for name, data in sorted(files.items()):
        for at in positions(name, data, source, long):
            masks = [1 << bit for bit in range(8)] + [255] if long else [1 << source.randrange(8)]
            for mask in masks:
                yield Damage(name, "xor", at, mask)
        lengths = positions(name, data, source, long)
        if len(lengths) > 1500 and not long:
            lengths = sorted(source.sample(lengths, 1500))
        for length in lengths:
            yield Damage(name, "cut", length)
        for kind in ("delete", "empty", "double"):
            yield Damage(name, kind)


class Judge:
    """Tries damages on one store and collects what is wrong."""

    def __init__(self, folder: Path, *, long: bool) -> None:
        self.expectation = Expectation.read(folder)
        self.files = {
            path.name: path.read_bytes() for path in folder.iterdir() if path.name != EXPECTATION
        }
        self.long = long
        self.findings: list[str] = []
        self.counts = {"tried": 0, "refused": 0, "noticed": 0, "right": 0, "salvaged": 0}
        self._disk = Path(tempfile.mkdtemp(prefix="kvengine-damage-", dir=folder.parent))

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._disk)

    def report(self, damage: Damage, what: str) -> None:
        """Note something that must not happen."""
        self.findings.append(f"{damage}: {what}")

    def try_damage(self, damage: Damage, number: int) -> None:
        """Open, read everything, verify; where it is refused also verify() and salvage()."""
        self.counts["tried"] += 1
        files = damage.apply(self.files)
        try:
            store = Store._in_directory(folder_of(files), **OPTIONS)
        except KvError:
            self.counts["refused"] += 1
            self._check_verify(damage, files, must_report=True)
            store = None
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(damage, f"open raised {error!r}")
            return
        if store is not None:
            try:
                noticed = self._check_reads(damage, store)
                self.counts["noticed" if noticed else "right"] += 1
            finally:
                store.close()
            if noticed or number % 7 == 0:
                self._check_verify(damage, files, must_report=noticed)
        if damage.file.endswith(".log") and (self.long or number % SALVAGE_EACH == 0):
            self._check_salvage(damage, files)

    def _check_reads(self, damage: Damage, store: Store) -> bool:
        """Read in every way; True if the store said that something is wrong."""
        state = self.expectation.states.get(store.version)
        if state is None:
            self.report(damage, f"recovered to version {store.version}")
            return False
        problems = 0
        keys = set().union(*self.expectation.states.values())
        for key in sorted(keys):
            problems += self._attempt(damage, lambda k=key: self._read(store, k), state.get(key))
        expected = [(key, *state[key]) for key in sorted(state)]
        scan = lambda: [(e.key, e.value, e.version) for e in store.scan()]  # noqa: E731
        problems += self._attempt(damage, scan, expected)
        problems += self._attempt(
            damage, lambda: list(store.keys(reverse=True)), sorted(state, reverse=True)
        )
        problems += self._attempt(damage, lambda: len(store), len(state))
        return problems > 0 or not self._verifies(damage, store)

    def _verifies(self, damage: Damage, store: Store) -> bool:
        try:
            return store.verify().ok
        except KvError:
            return False
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(damage, f"Store.verify raised {error!r}")
            return True

    @staticmethod
    def _read(store: Store, key: bytes) -> object:
        entry = store.get_entry(key)
        value = store.get(key)
        if entry is None:
            return value
        return (value, entry.version) if value == entry.value else "get and get_entry differ"

    def _attempt(self, damage: Damage, call: object, expected: object) -> int:
        """Call; 0 if the answer is right, 1 for an error of ours; anything else is a finding."""
        try:
            found = call()
        except KvError:
            return 1
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(damage, f"a read raised {error!r}")
            return 0
        if found != expected:
            self.report(damage, f"found {str(found)[:200]}, expected {str(expected)[:200]}")
        return 0

    # -- the tools for damaged stores

    def _write(self, files: dict[str, bytes]) -> Path:
        folder = self._disk / "store"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder

    def _check_verify(self, damage: Damage, files: dict[str, bytes], *, must_report: bool) -> None:
        try:
            report = verify(self._write(files))
        except (CorruptData, NotAStore) as error:
            self.report(damage, f"verify raised {error!r} instead of reporting it")
        except KvError:
            return
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(damage, f"verify raised {error!r}")
        else:
            if must_report and report.ok:
                self.report(damage, "verify finds nothing, but the store does")

    def _check_salvage(self, damage: Damage, files: dict[str, bytes]) -> None:
        """Every key must come back but those whose newest record lies in the damage."""
        target = self._disk / "target"
        shutil.rmtree(target, ignore_errors=True)
        try:
            salvage(self._write(files), target)
        except NotAStore:
            return
        except Exception as error:  # noqa: BLE001  # that is the finding
            self.report(damage, f"salvage raised {error!r}")
            return
        self.counts["salvaged"] += 1
        if damage.kind != "xor" or damage.at < 64:  # without its header a segment is lost
            return
        state = self.expectation.states[self.expectation.newest]
        with Store(target, read_only=True) as store:
            found = {entry.key: entry.value for entry in store.scan()}
        wrong = [key for key in {*state, *found} if found.get(key) != state.get(key, (None,))[0]]
        if len(wrong) > 1:
            self.report(damage, f"salvage lost {len(wrong)} keys: {sorted(wrong)[:5]}")


def main(arguments: list[str]) -> int:
    """Try the damages of one part; findings and counts go to stdout, as JSON."""
    folder, part, parts, seed, long = arguments
    judge = Judge(Path(folder), long=long == "1")
    try:
        for number, damage in enumerate(damages(judge.files, int(seed), judge.long)):
            if number % int(parts) == int(part):
                print(f"trying {damage}", flush=True)
                faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
                judge.try_damage(damage, number // int(parts))
    finally:
        judge.close()
    print(json.dumps({"findings": judge.findings, "counts": judge.counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

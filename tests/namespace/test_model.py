"""Namespaces do what dicts would do, through compaction, restarts, renames and deletes."""

import io
import json
import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvengine import (
    Database,
    InvalidRequest,
    KeyDetails,
    KeyInfo,
    KeyNotFound,
    NamespaceExists,
    NamespaceNotFound,
    VersionConflict,
)
from kvengine import open as open_database
from kvengine.namespace import listing
from kvengine.testing.clock import ManualClock
from tests.namespace.model import Item, Model, end_of

MEMORY = Path("/dev/shm")
TINY = {"segment_bytes": 4096, "key_buffer_entries": 16, "checkpoint_records": 50}
NAMES = ["a", "a/", "a/b", "a/b/c", "a\0", "ab", "b", "é", "é/ü", "😀", "\uffff", "k" * 512]
TITLES = ["one", "two", "three", "é"]

keys = st.sampled_from(NAMES) | st.integers(0, 30).map(lambda number: f"key-{number:02d}")
titles = st.sampled_from(TITLES)
lifetimes = st.none() | st.sampled_from([1, 2, 60, 1000])
metadata = st.none() | st.sampled_from([0, "", {"a": [1, None]}, ["é", "😀"], "\ud800", False])
values = st.one_of(
    st.sampled_from(["", "text", "é😀", b"", b"\xff\x00", "5", b"-17", "v" * 4096, b"v" * 5000]),
    st.sampled_from([{"a": 1}, [None], "json", 7]).map(lambda value: ("json", value)),
    st.binary(max_size=40).map(lambda data: ("stream", data)),
)


def as_type(data, kind):
    if kind == "text":
        return data.decode(errors="replace")
    return data if kind == "bytes" else json.loads(data)


class NamespaceMachine(RuleBasedStateMachine):
    """Every rule does the same to a database and to the model, and compares the answers."""

    memory = False

    def __init__(self):
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="kvengine-model-", dir=MEMORY if MEMORY.is_dir() else None)
        )
        self.clock = ManualClock()
        self.options = {**TINY, "clock": self.clock, "durability": "os"}
        self.db = Database.in_memory(**self.options) if self.memory else self.open()
        self.model: dict[str, Model] = {}
        self.deleted: list = []  # handles of namespaces that are gone

    def open(self, **options):
        return open_database(self.folder / "db", **{**self.options, **options})

    def teardown(self):
        self.compare_all(self.db)
        self.db.close()
        shutil.rmtree(self.folder)

    def both(self, title):
        kv = self.db.namespace(title)
        return kv, self.model.setdefault(title, Model(self.clock))

    def compare_all(self, db):
        assert [info.title for info in db.namespaces()] == sorted(self.model)
        for title, model in self.model.items():
            kv = db.namespace(title)
            assert kv.title == title
            found = [KeyInfo(key, key.expiration, key.metadata) for key in kv.keys("")]
            assert found == model.page("")
            found = kv.get(list(model.items), "bytes") if model.items else {}
            assert {key: value for key, value in found.items() if value is not None} == {
                key: item.data for key, item in model.living().items()
            }

    # -- changes

    @rule(
        title=titles,
        key=keys,
        value=values,
        extra=metadata,
        lifetime=lifetimes,
        absolute=st.booleans(),
        wanted=st.none() | st.sampled_from(["right", 0, 1, 10**6]),
    )
    def put(self, title, key, value, extra, lifetime, absolute, wanted):
        kv, model = self.both(title)
        now = self.clock.time()
        if absolute and lifetime is not None:
            end = math.floor(now) + lifetime
            times = {"expiration": end}
        else:
            end = end_of(now, lifetime)
            times = {"expiration_ttl": lifetime}
        data, kind, given = value, None, value
        if isinstance(value, tuple):
            kind, data = value
            given = data if kind == "json" else io.BytesIO(data)
            data = json.dumps(data, separators=(",", ":")) if kind == "json" else data
        data = data.encode() if isinstance(data, str) else data
        found = model.version(key)
        wanted = found if wanted == "right" else wanted
        options = {"type": "json" if kind == "json" else None, "metadata": extra, **times}
        before = self.db.version
        if wanted in (None, found):
            version = kv.put(key, given, if_version=wanted, **options)
            assert version > before  # a removal in the background counts too
            model.items[key] = Item(data, extra, end, version)
        else:
            with pytest.raises(VersionConflict) as caught:
                kv.put(key, given, if_version=wanted, **options)
            assert (caught.value.expected, caught.value.found) == (wanted, found)

    @rule(title=titles, key=keys, wanted=st.none() | st.sampled_from(["right", 0, 10**6]))
    def delete(self, title, key, wanted):
        kv, model = self.both(title)
        found = model.version(key)
        wanted = found if wanted == "right" else wanted
        if wanted in (None, found):
            before = self.db.version
            version = kv.delete(key, if_version=wanted)
            assert version > before if found else version == 0
            model.items.pop(key, None)
        else:
            with pytest.raises(VersionConflict):
                kv.delete(key, if_version=wanted)

    @rule(title=titles, key=keys)
    def persist(self, title, key):
        kv, model = self.both(title)
        item, before = model.find(key), self.db.version
        version = kv.persist(key)
        if item is None or item.end is None:
            assert (version, self.db.version) == (0, before)
        else:
            assert version > before
            item.end, item.version = None, version

    @rule(title=titles, key=keys, value=st.binary(max_size=40), lifetime=lifetimes)
    def add(self, title, key, value, lifetime):
        kv, model = self.both(title)
        is_absent, end = model.find(key) is None, end_of(self.clock.time(), lifetime)
        assert kv.add(key, value, expiration_ttl=lifetime) == is_absent
        if is_absent:
            model.items[key] = Item(value, None, end, kv.get_metadata(key).version)

    @rule(title=titles, key=keys)
    def pop(self, title, key):
        kv, model = self.both(title)
        item = model.find(key)
        assert kv.exists(key) == (item is not None)
        expires_at = item.end if item else None
        ttl = kv.ttl(key)
        assert ttl == (None if expires_at is None else expires_at - self.clock.time())
        if item is None:
            with pytest.raises(KeyNotFound):
                kv.pop(key)
        assert kv.pop(key, None, type="bytes") == (item.data if item else None)
        model.items.pop(key, None)

    @rule(
        title=titles,
        key=keys,
        lifetime=lifetimes.filter(lambda lifetime: lifetime is not None),
        wrong=st.sampled_from([None, 10**6]),
    )
    def touch(self, title, key, lifetime, wrong):
        kv, model = self.both(title)
        item = model.find(key)
        if wrong is not None:
            with pytest.raises(VersionConflict):
                kv.touch(key, expiration_ttl=lifetime, if_version=wrong)
            return
        before = self.db.version
        version = kv.touch(key, expiration_ttl=lifetime)
        assert version > before if item else version == 0
        if item:
            item.end = end_of(self.clock.time(), lifetime)
            item.version = version

    @rule(title=titles, key=keys, by=st.integers(-5, 5), lifetime=lifetimes)
    def increment(self, title, key, by, lifetime):
        kv, model = self.both(title)
        item = model.find(key)
        try:
            total = by + (int(item.data) if item else 100)
        except ValueError:
            with pytest.raises(InvalidRequest, match="is not a whole number"):
                kv.increment(key, by, initial=100, expiration_ttl=lifetime)
            return
        assert kv.increment(key, by, initial=100, expiration_ttl=lifetime) == total
        if item is None:
            end = end_of(self.clock.time(), lifetime)
            model.items[key] = item = Item(b"", None, end, 0)
        item.data, item.version = b"%d" % total, kv.get_metadata(key).version

    # -- reads

    @rule(title=titles, key=keys, kind=st.sampled_from(["text", "bytes", "json", "stream"]))
    def get(self, title, key, kind):
        kv, model = self.both(title)
        item = model.find(key)
        assert (key in kv) == (item is not None)
        if item is None:
            assert kv.get(key, kind) is None
            assert kv.get_with_metadata(key, kind) == (None, None, None, 0)
            assert kv.get_metadata(key) is None
            return
        assert kv.get_metadata(key) == KeyDetails(
            key, item.shown_end, item.metadata, item.version, len(item.data)
        )
        if kind == "stream":
            assert kv.get(key, "stream").read() == item.data
            return
        try:
            wanted = as_type(item.data, kind)
        except ValueError:
            with pytest.raises(InvalidRequest, match="is not JSON"):
                kv.get(key, kind)
            return
        assert kv.get(key, kind) == wanted
        assert kv.get_with_metadata(key, kind) == (wanted, item.metadata, None, item.version)

    @rule(title=titles, wanted=st.lists(keys, max_size=20))
    def get_many(self, title, wanted):
        kv, model = self.both(title)
        items = {key: model.find(key) for key in wanted}
        assert kv.get(wanted, "bytes") == {key: i.data if i else None for key, i in items.items()}
        assert kv.get_with_metadata(wanted) == {
            key: (i.data.decode(errors="replace"), i.metadata, None, i.version) if i else None
            for key, i in items.items()
        }

    @rule(
        title=titles,
        prefix=st.sampled_from(["", "a", "a/", "key-", "key-1", "é", "😀", "no"]),
        limit=st.integers(1, 9),
        reverse=st.booleans(),
        start_after=st.none() | keys,
        examine=st.sampled_from([1, 20, 10_000]),
    )
    def list(self, title, prefix, limit, reverse, start_after, examine):
        kv, model = self.both(title)
        listing.EXAMINE_KEYS, before = examine, listing.EXAMINE_KEYS
        try:
            page = kv.list(prefix, limit, reverse=reverse, start_after=start_after)
            found = page.keys
            while not page.list_complete:
                page = kv.list(prefix, limit, page.cursor, reverse=reverse)
                assert len(page.keys) <= limit
                found += page.keys
        finally:
            listing.EXAMINE_KEYS = before
        assert found == model.page(prefix, reverse, start_after)
        assert kv.count(prefix or "a") == len(model.page(prefix or "a"))

    @rule(title=titles, prefix=st.sampled_from(["", "a", "a/"]), limit=st.integers(1, 4))
    def list_folders(self, title, prefix, limit):
        kv, model = self.both(title)
        infos, folders, cursor = [], [], None
        while True:
            page = kv.list(prefix, limit, cursor, delimiter="/")
            infos += page.keys
            folders += page.folders
            cursor = page.cursor
            if page.list_complete:
                break
        rest = [(info, info.name[len(prefix) :]) for info in model.page(prefix)]
        assert infos == [info for info, name in rest if "/" not in name]
        wanted = [prefix + name.partition("/")[0] + "/" for _, name in rest if "/" in name]
        assert folders == sorted(set(wanted), key=str.encode)

    # -- namespaces

    @rule(title=titles, other=titles)
    def rename(self, title, other):
        kv, model = self.both(title)
        if other in self.model and other != title:
            with pytest.raises(NamespaceExists):
                self.db.rename(title, other)
            return
        assert self.db.rename(title, other).id == kv.id
        self.model[other] = self.model.pop(title)
        assert self.db.namespace(other) is self.db.namespace(kv.id) is kv
        assert model is self.model[other]

    @rule(title=titles, wait=st.booleans())
    def delete_namespace(self, title, wait):
        kv, _ = self.both(title)
        self.db.delete(title)
        del self.model[title]
        self.deleted.append(kv)
        if wait:
            self.db._remover.wait()

    @invariant()
    def deleted_namespaces_stay_deleted(self):
        for kv in self.deleted[-3:]:
            with pytest.raises(NamespaceNotFound):
                kv.get("a")
            with pytest.raises(NamespaceNotFound):
                kv.put("a", "value")

    # -- time and background work

    @rule(seconds=st.sampled_from([0.25, 1, 59, 1000]))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @rule(how=st.sampled_from(["compact", "checkpoint"]))
    def work(self, how):
        getattr(self.db.store, how)()
        self.compare_all(self.db)

    @precondition(lambda self: not self.memory)
    @rule(rebuild=st.booleans())
    def reopen(self, rebuild):
        self.db.close()
        self.deleted.clear()
        self.db = self.open(rebuild=rebuild)
        self.compare_all(self.db)

    @precondition(lambda self: not self.memory)
    @rule()
    def read_beside(self):
        with self.open(read_only=True) as reader:
            self.compare_all(reader)


class MemoryMachine(NamespaceMachine):
    """The same in memory."""

    memory = True


@pytest.mark.parametrize(("machine", "examples"), [(NamespaceMachine, 50), (MemoryMachine, 30)])
def test_a_namespace_does_what_the_model_does(machine, examples):
    examples = min(examples, settings().max_examples)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40)
    )

"""The sizes of groups are those of the keys that live, after every kind of change and reopening."""

import signal
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvengine import CorruptData, GroupSize, InvalidRequest, Store, StoreClosed
from kvengine.testing.clock import ManualClock
from kvengine.testing.crashing import KeptDirectory

GROUPS = (b"d", 3)
NAMES = (b"d\0\0", b"d\0\1", b"d\1\0")
KEYS = [group + b"%d" % number for group in NAMES for number in range(4)]
KEYS += [b"d", b"d\0", b"e\0\0x", b"d\0\0"]
OPTIONS = {
    "durability": "os",
    "segment_bytes": 4096,
    "key_buffer_entries": 16,
    "compaction": "manual",
    "groups": GROUPS,
}


class GroupSizesMachine(RuleBasedStateMachine):
    """A store that counts, next to a dict that is scanned."""

    @initialize()
    def start(self):
        self.folder, self.clock = KeptDirectory(), ManualClock(1000.0)
        self.model = {}
        self.open()

    def open(self, **options):
        settings_ = {**OPTIONS, **options}
        self.store = Store._in_directory(self.folder, clock=self.clock, **settings_)

    @rule(
        key=st.sampled_from(KEYS),
        value=st.binary(max_size=2000),
        metadata=st.binary(max_size=9),
        ttl=st.sampled_from([None, None, 0.5, 10, 20]),
    )
    def put(self, key, value, metadata, ttl):
        end = None if ttl is None else self.clock.time() + ttl
        self.store.put(key, value, metadata=metadata, expires_at=end)
        self.model[key] = (len(key) + len(value) + len(metadata), end)

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key):
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=6))
    def batch(self, keys):
        with self.store.batch() as batch:
            for number, key in enumerate(keys):
                if number % 3 == 2:
                    batch.delete(key)
                    self.model.pop(key, None)
                else:
                    batch.put(key, bytes(number))
                    self.model[key] = (len(key) + number, None)

    @rule(seconds=st.sampled_from([0.5, 5, 30]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def compact(self):
        self.store.compact()

    @rule()
    def checkpoint(self):
        self.store.checkpoint()

    @rule(rebuild=st.booleans())
    def reopen(self, rebuild):
        self.store.close()
        self.open(rebuild=rebuild)

    @rule()
    def crash(self):
        """Leave everything as it is, as after a kill: that ends the thread of the jobs too."""
        killed = StoreClosed("killed")
        self.store._parts.maintenance.close(killed)
        self.store._parts.refuse(killed)
        self.folder.unlock()
        self.open()

    @rule()
    def write_without_counting(self):
        self.store.close()
        self.open(groups=None)
        self.store.put(NAMES[0] + b"uncounted", b"12345")
        self.model[NAMES[0] + b"uncounted"] = (len(NAMES[0]) + 14, None)
        self.store.checkpoint()
        self.store.close()
        self.open()

    @invariant()
    def sizes_are_right(self):
        expected = sizes(self.model, self.clock.time())
        assert {name: self.store.group_size(name) for name in NAMES} == expected

    @rule()
    def snapshot(self):
        expected = sizes(self.model, self.clock.time())
        with self.store.snapshot() as frozen:
            assert {name: frozen.group_size(name) for name in NAMES} == expected

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


def sizes(model, now):
    found = {}
    for name in NAMES:
        living = [
            size
            for key, (size, end) in model.items()
            if key.startswith(name) and (end is None or end > now)
        ]
        found[name] = GroupSize(len(living), sum(living))
    return found


GroupSizesMachine.TestCase.settings = settings(stateful_step_count=25)
TestGroupSizes = GroupSizesMachine.TestCase


def test_a_reader_counts_what_a_writer_does(tmp_path):
    options = {**OPTIONS, "compaction": "manual"}
    with Store(tmp_path / "s", **options) as writer:
        writer.put(b"d\0\0a", b"12")
        with Store(tmp_path / "s", read_only=True, groups=GROUPS) as reader:
            assert reader.group_size(b"d\0\0") == (1, 6)
            writer.put(b"d\0\0b", b"1")
            writer.delete(b"d\0\0a")
            assert reader.group_size(b"d\0\0") == (1, 5)
            for number in range(100):
                writer.put(b"d\0\1%d" % number, bytes(1000))
            writer.compact()
            writer.checkpoint()
            writer.delete(b"d\0\0b")
            assert reader.group_size(b"d\0\0") == (0, 0)
            assert reader.group_size(b"d\0\1") == writer.group_size(b"d\0\1")


KILLED = """
import sys, kvengine
store = kvengine.Store(sys.argv[1], durability="os", groups=(b"d", 3), segment_bytes=65536)
number = 0
while True:
    number += 1
    store.put(b"d\\0\\0%d" % (number % 5000), bytes(number % 700))
    if number % 7 == 0:
        store.delete(b"d\\0\\0%d" % (number * 31 % 5000))
    if number == 20_000:
        print("go", flush=True)
"""


@pytest.mark.parametrize("_turn", range(3))
def test_after_a_kill_the_sizes_are_those_of_a_scan(tmp_path, _turn):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "s")], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with Store(tmp_path / "s", groups=GROUPS) as store:
        entries = list(store.scan(b"d\0\0"))
        size = sum(len(entry.key) + len(entry.value) for entry in entries)
        assert store.group_size(b"d\0\0") == (len(entries), size)


def test_only_the_groups_of_the_setting_can_be_asked_for():
    with Store.in_memory(groups=GROUPS) as store:
        for group in (b"d", b"d\0\0\0", b"e\0\0", b""):
            with pytest.raises(InvalidRequest, match="counted by their first 3 bytes"):
                store.group_size(group)
        assert store.group_size(b"d\0\0") == (0, 0)
    with Store.in_memory() as store, pytest.raises(InvalidRequest, match="not counted"):
        store.group_size(b"d\0\0")


@pytest.mark.parametrize(
    "groups", [(b"", 1), (b"abc", 2), (b"a", 9), ("a", 1), (b"a",), b"a", (b"abcdefg", 8)]
)
def test_bad_settings_are_refused(groups):
    with pytest.raises(InvalidRequest, match="groups must be"):
        Store.in_memory(groups=groups)


def test_moments_that_are_over_take_no_memory():
    clock = ManualClock(1000.0)
    with Store.in_memory(groups=GROUPS, clock=clock) as store:
        for number in range(2000):
            store.put(b"d\0\0same", b"x", expires_at=clock.time() + 1 + number)
        assert len(store._parts.groups.saved_rows()) == 1
        assert store.group_size(b"d\0\0") == (1, 8)


def test_recounting_stumbles_over_damage_and_says_so(tmp_path):
    with Store(tmp_path / "s", **{**OPTIONS, "groups": None}) as store:
        store.put(b"d\0\0a", b"x" * 64)
        store.checkpoint()
    log = next((tmp_path / "s").glob("*.log"))
    data = bytearray(log.read_bytes())
    data[data.index(b"x" * 64)] ^= 1
    log.write_bytes(data)
    with Store(tmp_path / "s", groups=GROUPS) as store:
        for _ in range(2):
            with pytest.raises(CorruptData):
                store.group_size(b"d\0\0")

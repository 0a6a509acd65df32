"""The control page: each word is stored after what it stands for, and a reader sees them so."""

import os
import re
from pathlib import Path

from kvengine import Store
from kvengine.testing.check import check_store

ROOT = Path(__file__).parents[2] / "kvengine" / "engine"
OPTIONS = {"durability": "os", "compaction": "manual"}


def test_shared_words_are_loaded_and_stored_with_the_order_that_they_need():
    """Processors that are not x86 let plain loads and stores overtake each other (finding E26)."""
    control = (ROOT / "control.pyx").read_text()
    plain = [
        line.strip()
        for line in control.splitlines()
        if re.search(r"(?<!&)self\.words\b(?!\[)|(?<!&)self\.words\[", line)
        and "self.words = " not in line
    ]
    assert plain == []
    uses = re.findall(r"(\w+)\(&self\.words\[which\]", control)
    assert uses == ["kv_acquire", "kv_publish"]
    shared = {  # pointers to words of the page, and the counters that are read without the GIL
        r"\bself\.published\b": ("kv_acquire(self.published)", "self.published != NULL"),
        r"\bself\.control\b(?!_)": ("kv_publish(self.control,", "self.control != NULL"),
        r"\bself\.begun\b": ("kv_publish(self.begun,", "self.begun = &"),
    }
    for name in ("reading", "writing", "log_end", "durable", "applying"):
        text = (ROOT / f"{name}.pyx").read_text()
        for pattern, allowed in shared.items():
            for line in text.splitlines():
                rest = line
                for use in (*allowed, "self.published = NULL"):
                    rest = rest.replace(use, "")
                assert not re.search(pattern, rest), f"{name}.pyx: {line.strip()}"
    declared = {"kv_publish": "RELEASE", "kv_load": "SEQ_CST", "kv_acquire": "ACQUIRE"}
    headers = (ROOT / "durable.pxd").read_text() + (ROOT / "reading.pxd").read_text()
    for name, order in declared.items():
        body = re.search(rf"static inline \w+ {name}\(.*?\}}", headers, re.DOTALL)
        assert body is not None
        assert f"__ATOMIC_{order}" in body.group(), name


class Late:
    """A page whose writer takes changes back just after a reader has looked at the version."""

    def __init__(self, control, take_back):
        self._control, self._take_back = control, take_back

    @property
    def version(self):
        found = self._control.version
        if self._take_back is not None:
            act, self._take_back = self._take_back, None
            act()
        return found

    def __getattr__(self, name):
        return getattr(self._control, name)


def test_changes_that_are_taken_back_while_a_reader_looks(tmp_path):
    """It goes back with them, and does not call the store damaged."""
    with Store(tmp_path, **OPTIONS) as store:
        for number in range(7):
            store.put(b"%d" % number, b"kept")
        segment = store.rows[-1].id
        end = store.segment_table.counters(segment)[1]
        with Store(tmp_path, read_only=True) as reader:
            for number in range(7, 10):
                store.put(b"%d" % number, b"lost")
            assert len(reader) == 10

            def take_back() -> None:
                os.truncate(tmp_path / f"{segment:08x}.log", end)
                store.control_page.take_back(7)

            assert reader.follower is not None
            page = reader.follower._page
            assert page is not None
            page.control = Late(page.control, take_back)  # type: ignore[assignment]
            reader.follower.catch_up()
            assert reader.version == 7
            assert set(reader) == {b"%d" % number for number in range(7)}
            assert reader.lost_after is not None
            assert reader.lost_after[1] == 7
            check_store(reader)
        store.directory.close()  # its log was cut: it is not to be written to any more

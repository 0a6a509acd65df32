"""What must be true of a history of many processes: one order, and everybody sees it.

Invariants of a right history, all checked by check():

* A version has one change, and a call that wrote has its versions once.
* Writes have versions in the order of time: of two calls of which one ended before the other
  began, anywhere, the second one has the higher version.
* A read sees a change that is at least as new as any that was acknowledged, or read, before it
  began, and none that was not begun before it ended; it never sees a value that nobody wrote.
* A compare-and-set follows the version that it expected, with nothing in between.
* Who reads keys of one batch one after the other finds none older than the one before; counters
  have counted each time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.processes.recording import NEVER, Call


@dataclass(slots=True)
class Write:
    """What one call did to one key; `version` is 0 until it is known."""

    key: str
    tag: str | None
    call: Call
    place: int  # among the changes of the call
    version: int = 0


class Floor:
    """The highest version that was known to somebody, by time."""

    def __init__(self, known: Iterable[tuple[int, int]]) -> None:
        self._times: list[int] = []
        self._highest: list[int] = []
        highest = 0
        for at, version in sorted(known):
            if version > highest:
                highest = version
                self._times.append(at)
                self._highest.append(version)

    def before(self, at: int) -> int:
        """Return the highest version known before a moment; 0 if none was."""
        place = bisect_left(self._times, at)
        return self._highest[place - 1] if place else 0


class Check:
    """Checks one history."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.writes = [
            Write(key, tag, call, place)
            for call in calls
            if call.what == "write" and "conflict" not in call.answer
            for place, (key, tag) in enumerate(call.asked["changes"])
        ]
        self.by_tag = {(write.key, write.tag): write for write in self.writes if write.tag}
        self.changes: dict[int, tuple[str, str | None]] = {}
        self.by_key: dict[str, list[Write]] = defaultdict(list)
        self.unknown_deletes: dict[str, list[Write]] = defaultdict(list)  # done, or not

    def run(self) -> dict[str, int]:
        """Check everything; return how much there was of what."""
        self.give_versions()
        self.order()
        for key, writes in self.by_key.items():
            self.chain(key, writes)
        self.reads()
        self.conflicts()
        self.versions()
        self.tails()
        self.numbers()
        return {
            "calls": len(self.calls),
            "writes": sum(write.version > 0 for write in self.writes),
            "unknown": sum(write.call.ended == NEVER for write in self.writes),
            "conflicts": sum("conflict" in call.answer for call in self.calls),
        }

    # -- what is known

    def note(self, version: int, key: str, tag: str | None, call: Call) -> None:
        """Somebody has seen what a version did."""
        before = self.changes.setdefault(version, (key, tag))
        assert before == (key, tag), f"version {version} is {before}, and in {call}"
        if tag is None:
            return
        write = self.by_tag.get((key, tag))
        assert write is not None, f"nobody wrote {tag} to {key}, which is in {call}"
        assert write.version in {0, version}, f"{tag} has versions {write.version}, {version}"
        write.version = version

    def give_versions(self) -> None:
        """Find the version of each write, also of those whose process died before it knew."""
        for write in self.writes:
            last = write.call.answer.get("version", 0)
            if last:
                count = len(write.call.asked["changes"])
                self.note(last - count + 1 + write.place, write.key, write.tag, write.call)
                write.version = last - count + 1 + write.place
        for call in self.calls:
            if call.what == "read" and call.answer:
                for key, found in zip(call.asked["keys"], call.answer["found"], strict=True):
                    if found and found[0]:
                        self.note(found[0], key, found[1], call)
            for version, key, tag in call.answer.get("changes") or ():
                self.note(version, key, tag, call)
        self.whole_batches()
        for write in self.writes:
            if write.version:
                self.by_key[write.key].append(write)
            elif write.tag is None and write.call.ended == NEVER:
                self.unknown_deletes[write.key].append(write)
        self.seen_deletes()
        for writes in self.by_key.values():
            writes.sort(key=lambda write: write.version)

    def seen_deletes(self) -> None:
        """A delete that somebody has seen is one of those whose process died before it knew."""
        known = {write.version for write in self.writes}
        for version, (key, tag) in self.changes.items():
            if tag is None and version not in known:
                maybe = self.unknown_deletes[key]
                assert maybe, f"nobody deleted {key}, and version {version} did"
                self.by_key[key].append(Write(key, None, maybe[0].call, 0, version))

    def whole_batches(self) -> None:
        """A batch of which one change was seen is there as a whole, version by version."""
        by_call: dict[int, list[Write]] = defaultdict(list)
        for write in self.writes:
            by_call[id(write.call)].append(write)
        for writes in by_call.values():
            first = {write.version - write.place for write in writes if write.version}
            assert len(first) <= 1, f"the versions of a batch are not in a row: {writes[0].call}"
            for write in writes:
                if first:
                    self.note(min(first) + write.place, write.key, write.tag, write.call)
                    write.version = min(first) + write.place

    def reads_of(self) -> Iterator[tuple[Call, str, int, str | None]]:
        """Yield (call, key, version, tag) of all that was read; what is absent has version 0."""
        for call in self.calls:
            if call.what == "write" and call.answer.get("version") == 0:
                yield call, call.asked["changes"][0][0], 0, None  # nothing to delete
            if call.what != "read" or call.ended == NEVER:
                continue
            for key, found in zip(call.asked["keys"], call.answer["found"], strict=True):
                if not found:
                    yield call, key, 0, None
                    continue
                write = self.by_tag.get((key, found[1]))
                assert write is not None, f"nobody wrote {found[1]} to {key}: {call}"
                yield call, key, found[0] or write.version, found[1]

    # -- rules

    def acknowledged(self) -> Floor:
        """Return how far calls that wrote had come, by time."""
        return Floor((write.call.ended, write.version) for write in self.writes if write.version)

    def order(self) -> None:
        """Of two writes in turn the second has the higher version."""
        floor = self.acknowledged()
        for write in self.writes:
            if write.version:
                least = floor.before(write.call.began)
                assert write.version > least, f"{least} was acknowledged before: {write.call}"

    def chain(self, key: str, writes: list[Write]) -> None:
        """A compare-and-set names the version just before its own."""
        for before, write in zip([None, *writes], writes, strict=False):
            expected = write.call.asked["expected"]
            if expected is None:
                continue
            found = 0 if before is None or before.tag is None else before.version
            if expected == 0 and self.unknown_deletes[key]:
                continue  # one of them may lie in between
            if write.tag is None and write.call.ended == NEVER:  # or another one of those
                others = {one.call.asked["expected"] for one in self.unknown_deletes[key]}
                expected = found if others & {found, None} else expected
            assert found == expected, f"{key} had version {found}: {write.call}"
            if write.tag and "#" in write.tag:
                count = 0 if before is None else int(str(before.tag).split("#")[1])
                assert int(write.tag.split("#")[1]) == count + 1, f"{key} was {count}: {write.call}"

    def reads(self) -> None:
        """A read is as new as what was known before, and not of the future.

        Whoever has seen a version, anywhere, may rely on all that came before it.
        """
        found = list(self.reads_of())
        floor = self.known_by_all(found)
        versions = {key: [write.version for write in own] for key, own in self.by_key.items()}
        for call, key, version, tag in found:
            own = versions.get(key, [])
            place = bisect_right(own, floor.before(call.began))
            least = own[place - 1] if place else 0
            if tag is None:
                self.absent(call, key, least)
                continue
            assert not version or version >= least, f"{key} was at version {least} before: {call}"
            write = self.by_tag[key, tag]
            assert write.call.began < call.ended, f"{tag} was not written yet: {call}"
        for call in self.calls:
            if call.asked.get("same") and call.answer:
                begun = list(self.batches(call))  # other threads may go on while it reads
                assert begun == sorted(begun), f"a batch is torn: {call}"

    def batches(self, call: Call) -> Iterator[int]:
        """Yield the first version of the batch that wrote each value that was read."""
        for key, found in zip(call.asked["keys"], call.answer["found"], strict=True):
            write = self.by_tag[key, found[1]] if found else None
            if write is None or write.version:
                yield 0 if write is None else write.version - write.place

    def known_by_all(self, found: list[tuple[Call, str, int, str | None]]) -> Floor:
        """Return how far the store was seen to be, by time."""
        ends = {}  # of the batch that a version is in
        for write in self.writes:
            if write.version:
                last = write.version - write.place + len(write.call.asked["changes"]) - 1
                ends[write.version] = last
        known = [(write.call.ended, write.version) for write in self.writes if write.version]
        known += [(call.ended, ends.get(version, version)) for call, _, version, _ in found]
        for call in self.calls:
            if call.what == "version" and call.answer:
                known.append((call.ended, call.answer["version"]))
            for version, _, _ in call.answer.get("changes") or ():
                known.append((call.ended, ends.get(version, version)))
        return Floor(known)

    def absent(self, call: Call, key: str, least: int) -> None:
        """A key that is not there was never written, or deleted since."""
        if least == 0:
            return
        writes = self.by_key[key]
        begin = bisect_left(writes, least, key=lambda write: write.version)
        is_deleted = any(
            writes[place].tag is None and writes[place].call.began < call.ended
            for place in range(begin, len(writes))
        )
        maybe = any(one.call.began < call.ended for one in self.unknown_deletes[key])
        assert is_deleted or maybe, f"{key} was at version {least}, and is gone: {call}"

    def conflicts(self) -> None:
        """What a conflict names was there."""
        for call in self.calls:
            if "conflict" in call.answer:
                found, key = call.answer["conflict"], call.asked["changes"][0][0]
                assert found != call.asked["expected"], str(call)
                if found in self.changes:
                    assert self.changes[found][0] == key, f"{self.changes[found]}: {call}"

    def versions(self) -> None:
        """The store is as far as what was acknowledged."""
        floor = Floor(
            [(write.call.ended, write.version) for write in self.writes if write.version]
            + [
                (call.ended, call.answer["version"])
                for call in self.calls
                if call.what == "version" and call.answer
            ]
        )
        for call in self.calls:
            if call.what == "version" and call.answer:
                least = floor.before(call.began)
                assert call.answer["version"] >= least, f"{least} was known before: {call}"

    def tails(self) -> None:
        """A tail has each change that was acknowledged before it began, or is below what it has,
        but for those that were overwritten before it ended.
        """
        versions = {key: [write.version for write in found] for key, found in self.by_key.items()}
        acknowledged = self.acknowledged()
        for call in self.calls:
            changes, after = call.answer.get("changes"), call.asked.get("after", 0)
            if changes is None:
                continue
            seen = [version for version, _, _ in changes]
            assert seen == sorted(set(seen)), f"not in order: {call}"
            assert all(version > after for version in seen), str(call)
            there, last = set(seen), max(seen, default=after)
            due = max(last, acknowledged.before(call.began))
            for key, writes in self.by_key.items():
                begin, end = (bisect_right(versions[key], one) for one in (after, due))
                for place in range(begin, end):
                    write = writes[place]
                    is_due = write.version <= last or write.call.ended < call.began
                    if after == 0 and write.tag is None:
                        continue  # a copy of the store needs no deletes
                    if place + 1 < len(writes):
                        is_due = is_due and writes[place + 1].call.began > call.ended
                    if is_due and write.version not in there:
                        raise AssertionError(f"a tail lacks {write.version} of {key}: {call}")

    def numbers(self) -> None:
        """Each increment gave another sum, and later ones a higher one."""
        sums: dict[str, set[int]] = defaultdict(set)
        adds = [call for call in self.calls if call.what == "add" and call.answer]
        floors = {
            key: Floor((one.ended, one.answer["total"]) for one in adds if one.asked["key"] == key)
            for key in {call.asked["key"] for call in adds}
        }
        for call in adds:
            key, total = call.asked["key"], call.answer["total"]
            assert total not in sums[key], f"{total} twice: {call}"
            assert total > floors[key].before(call.began), f"counted twice: {call}"
            sums[key].add(total)


def check_numbers(calls: list[Call], last: dict[str, int]) -> None:
    """What a number is at the end is how often it was incremented."""
    for key, number in last.items():
        adds = [call for call in calls if call.what == "add" and call.asked["key"] == key]
        done = sum(bool(call.answer) for call in adds)
        assert done <= number <= len(adds), f"{key} is {number}: {done} to {len(adds)} were added"

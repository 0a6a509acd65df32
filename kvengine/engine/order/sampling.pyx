"""Random samples: living keys with a prefix, chosen from the key order without a scan.

Invariants:

* Every entry of the key order with the prefix is as likely as every other, whatever their keys
  look like.  A key that was removed and written again may have a few entries until runs are merged.
* It costs a search in each source, and a look at the index for each key, dead ones too; the number
  of looks is bounded, so a sample of few living keys among many dead ones may be short.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.access.reading cimport Reader
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.log.record cimport Header, version_of
from kvengine.engine.order.key_buffer cimport seek_entries
from kvengine.engine.order.key_order cimport KeyOrder
from kvengine.engine.order.key_run cimport KeyRun, Place, count_of, read_entry, seek_run
from kvengine.engine.order.key_sort cimport KeyEntry, prefix_of
from kvengine.engine.order.selection cimport Selection, Source, successor
from kvengine.entry cimport untracked

cdef enum:
    PICKS = 64                  # for each key that is wanted, at most: some places hold no entry
    LOOKS = 8                   # at the index, for each key that is wanted, at most

cdef uint64_t state = 0x9E3779B97F4A7C15


cdef inline uint64_t random_below(uint64_t limit) noexcept nogil:
    """Return a number below a limit; xorshift64* is random enough for a sample."""
    global state
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return (state * <uint64_t>0x2545F4914F6CDD1D >> 16) % limit


cdef class Sampler:
    """Picks entries of a key order at random."""

    cdef Selection selection    # holds the sources, and takes what is picked
    cdef uint64_t most          # entries in a block of a run, as far as blocks were seen
    cdef uint64_t picks         # still allowed

    def __cinit__(self, wanted: int) -> None:
        self.selection = Selection(wanted)
        self.picks = <uint64_t>wanted * PICKS

    cdef int collect(self, KeyOrder order, bytes prefix) except -1:
        """Pick entries, until there is no room or no more picks are allowed.

        It ends early behind a block that had to be compared with its checksum first.
        """
        cdef Selection selection = self.selection
        cdef Source *source
        cdef KeyRun run
        cdef KeyEntry start, end
        cdef bytes beyond = successor(prefix)
        cdef uint64_t total = 0
        cdef Py_ssize_t i
        start.key, start.size = PyBytes_AS_STRING(prefix), <uint32_t>PyBytes_GET_SIZE(prefix)
        start.prefix = prefix_of(start.key, start.size)
        end.key, end.size = PyBytes_AS_STRING(beyond), <uint32_t>PyBytes_GET_SIZE(beyond)
        end.prefix = prefix_of(end.key, end.size)
        for run in order.runs:
            if run.view.blocks:
                self.most = max(self.most, 1 + run.count // run.view.blocks)
        selection._add_sources(order.buffers(), order.runs)
        for i in range(selection.source_count):
            source = &selection.sources[i]
            if not self.bound(source, &start, &end):
                selection.stopped = source
                break
            total += self.places(source)
        else:
            if total == 0:
                self.picks = 0
            if total == 0 or self.fill(total):
                return 0
        (<KeyRun>selection.held[1][selection.stopped.number]).verify_block(selection.unverified)
        return 0

    cdef bint bound(self, Source *source, const KeyEntry *start, const KeyEntry *end) noexcept:
        """Let a source be only its entries in a range; False if a block must be verified first.

        Of a run these are the entries from `place` to behind block `end`, entry `start`.
        """
        cdef Place last
        if source.run == NULL:
            source.index = seek_entries(source.entries, source.start, source.end, start, False)
            if end.size:
                source.end = seek_entries(source.entries, source.start, source.end, end, False)
            return True
        last = Place(source.run.blocks, 0)
        if not seek_run(source.run, start, False, &source.place, &self.selection.unverified) or (
            end.size and not seek_run(source.run, end, False, &last, &self.selection.unverified)
        ):
            return False
        source.end, source.start = last.block, last.index
        return True

    cdef uint64_t places(self, Source *source) noexcept:
        """Return how many places a source has; in a run each block has as many as any."""
        if source.run == NULL:
            return source.end - source.index
        return (source.end - source.place.block + (source.start > 0)) * self.most

    cdef bint fill(self, uint64_t total) noexcept:
        """Pick places, and take the entries that are there; False if a block must be verified."""
        cdef Selection selection = self.selection
        cdef Source *source = NULL
        cdef uint64_t place, block
        cdef uint32_t index, count
        cdef Py_ssize_t i
        while selection.count < selection.room and self.picks:
            self.picks -= 1
            place = random_below(total)
            for i in range(selection.source_count):
                source = &selection.sources[i]
                if place < self.places(source):
                    break
                place -= self.places(source)
            if source.run == NULL:
                selection.entries[selection.count] = source.entries[source.index + place]
                selection.count += 1
                continue
            block, index = source.place.block + place // self.most, <uint32_t>(place % self.most)
            if not source.run.verified[block]:
                selection.stopped, selection.unverified = source, block
                return False
            count = count_of(source.run, block)
            if count > self.most:  # this once, all of its entries are as likely
                index = <uint32_t>random_below(count)
            if index < count and not (
                block == source.place.block and index < source.place.index
                or block == source.end and index >= source.start
            ):
                read_entry(source.run, block, index, &selection.entries[selection.count])
                selection.count += 1
            if count > self.most:
                self.most = count
                return True  # the places of all sources have changed
        return True


def sample(
    reader: Reader, order: KeyOrder, prefix: bytes, wanted: int,
) -> list[tuple[bytes, int, int]]:
    """Return (key, bytes of it with value and metadata, version) of living keys, at random.

    There may be fewer than wanted.
    """
    cdef Sampler sampler = Sampler(wanted)
    cdef Selection selection = sampler.selection
    cdef Py_ssize_t i, looks = LOOKS * wanted
    cdef uint64_t address, size
    cdef const Header *header
    cdef bytes name
    cdef dict found = {}
    reader.begin()
    while len(found) < wanted and looks > 0 and sampler.picks:
        sampler.collect(getattr(reader, "key_order", order), prefix)
        # What is picked is held by the selection, whatever runs meanwhile.
        for i in range(selection.count):
            looks -= 1
            name = PyBytes_FromStringAndSize(selection.entries[i].key, selection.entries[i].size)
            if name in found:
                continue
            header = reader.current(
                xxh3(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), reader.seed),
                PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &address)
            if header != NULL:
                size = <uint64_t>header.key_size + header.metadata_size + header.value_size
                found[name] = untracked((name, size, version_of(header)))
    return list(found.values())

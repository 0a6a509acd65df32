"""All workloads, in the order in which they run.

Invariants: workloads that leave the main store as it was come first, those that overwrite it later,
the one that deletes from it last; then those with stores of their own.
"""

from benchmarks.engines.base import DURABLE, ORDERED, PROCESSES, SEEK, STORE, SYNC, THREADS
from benchmarks.workloads import concurrent, fill, grow, mixgraph, read, reopen, scan, ycsb
from benchmarks.workloads.base import Workload

_ORDERED = frozenset({STORE, ORDERED})
_SEEK = frozenset({STORE, ORDERED, SEEK})
_DURABLE = frozenset({STORE, DURABLE})
_BOTH = frozenset({STORE, THREADS})

_LIST = [
    Workload("fillseq", "batches, key order", fill.fillseq, weight=2, repeats=1),
    Workload("fillrandom", "batches, shuffled", fill.fillrandom, weight=8, repeats=1),
    Workload("put", "single puts, os", fill.put, weight=1.5, repeats=3),
    Workload("fillsync", "single puts, synced", fill.fillsync, frozenset({SYNC}), 0.6, 3),
    Workload(
        "groupcommit",
        "16 threads, synced",
        concurrent.groupcommit,
        frozenset({SYNC, THREADS}),
        2,
        1,
    ),
    Workload("grow", "each put timed", grow.grow, weight=2.5, repeats=1),
    Workload("readrandom", "get, uniform", read.readrandom),
    Workload("readhot", "get, Zipf 0.99", read.readhot),
    Workload("readmissing", "get, absent", read.readmissing, weight=0.7),
    Workload("multireadrandom", "get_many of 100, a key", read.multireadrandom),
    Workload("readseq", "scan with values, an item", scan.readseq, _ORDERED),
    Workload("keys", "keys(prefix), an item", scan.keys, _SEEK, 0.7),
    Workload("seekrandom", "seek and 10 items", scan.seekrandom, _SEEK, 0.7),
    Workload(
        "readwhilewriting", "get beside a writing thread", concurrent.readwhilewriting, _BOTH, 1, 1
    ),
    Workload(
        "readwhilewriting-process",
        "get in another process",
        concurrent.readwhilewriting_process,
        frozenset({STORE, PROCESSES}),
        1,
        1,
    ),
    Workload("overwrite", "single puts over old keys", fill.overwrite, weight=2.5, repeats=1),
    Workload("reopen", "open and get, clean", reopen.reopen, _DURABLE),
    Workload("reopen-cold", "open and get, not in page cache", reopen.reopen_cold, _DURABLE, 1, 3),
    Workload("reopen-killed", "open and get after SIGKILL", reopen.reopen_killed, _DURABLE, 1.5, 3),
    Workload("deleterandom", "single deletes", fill.deleterandom, weight=0.7, repeats=1),
    *(
        Workload(f"ycsb-{letter}", f"YCSB {letter.upper()}", ycsb.workload(letter), needs, 0.5, 1)
        for letter, needs in zip("abcfde", [frozenset({STORE})] * 5 + [_SEEK], strict=True)
    ),
    Workload("mixgraph", "ZippyDB mix", mixgraph.mixgraph, _SEEK, 0.7, 1),
]

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _LIST}

"""The writer process of the demo: loads files into a store and says what is safe.

``python -m kvengine.cli.demos.demo_writer STORE ROOT NAMES BATCH_FILES STAY`` reads names below
ROOT from the file NAMES (each ended by a NUL byte) and writes one JSON object a line:
``{"begun": n, "skipped": [...]}`` before a batch, ``{"done": n, ...}`` when it is safe.

Invariants:
* "done" n is said only after the commit of the batch that ends with the n-th name returned;
* at most one batch has begun and is not done;
* the process ends when the one that started it does.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from time import perf_counter

from kvengine import Store
from kvengine.cli.demos.demo_files import BATCH_BYTES, Contents, read_contents
from kvengine.cli.failures import ExitCode, exit_code, one_line
from kvengine.cli.output import message
from kvengine.errors import KvError
from kvengine.options import VALUE_BYTES_MAX

Pair = tuple[bytes, Contents]


def read_batches(
    root: bytes, names: Sequence[bytes], batch_files: int
) -> Iterator[tuple[list[Pair], int, list[int]]]:
    """Yield batches: their pairs, the position after them, and the positions skipped."""
    pairs: list[Pair] = []
    skipped: list[int] = []
    size_bytes = 0
    for position, name in enumerate(names):
        contents = read_contents(os.path.join(root, name))
        if contents is None or len(contents.value) > VALUE_BYTES_MAX:
            skipped.append(position)
            continue
        if pairs and (len(pairs) == batch_files or size_bytes + len(contents.value) > BATCH_BYTES):
            yield pairs, position, skipped
            pairs, skipped, size_bytes = [], [], 0
        pairs.append((name, contents))
        size_bytes += len(contents.value)
    if pairs or skipped:
        yield pairs, len(names), skipped


def load(store: Store, root: bytes, names: Sequence[bytes], batch_files: int) -> None:
    """Store every file, batch by batch, and report each."""
    seconds = 0.0
    for pairs, position, skipped in read_batches(root, names, batch_files):
        _say({"begun": position, "skipped": skipped})
        started = perf_counter()
        with store.batch() as batch:
            for name, contents in pairs:
                batch.put(name, contents.value, metadata=contents.metadata)
        seconds += perf_counter() - started
        _say({"done": position, "seconds": seconds, "version": store.version})


def _say(fields: dict[str, object]) -> None:
    # Straight to the pipe: what is said must not wait in a buffer when the process is killed.
    line = json.dumps(fields).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def main(arguments: Sequence[str]) -> int:
    """Run the writer and return its exit code."""
    path, root, names_file, batch_files, stay = arguments
    try:
        with open(names_file, "rb") as file:
            names = file.read().split(b"\0")[:-1]
        with Store(path) as store:
            load(store, os.fsencode(root), names, int(batch_files))
            if stay == "stay":
                sys.stdin.buffer.read()  # returns when the starter is gone
    except BrokenPipeError:
        return ExitCode.OUTPUT_CLOSED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED  # the starter was interrupted too, and says so
    except (KvError, OSError) as error:
        message(f"writer: {one_line(error)}")
        return exit_code(error)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

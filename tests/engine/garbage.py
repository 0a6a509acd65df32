"""A store in which there is something to compact."""

from kvengine import Store
from kvengine.testing.faulty import FaultyDirectory
from kvengine.testing.history import OPTIONS


def filled(path_or_directory, **options):
    """Return a store with garbage in several segments."""
    options = {**OPTIONS, "durability": "os", "compaction": "manual", **options}
    if isinstance(path_or_directory, FaultyDirectory):
        store = Store._in_directory(path_or_directory, **options)
    else:
        store = Store(path_or_directory, **options)
    for number in range(200):
        store.put(b"%d" % (number % 20), b"value %d " % number * 9)
    return store

"""Errors survive pickle, copy and processes: text, attributes, arguments."""

import copy
import functools
import multiprocessing
import os
import pickle
import signal

import pytest

import kvengine.aio
import kvengine.replication.applier
import kvengine.server.main  # noqa: F401 - these three define errors, too
from kvengine import errors
from kvengine.file.output import refusals
from kvengine.namespace.transfer.fields import NotJson
from kvengine.namespace.transfer.import_ import _TooLarge
from kvengine.replication.applier import MissingPiece

EXAMPLES = [
    errors.KvError("something"),
    errors.InvalidRequest("a key must be 1 to 1024 bytes"),
    errors.InvalidType("a key must be bytes, not str"),
    errors.LimitExceeded("value too large", 413),
    errors.KeyNotFound(b"k"),
    errors.NamespaceNotFound("title"),
    errors.NamespaceExists("title"),
    errors.VersionConflict(3, 4),
    errors.StoreBusy("called from inside"),
    errors.StoreClosed("the store is closed"),
    errors.StoreLocked("/data", 77),
    errors.ConsumerLocked("search", 77),
    errors.StoreReadOnly("a sync failed", OSError(5, "Input/output error", "/data/1.log")),
    errors.NotAStore("/data is a file"),
    errors.UnsupportedFormat("format 9"),
    errors.StorageError(5, "Input/output error", "/data/1.log"),
    errors.StorageFull(28, "No space left on device", "/data/1.log"),
    errors.CorruptData("checksum", file="1.log", offset=64, expected="0x1", found="0x2"),
    errors.ProtocolError("frame", 5, "4 bytes", "3 bytes"),
    errors.UpstreamUnavailable("it does not answer"),
    errors.AccessDenied("the token is unknown"),
    errors.RateLimited(1.5),
    errors.NotCaughtUp("no state yet"),
    errors.ReplicaDiverged("another store"),
    errors.LogCompacted(3, 9),
    MissingPiece("piece 3"),
    NotJson("no JSON"),
    _TooLarge("a line"),
]


def kinds(base=errors.KvError):
    """Return all errors there are."""
    return {base, *(kind for sub in base.__subclasses__() for kind in kinds(sub))}


def in_package():
    return {kind for kind in kinds() if kind.__module__.startswith("kvengine")}


def test_there_is_an_example_of_each():
    assert {type(example) for example in EXAMPLES} == in_package()


def described(error):
    """Return all that can be seen of an error."""
    seen = {
        name: getattr(error, name)
        for name in (*vars(error), "args", "errno", "strerror", "filename")
        if hasattr(error, name)
    }
    if isinstance(seen.get("cause"), OSError):
        seen["cause"] = described(seen["cause"])
    return type(error), str(error), repr(error), seen


by_name = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


@by_name
def test_pickled_and_copied_they_are_the_same(error):
    error.__notes__ = ["while testing"]
    try:
        twins = [pickle.loads(pickle.dumps(error, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
        twins += [copy.copy(error), copy.deepcopy(error), errors.copied_error(error)]
        twins.append(pickle.loads(pickle.dumps(twins[0])))  # and once more
        for twin in twins:
            assert twin is not error
            assert described(twin) == described(error)
    finally:
        del error.__notes__


def test_a_cause_comes_along_when_an_error_is_raised_again():
    error, cause = errors.StoreClosed("closed"), OSError(5, "no")
    error.__cause__ = cause
    twin = errors.copied_error(error)
    assert twin is not error
    assert twin.__cause__ is cause
    assert twin.__traceback__ is None


def test_what_can_not_be_copied_is_raised_as_it_is():
    class Odd(Exception):
        def __reduce__(self):
            raise TypeError("no")

    odd = Odd()
    assert errors.copied_error(odd) is odd


def fail(number):
    raise EXAMPLES[number]


def test_a_pool_of_processes_gives_them_back():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = [pool.apply_async(fail, (number,)) for number in range(len(EXAMPLES))]
        for number, result in enumerate(results):
            with pytest.raises(type(EXAMPLES[number])) as caught:
                result.get(timeout=60)
            assert str(caught.value) == str(EXAMPLES[number])


def give_up(signum, frame):
    raise TimeoutError("the alarm of a user")


class Handler:
    def __call__(self, *arguments):
        give_up(*arguments)

    def method(self, signum, *rest, way=None):
        raise TimeoutError("the alarm of a user") from OSError("why")


def once(*_):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    int("no number")


def inside(signum, frame):
    def place():
        return frame.f_lineno

    os.stat(f"/nothing/here/{place()}")


HANDLERS = {
    "function": (give_up, TimeoutError),
    "object": (Handler(), TimeoutError),
    "method": (Handler().method, TimeoutError),
    "partial": (functools.partial(Handler().method, way="in"), TimeoutError),
    "once": (once, ValueError),
    "library": (inside, FileNotFoundError),
}


@pytest.fixture(params=HANDLERS)
def handled(request):
    """Install a handler; return the error that it raises."""
    handler, kind = HANDLERS[request.param]
    before = signal.signal(signal.SIGUSR1, handler)
    yield kind
    signal.signal(signal.SIGUSR1, before)


def step(hides):
    try:
        signal.raise_signal(signal.SIGUSR1)
    except (OSError, ValueError) as error:
        if hides:
            raise OSError("a connection broke") from error
        raise


@pytest.mark.parametrize("hides", [False, True])
def test_what_a_handler_raises_is_known_by_its_traceback(handled, hides):
    with pytest.raises(handled) as caught:
        try:
            step(hides)
        except (OSError, ValueError) as error:
            errors.pass_on(error)
            raise RuntimeError("it was taken for something else") from error
    assert "broke" not in str(caught.value)


def test_what_a_handler_raises_is_no_refusal_of_the_system(handled):
    with pytest.raises((OSError, ValueError)) as caught, refusals("read", "/data"):
        signal.raise_signal(signal.SIGUSR1)
    assert type(caught.value) is handled


def test_what_others_raise_is_not_passed_on():
    """Whoever they are: other libraries may stand in for sockets and files."""
    try:
        give_up(signal.SIGUSR1, None)
    except TimeoutError as error:
        errors.pass_on(error)

"""Programs in which foreign code comes in between two steps of the engine, for the tests of it.

Invariants:

* Each keeps a model of what the program itself wrote, and one of what its guest wrote, and compares
  the store, and what is found when it is opened again, with both.
"""

BEGINNING = """
import gc, os, random, signal, sys, threading, weakref
import kvengine
from kvengine import KvError, Store, StoreClosed

folder = sys.argv[1]
mistakes = []


def check(store, model):
    assert not mistakes, mistakes
    assert dict(store.items()) == model
    version = store.version
    store.compact()
    assert dict(store.items()) == model
    store.close()
    for options in ({}, {"rebuild": True}):
        with Store(folder, **options) as again:
            assert dict(again.items()) == model and again.version == version
            assert again.verify().problems == ()
            versions = [change.version for change in again.tail()]
            assert versions == sorted(set(versions))


class Guest:
    # Code that comes in from outside, and writes keys of its own.
    def __init__(self, store, every=1):
        self.store, self.every, self.model = store, every, {}
        self.turn, self.turns, self.random = threading.Lock(), 0, random.Random(7)

    def work(self, *_):
        self.turns += 1
        if self.turns % self.every or not self.turn.acquire(blocking=False):
            return
        try:
            key = b"guest-%d" % self.random.randrange(40)
            if self.random.random() < 0.3:
                self.store.delete(key, durability="os")
                self.model.pop(key, None)
            else:
                value = b"g" * self.random.choice([0, 10, 500])
                self.store.put(key, value, durability="os")
                self.model[key] = value
            if self.random.random() < 0.2:
                with self.store.batch("os") as batch:
                    batch.put(b"guest-a", key)
                    batch.delete(b"guest-b")
                self.model[b"guest-a"] = key
            assert self.store.get(key) == self.model.get(key)
        except BaseException as error:
            mistakes.append(repr(error))
        finally:
            self.turn.release()

    def leave(self):
        # Collectors run in any thread, so also while others are in here.
        self.turn.acquire()
        assert self.turns > 5, self.turns


def host(store, rounds, seed=1, prefix=b"host", durability="os"):
    # The program itself: every kind of write, against a model.
    model, chance = {}, random.Random(seed)
    for i in range(rounds):
        key = prefix + b"-%d" % chance.randrange(60)
        what = chance.random()
        if what < 0.5:
            value = b"h" * chance.choice([0, 5, 90, 5000])
            store.put(key, value, durability=durability)
            model[key] = value
        elif what < 0.65:
            assert (store.delete(key, durability=durability) > 0) == (key in model)
            model.pop(key, None)
        elif what < 0.8:
            with store.batch(durability) as batch:
                for j in range(5):
                    batch.put(prefix + b"-%d" % j, b"b")
                batch.delete(prefix + b"-7")
            model.update({prefix + b"-%d" % j: b"b" for j in range(5)})
            model.pop(prefix + b"-7", None)
        elif what < 0.85:
            pairs = {prefix + b"-%d" % j: b"u%d" % i for j in range(20, 30)}
            store.update(pairs)
            model.update(pairs)
        elif what < 0.9:
            assert [k for k in store.keys(prefix)] == sorted(model)
        else:
            assert store.get(key) == model.get(key)
    return model
"""

COLLECTOR = """
store = Store(folder, durability="os", segment_bytes=1 << 16, key_buffer_entries=64,
              groups=(b"g", 3), compaction="auto")
store.digest()
guest = Guest(store, every=3)
gc.callbacks.append(lambda phase, info: guest.work())
gc.set_threshold(1)
model = host(store, 1500)
gc.set_threshold(700)
gc.callbacks.clear()
guest.leave()
assert store.group_size(b"gue").keys == len(guest.model)
check(store, model | guest.model)
"""

FINALIZERS = """
store = Store(folder, segment_bytes=1 << 16)
guest = Guest(store)


class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        guest.work()


class Value(bytes):
    pass


gc.set_threshold(3)
model = {}
for i in range(1200):
    Cycle()
    value = Value(b"%d" % i)
    if i % 3 == 0:
        weakref.finalize(Cycle(), guest.work)
    store.put(b"host-%d" % (i % 50), value, durability="os" if i % 10 else "group")
    model[b"host-%d" % (i % 50)] = bytes(value)
gc.set_threshold(700)
gc.collect()
guest.leave()
check(store, model | guest.model)
"""

SIGNALS = """
store = Store(folder, segment_bytes=1 << 16, durability="group")
guest = Guest(store)
signal.signal(signal.SIGALRM, guest.work)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
model = host(store, 1500, durability="group")
model |= host(store, 1500, prefix=b"more")
signal.setitimer(signal.ITIMER_REAL, 0)
guest.leave()
check(store, model | guest.model)
"""

THREADS = """
sys.setswitchinterval(1e-6)
store = Store(folder, segment_bytes=1 << 16, durability="os", key_buffer_entries=64)
models = {}


def run(number):
    try:
        models[number] = host(store, 400, seed=number, prefix=b"host%d" % number,
                              durability="group" if number == 0 else "os")
    except BaseException as error:
        mistakes.append(repr(error))


threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    store.compact()
    store.checkpoint()
    for thread in threads:
        thread.join(0.05)
model = {}
for one in models.values():
    model |= one
check(store, model)
"""

ARGUMENTS = """
class Clock:
    guest = None

    def time(self):
        if self.guest is not None:
            self.guest.work()
        return 1000.0

    def monotonic(self):
        return 1000.0


clock = Clock()
store = Store(folder, segment_bytes=1 << 16, durability="os", clock=clock)
clock.guest = guest = Guest(store)


class Key(bytes):
    def __hash__(self):
        guest.work()
        return super().__hash__()

    def __eq__(self, other):
        guest.work()
        return super().__eq__(other)


class Name(str):
    def __hash__(self):
        guest.work()
        return super().__hash__()

    def __eq__(self, other):
        guest.work()
        return super().__eq__(other)


class Moment(float):
    def __float__(self):
        guest.work()
        return float.__float__(self)

    def __gt__(self, other):
        guest.work()
        return super().__gt__(other)


class Number(int):
    def __le__(self, other):
        guest.work()
        return super().__le__(other)

    def __index__(self):
        guest.work()
        return int(self)


class Pairs(dict):
    def keys(self):
        guest.work()
        return super().keys()

    def items(self):
        for pair in super().items():
            guest.work()
            yield pair


model = {}
for i in range(300):
    key = Key(b"host-%d" % (i % 30))
    store.put(key, bytearray(b"%d" % i), expires_at=Moment(1e9), durability=Name("os"))
    version = store.get_entry(key).version
    store.put(key, memoryview(b"x%d" % i), metadata=bytearray(b"m"), if_version=Number(version))
    if i % 3 == 0:
        store.delete(Key(b"host-0"), if_version=None)
        model.pop(b"host-0", None)
        store.update(Pairs({b"host-40": b"p", b"host-41": b"%d" % i}))
        model |= {b"host-40": b"p", b"host-41": b"%d" % i}
    model[bytes(key)] = b"x%d" % i
    if key == b"host-0" and i % 3 == 0:
        model.pop(b"host-0", None)
clock.guest = None
guest.leave()
check(store, model | guest.model)
"""

GEVENT = (
    """
from gevent import monkey
monkey.patch_all()
import gevent
"""
    + BEGINNING
    + """
store = Store(folder, segment_bytes=1 << 16)
models = {}


def run(number):
    models[number] = {}
    for part in range(12):
        models[number] |= host(store, 25, seed=number * 100 + part,
                               prefix=b"host%d-%d" % (number, part), durability="group")
        gevent.sleep(0)


gevent.joinall([gevent.spawn(run, number) for number in range(8)], raise_error=True)
guest = Guest(store)


def switch(phase, info):
    # As eventlet does it: what runs may be left for another green thread, but not gevent itself.
    code = sys._getframe(1).f_code
    if code is host.__code__ or "kvengine" in code.co_filename:
        guest.work()
        gevent.sleep(0)


gc.callbacks.append(switch)
gc.set_threshold(3)
gevent.joinall([gevent.spawn(run, number) for number in range(8, 12)], raise_error=True)
gc.callbacks.clear()
guest.leave()
model = dict(guest.model)
for one in models.values():
    model |= one
check(store, model)
"""
)

FORK = """
store = Store(folder, segment_bytes=1 << 16, durability="os")
store.put(b"a", b"1")
stop = False
value = bytes(200_000)  # its write gives up the interpreter's lock, and keeps the writer's


def write():
    while not stop:
        store.put(b"large", value)


def in_child():
    calls = (
        lambda: store.put(b"b", b"2"),
        lambda: store.delete(b"a"),
        lambda: store.update({b"b": b"2"}),
        lambda: batch.commit(),
        lambda: store.__setitem__(b"b", b"2"),
        lambda: store._parts.exclusively(int),
    )
    for call in calls:
        call()
    assert store.get(b"b") == b"2"
    store.put(b"a", b"1")


thread = threading.Thread(target=write)
thread.start()
batch = store.batch()
batch.put(b"b", b"2")
for _ in range(10):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            in_child()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
check(store, {b"a": b"1", b"b": b"2", b"large": value})
"""
PROGRAMS = {
    "collector": BEGINNING + COLLECTOR,
    "finalizers": BEGINNING + FINALIZERS,
    "signals": BEGINNING + SIGNALS,
    "threads": BEGINNING + THREADS,
    "arguments": BEGINNING + ARGUMENTS,
    "gevent": GEVENT,
    "fork": BEGINNING + FORK,
}

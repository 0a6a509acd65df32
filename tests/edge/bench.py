"""An edge whose upstream is the test itself."""

from kvengine.edge.messages import Answer, ChangeBatch, ReadOptions
from kvengine.edge.node import EdgeNode
from kvengine.edge.settings import Settings

OPTIONS = ReadOptions(60.0)
INF = float("inf")


class Upstream:
    """Notes what it is asked; the test answers."""

    def __init__(self):
        self.asked = []

    def fetch(self, wants, done):
        self.asked.append((wants, done))

    def answer(self, *answers):
        _, done = self.asked.pop(0)
        done(list(answers))

    def fail(self, error):
        self.asked.pop(0)[1](error)

    def origin_version(self, done):
        done(77)


class Bench:
    """An edge, its upstream, and shorthands."""

    def __init__(self, time, clock, *, disk=None, begin=True, **settings):
        self.time, self.upstream = time, Upstream()
        self.edge = EdgeNode(
            self.upstream,
            Settings(watermark_groups=64, **settings),
            monotonic=clock.monotonic,
            wall=clock.time,
            later=clock.later,
            disk=disk,
        )
        if begin:
            self.edge.begin(10)

    def read(self, key=b"k", **options):
        results = []
        self.edge.read(key, OPTIONS._replace(**options), results.append)
        return results

    def hold(self, version=5, as_of=10, value=b"v", key=b"k", **more):
        self.read(key)
        self.upstream.answer(Answer(version, as_of, 0.0, value, **more))

    def apply_changes(self, after, upto, *events, age=0.0, gone=False):
        return self.edge.apply_changes(
            ChangeBatch(after, upto, age, events, gone=gone), self.edge._monotonic()
        )

    @property
    def counters(self):
        return self.edge.counters

"""What can be done to a world: ways, cuts, partitions, clocks, values that expire."""

import json
from functools import partial

import pytest

from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent, KeyRequest, ReadResult
from kvengine.errors import InvalidRequest, UpstreamUnavailable
from kvengine.testing import World
from kvengine.testing.world.checker import Checker
from kvengine.testing.world.link import size_of
from kvengine.testing.world.virtual_time import START, VirtualTime, WorldClock


def took(world, node, key=b"key-1"):
    """Return how long a read takes."""
    before = world.now
    world.read(node, key)
    return world.now - before


def test_latencies_are_those_of_a_matrix():
    ways = {("edge-0", "primary"): 0.010, ("primary", "edge-0"): 0.030, ("primary", "edge-1"): 0.2}
    world = World(edges=2, latency=ways, jitter=0, delay_s=0)
    assert took(world, "edge-0") == pytest.approx(0.040)
    assert took(world, "edge-1") == pytest.approx(0.4)  # the way back is as long
    assert took(world, "edge-1") == 0


def test_each_message_can_be_delayed():
    ways = dict.fromkeys([("edge-0", "primary")], 0.010)
    assert took(World(edges=1, latency=ways, jitter=0, delay_s=0.5), "edge-0") == pytest.approx(
        1.02
    )


def test_places_on_a_globe_lie_apart():
    world = World(edges=50, jitter=0)
    times = [took(world, leaf.name) for leaf in world.leaves]
    assert 0.002 <= min(times) < max(times) <= 2 * 0.151
    assert len({round(time, 6) for time in times}) == 50


def test_messages_overtake_each_other():
    world = World(edges=1, jitter=3.0)
    arrived = []
    for number in range(100):
        world.network.send("primary", "edge-0", partial(arrived.append, number))
    world.run(5)
    assert arrived != sorted(arrived) == list(range(100))


def test_messages_are_lost_and_sent_twice():
    world = World(edges=1, loss=0.3, duplication=0.3)
    arrived = []
    for number in range(1000):
        world.network.send("primary", "edge-0", partial(arrived.append, number))
    world.run(5)
    assert 600 < len(set(arrived)) < 800
    assert 150 < len(arrived) - len(set(arrived)) < 300


def test_a_cut_in_one_direction():
    world = World(edges=1)
    world.cut("edge-0", one_way=True)
    arrived = []
    world.network.send("edge-0", "primary", lambda: arrived.append("up"))
    world.network.send("primary", "edge-0", lambda: arrived.append("down"))
    world.run(1)
    assert arrived == ["down"]
    with pytest.raises(UpstreamUnavailable):
        world.read("edge-0", b"key-1")
    world.heal("edge-0")
    world.run(10)  # the polls come again
    assert world.read("edge-0", b"key-1").value is not None


def test_a_partition_lets_its_places_talk():
    world = World(edges=4, regions=2)
    world.read("edge-0", b"key-1")  # now region 0 has it
    world.partition(["reg-0", "edge-0", "edge-2"])
    assert world.read("edge-2", b"key-1").value is not None
    assert world.read("edge-1", b"key-1").value is not None  # belongs to region 1
    with pytest.raises(UpstreamUnavailable):
        world.read("edge-0", b"key-2")
    world.heal(["reg-0", "edge-0", "edge-2"])
    world.run(10)
    assert world.read("edge-0", b"key-2").value is not None
    assert world.report().violations == []


def test_a_value_expires_by_the_clock_of_each_place():
    world = World(seed=3, edges=5, clock_skew_s=5.0)
    world.write("primary", b"key-1", b"soon", ttl=30)
    assert all(world.read(leaf.name, b"key-1").value == b"soon" for leaf in world.leaves)
    for _ in range(45):
        world.run(1)
        for leaf in world.leaves:
            world.read(leaf.name, b"key-1")
    assert all(world.read(leaf.name, b"key-1").version == 0 for leaf in world.leaves)
    report = world.report()
    assert report.violations == []
    assert report.leaves.memory_hits > 100


def test_what_has_expired_is_absent_though_nothing_else_changes():
    world = World(edges=1, keys=0)
    world.write("primary", b"k", b"v", ttl=10)
    assert world.read("edge-0", b"k").value == b"v"
    world.run(10.5)
    assert world.read("edge-0", b"k").value is None
    assert world.report().violations == []


def test_what_happens_does_not_depend_on_how_messages_fare():
    def history(**changes):
        world = World(seed=4, edges=5, **changes)
        world.traffic.run(30, reads_per_s=10, writes_per_s=3)
        return world.writes, [entry.key for entry in world.primary.store.scan()]

    assert history() == history(push_bytes=0) == history(jitter=1.0)


def test_the_content_of_the_primary_can_be_given():
    world = World(edges=1, content=[(b"a", b"1"), (b"b", b"2")])
    assert world.read("edge-0", b"b").value == b"2"
    assert world.report().keys == 2


def test_a_namespace_has_the_methods_of_a_real_one():
    world = World(edges=2, keys=0)
    primary, leaf = world.namespace("primary"), world.namespace("edge-0")
    version = primary.put("a", {"n": 1}, type="json")
    assert leaf.get("a", "json") == {"n": 1}
    assert leaf.get("a", "bytes") == b'{"n": 1}'
    assert leaf.get_with_metadata("a")[2:] == ("HIT", version)
    assert leaf.get_many(["a", "b"], min_version=version) == {"a": '{"n": 1}', "b": None}
    leaf.put("b", "x", expiration_ttl=60)
    found = leaf.read("b")
    assert (found.value, found.expiration - int(START)) == ("x", pytest.approx(62, abs=1))
    assert ("b" in leaf, "c" in leaf) == (True, False)
    leaf.delete("b")
    assert leaf.get("b") is primary.get("b") is None
    assert leaf.get("a", cache_ttl=0) is not None
    with pytest.raises(InvalidRequest):
        leaf.get("a", "stream")
    with pytest.raises(InvalidRequest):
        world.namespace("edge-9")
    assert world.report().violations == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": 0},
        {"regions": -1},
        {"loss": 2},
        {"jitter": -1},
        {"latency": 5},
        {"latency": {("edge-0", "primary"): -1}},
        {"latency": {}},
        {"bound_s": -1},
    ],
)
def test_what_a_world_can_not_be(wrong):
    with pytest.raises(InvalidRequest):
        World(**wrong)


def test_a_world_has_no_other_settings():
    with pytest.raises(TypeError, match="nonsense"):
        World(nonsense=1)  # type: ignore[call-arg]


def test_places_that_are_not_there_are_said():
    world = World(edges=1)
    for call in (world.cut, world.crash, world.begin, world.heal):
        with pytest.raises(InvalidRequest, match="no node 'nowhere'"):
            call("nowhere")
    with pytest.raises(InvalidRequest, match="no node 'nowhere'"):
        world.read("nowhere", b"k")
    with pytest.raises(InvalidRequest, match="has no upstream"):
        world.cut("primary")


def test_writes_at_a_primary_that_is_down_are_counted():
    world = World(edges=1)
    world.crash("primary")
    with pytest.raises(UpstreamUnavailable):
        world.write("primary", b"k", b"v")
    assert world.report().failed_writes == 1


def test_the_figures_can_be_said_in_json():
    world = World(seed=1, edges=5, regions=1, keys=100, with_disk=True, memory_bytes=20_000)
    world.traffic.run(30, reads_per_s=100, writes_per_s=1)
    report = world.report()
    found = json.loads(json.dumps(report.figures()))
    assert found["hit_ratio"]["edges"] == pytest.approx(
        found["hit_ratio"]["memory"] + found["hit_ratio"]["disk"]
    )
    assert found["hit_ratio"]["disk"] > 0
    assert found["primary"]["reads"] == report.regions.requests
    assert 0 < found["primary"]["bytes"] < found["message_bytes"]
    assert found["propagation"]["p50"] <= found["propagation"]["p99"] <= found["propagation"]["max"]
    assert found["violations"] == 0
    assert "of these from disk" in str(report)


def test_sizes_of_messages_are_those_of_what_they_carry():
    empty = size_of([])
    assert size_of([KeyRequest(b"k" * 10)]) == empty + 40 + 10
    assert size_of([Answer(1, 1, 0.0, b"v" * 100, b"m")]) == empty + 40 + 101
    event = ChangeEvent(1, b"k", True, b"v" * 50)
    assert size_of(ChangeBatch(0, 1, 0.0, (event, event))) == empty + 2 * 91
    assert size_of(5) == size_of(ValueError()) == empty


def test_a_clock_knows_when_it_shows_a_time():
    clock = WorldClock(VirtualTime(), ahead_s=5.0, rate=1.01)
    moment = clock.moment_of(START + 100)
    assert moment * 1.01 + 5 == pytest.approx(100)


def shown(version, value, expires_at=None, as_of=100):
    return ReadResult(value, b"", expires_at, version, 100.0, "HIT", as_of)


@pytest.mark.parametrize(
    ("reads", "promise"),
    [
        ([(shown(5, b"v", 50.0), 49.0)], None),
        ([(shown(5, b"v", 50.0), 51.9)], None),  # by the slowest clock
        ([(shown(5, b"v", 50.0), 52.1)], "expired is gone"),
        ([(shown(5, b"v", 51.0), 49.0)], "right value"),
        ([(shown(0, None), 48.1)], None),  # by the fastest clock
        ([(shown(0, None), 47.9)], "new keys at once"),  # it is the absence before
        ([(shown(0, None), 49.0), (shown(5, b"v", 50.0), 49.5)], "never back"),
        ([(shown(0, None), 61.0)], "new keys at once"),
        ([(shown(6, b"w"), 61.0)], None),
    ],
)
def test_what_the_checker_says_of_values_that_expire(reads, promise):
    checker = Checker(60.0, 0.0, lambda node, moment: (moment - 2, moment + 2))
    checker.begin(b"k", 0, None)
    checker.changed(b"k", 5, b"v", 10.0, 50.0)
    checker.changed(b"k", 6, b"w", 60.0)
    for what, at in reads:
        checker.read("here", b"k", what, at, at, 60.0)
    assert [violation.promise for violation in checker.violations] == ([promise] if promise else [])


@pytest.mark.parametrize(("min_version", "promise"), [(4, []), (5, ["min_version"])])
def test_what_the_checker_says_of_a_version_that_was_asked_for(min_version, promise):
    checker = Checker(60.0, 0.0)
    checker.begin(b"k", 1, b"v")
    checker.changed(b"k", 5, b"w", 10.0)
    checker.read("here", b"k", shown(1, b"v"), 11.0, 11.0, 60.0, min_version)
    assert [violation.promise for violation in checker.violations] == promise

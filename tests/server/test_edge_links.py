"""A primary and three edges in network namespaces: links that are slow, lose, and are cut."""

import shutil
import subprocess
import threading
from functools import partial

import pytest

import kvengine
from tests.server.places import Place, closing_all, until
from tests.server.running import TOKEN

NETS = ("10.213.1", "10.213.2", "10.213.3")


def run(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=10)


@pytest.fixture(scope="module")
def nets():
    """Three network namespaces, each behind a link; of 20 ms with 1 % of loss if there is netem."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("needs ip and tc, of iproute2")
    made = []
    try:
        for number, net in enumerate(NETS):
            name, link = f"kvt{number}", f"kvt{number}"
            run("ip", "netns", "add", name)
            made.append(name)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "addr", "add", f"{net}.1/24", "dev", link)
            run("ip", "link", "set", link, "up")
            inside = ("ip", "netns", "exec", name)
            run(*inside, "ip", "addr", "add", f"{net}.2/24", "dev", "eth0")
            run(*inside, "ip", "link", "set", "eth0", "up")
            netem = ("tc", "qdisc", "add", "dev", link, "root", "netem", "delay", "20ms")
            slow = subprocess.run([*netem, "loss", "1%"], capture_output=True, check=False)
            if slow.returncode:  # a kernel without netem: links are still cut
                print("links without delay:", slow.stderr.decode())
    except (subprocess.CalledProcessError, OSError) as error:
        remove(made)
        said = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"this machine makes no network namespaces: {said.decode().strip()}")
    yield made
    remove(made)


def remove(names):
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


def shows(place, namespace, key, value):
    return place.get(namespace, key) == value


def test_promises_hold_over_bad_links(nets, tmp_path):
    with closing_all() as places:
        primary = Place("primary", str(tmp_path / "primary"), host="0.0.0.0")
        places.append(primary)
        edges = []
        for name, net in zip(nets, NETS, strict=True):
            url = f"http://{net}.1:{primary.port}"
            within = ("ip", "netns", "exec", name)
            place = Place(
                "edge", url, name, "retry_max_s=0.5", "timeout_s=3", host=f"{net}.2",
                within=within,
            )  # fmt: skip
            places.append(place)
            edges.append(place)
        primary.host = "127.0.0.1"
        with kvengine.connect(f"http://127.0.0.1:{primary.port}", token=TOKEN) as db:
            namespace = db.namespace("links").id
            own = db.namespace_by_id(namespace)
            for number in range(5):
                own.put(f"new{number}", "v")
                assert [one.get(namespace, f"new{number}") for one in edges] == ["v"] * 3
            goes_forward(own, edges, namespace)
            place = edges[0]
            place.put(namespace, "own", "here")
            assert place.get(namespace, "own") == "here"
            run("ip", "link", "set", nets[0], "down")
            assert place.process.poll() is None
            own.put("new0", "after the cut")
            for other in edges[1:]:
                until(partial(shows, other, namespace, "new0", "after the cut"), "not seen")
            run("ip", "link", "set", nets[0], "up")
            until(partial(answers, place, namespace), "it does not come back")
            until(partial(shows, place, namespace, "new0", "after the cut"), "not seen")


def has_ended(found):
    return found[-1] == 100


def answers(place, namespace):
    answer = place.http.get(place.path(namespace, "own"))
    return answer.status_code == 200


def goes_forward(own, edges, namespace):
    """Check that readers everywhere, while a writer counts, never see it go back."""
    own.put("count", "0")
    seen = [[0] for _ in edges]
    stop = threading.Event()

    def read(place, found):
        while not stop.is_set():
            found.append(int(place.get(namespace, "count")))

    pairs = zip(edges, seen, strict=True)
    threads = [threading.Thread(target=read, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for number in range(1, 101):
        own.put("count", str(number))
    for found in seen:
        until(partial(has_ended, found), "the last change is not seen")
    stop.set()
    for thread in threads:
        thread.join()
    assert all(found == sorted(found) for found in seen)

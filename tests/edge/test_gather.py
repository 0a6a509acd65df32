"""Results of several threads are told once, all of them, in order."""

import threading

from kvengine.edge.upstream.gather import Gather


def test_results_from_threads_are_told_once():
    told = []
    for _ in range(200):
        gather = Gather(8, told.append)
        start = threading.Barrier(8)

        def arrive(number, gather=gather, start=start):
            start.wait()
            gather.callback(number)(number)

        threads = [threading.Thread(target=arrive, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told == [list(range(8))] * 200


def test_errors_are_results():
    told, error = [], ValueError()
    gather = Gather(2, told.append)
    gather.callback(1)(error)
    assert told == []
    gather.callback(0)(5)
    assert told == [[5, error]]

"""The processes that share a store, and how they are told what to do.

Invariants: all begin at one moment, after every one of them is ready; one that fails, dies or hangs
is an error of that measurement, and the next one starts with whole processes again.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.child import Child, ChildFailed

_LEAD_S = 0.05  # from the order to the beginning
PATIENCE_S = 60.0  # who takes so much longer than asked hangs


class Crew:
    """Some processes, started when they are first needed."""

    def __init__(self, task: dict[str, Any], size: int) -> None:
        self._task, self._size = task, size
        self._children: list[Child] = []

    @contextlib.contextmanager
    def on(self, orders: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Have a store open in so many processes, opened one after the other.

        Raises:
            ChildFailed: one could not open it.
        """
        if not self._children:
            for index in range(self._size):
                task = self._task | {"index": index}
                self._children.append(Child("benchmarks.processes.child", task))
        try:
            for place, order in enumerate(orders):
                self._ask(place, [order | {"do": "open"}])
            yield
        finally:
            for place in range(len(orders)):
                with contextlib.suppress(ChildFailed):
                    self._ask(place, [{"do": "close"}])

    def ask(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each order to a process, and return the answers.

        Raises:
            ChildFailed: one answered with an error, ended, or did not answer.
        """
        return self._ask(0, orders)

    def together(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """As `ask`, but all begin at one moment; answers say how many seconds each took."""
        try:
            self._ask(0, orders)  # they are ready now
        except ChildFailed:
            self.stop()  # the others would wait for ever
            raise
        start = time.perf_counter_ns() + int(_LEAD_S * 1e9)
        seconds = max(order["seconds"] for order in orders)
        answers = self._ask(0, [{"start_ns": start, "seconds": seconds}] * len(orders))
        for answer in answers:
            answer["seconds"] = (answer["ended_ns"] - start) / 1e9
        return answers

    def stop(self) -> None:
        """End all processes."""
        children, self._children = self._children, []
        for child in children:
            child.__exit__()

    def _ask(self, place: int, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        chosen = self._children[place : place + len(orders)]
        if len(chosen) < len(orders):
            raise ChildFailed("the processes have ended")
        seconds = max(order.get("seconds", 0.0) for order in orders)
        hung = threading.Timer(seconds + PATIENCE_S, _kill, [chosen])
        hung.start()
        try:
            for child, order in zip(chosen, orders, strict=True):
                child.send(json.dumps(order))
            answers = [json.loads(child.line()) for child in chosen]
        except (ChildFailed, OSError) as error:
            self.stop()
            lines = str(error).strip().splitlines() or ["a process ended"]
            raise ChildFailed(lines[-1]) from error
        finally:
            hung.cancel()
            hung.join()
        for answer in answers:
            if "error" in answer:
                raise ChildFailed(answer["error"])
        return answers


def _kill(children: Sequence[Child]) -> None:
    for child in children:
        child.process.kill()

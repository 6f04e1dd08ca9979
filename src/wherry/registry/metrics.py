"""Counters, written as Prometheus' text format 0.0.4."""

import os
import time
from collections import defaultdict
from typing import Any, Final

from wherry.registry.board import Board

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)


_SUMS: Final = (
    ("requests_in_flight", "gauge", "in_flight"),
    ("received_bytes_total", "counter", "received"),
    ("sent_bytes_total", "counter", "sent"),
    ("collections_total", "counter", "collections"),
    ("collected_bytes_total", "counter", "collected_bytes"),
    ("collected_blobs_total", "counter", "collected_blobs"),
)


class Metrics:
    """What the server counted since it began; with several workers, what all of them did.

    Args:
        board: where the workers show one another what they counted; None where there is one process.
    """

    def __init__(self, board: Board | None = None) -> None:
        self._started = time.time()
        self._requests: dict[str, int] = defaultdict(int)
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self.in_flight = 0
        self.received = 0
        self.sent = 0
        self.collections = 0
        self.collected_bytes = 0
        self.collected_blobs = 0
        self._board = board
        # counters go on where those of a worker that died stood; nothing of it is in flight any more
        self._before = board.own() if board is not None else None
        if self._before is not None:
            self._before = {**self._before, "in_flight": 0, "resident": 0}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered; `route` is one of a few fixed words."""
        self._requests[f'route="{route}",method="{method}",status="{status}"'] += 1
        self._seconds += seconds
        place = 0
        while place < len(_BUCKETS) and seconds > _BUCKETS[place]:
            place += 1
        self._buckets[place] += 1

    def publish(self) -> None:
        """Show the other workers what this one counted."""
        if self._board is not None:
            self._board.write(self._own())

    def text(self) -> str:
        """The page."""
        self.publish()  # what a page has told is never taken back, whoever is killed then
        values = self._own()
        for other in self._board.others() if self._board is not None else ():
            _add(values, other)
        lines = ["# TYPE wherry_registry_requests_total counter"]
        for labels, count in sorted(values["requests"].items()):
            lines.append(f"wherry_registry_requests_total{{{labels}}} {count}")
        lines.append("# TYPE wherry_registry_request_seconds histogram")
        total = 0
        for bound, count in zip((*_BUCKETS, "+Inf"), values["buckets"], strict=True):
            total += count
            lines.append(f'wherry_registry_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"wherry_registry_request_seconds_sum {values['seconds']:.6f}"]
        lines += [f"wherry_registry_request_seconds_count {total}"]
        for name, kind, key in _SUMS:
            lines += [f"# TYPE wherry_registry_{name} {kind}", f"wherry_registry_{name} {values[key]}"]
        lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {values['resident']}"]
        lines += ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self._started:.3f}"]
        return "\n".join(lines) + "\n"

    def _own(self) -> dict[str, Any]:
        values: dict[str, Any] = {key: getattr(self, key) for _, _, key in _SUMS}
        values |= {"requests": dict(self._requests), "buckets": list(self._buckets), "seconds": self._seconds}
        values["resident"] = _resident()
        if self._before is not None:
            _add(values, self._before)
        return values


def _add(values: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if key == "requests":
            for labels, count in value.items():
                values[key][labels] = values[key].get(labels, 0) + count
        elif key == "buckets":
            values[key] = [one + more for one, more in zip(values[key], value, strict=True)]
        else:
            values[key] += value


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

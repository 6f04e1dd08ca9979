"""Counters of the registry, rendered by prometheus-client in Prometheus' text format 0.0.4.

The library's multiprocess mode is not used: it keeps a file for each process id that ever served, and a worker that is
killed stays in its gauges. Here the workers share a board, and a worker continues the counters of the one that it
replaces.
"""

import os
import time
from collections.abc import Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from wherry.registry.board import Board

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
_PREFIX: Final = "wherry_registry"


class Counts(msgspec.Struct):
    """The counters of one worker, or of several.

    Attributes:
        requests: number of answered requests by `ROUTE METHOD STATUS`.
        buckets: number of requests by duration, one for each of `_BUCKETS` and one for longer requests.
        seconds: duration of all answered requests.
        resident: bytes of memory.
    """

    requests: dict[str, int] = msgspec.field(default_factory=dict)
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    seconds: float = 0.0
    in_flight: int = 0
    received: int = 0
    sent: int = 0
    collections: int = 0
    collected_bytes: int = 0
    collected_blobs: int = 0
    resident: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counters of another worker."""
        for key, count in other.requests.items():
            self.requests[key] = self.requests.get(key, 0) + count
        self.buckets = [one + more for one, more in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
        self.in_flight += other.in_flight
        self.received += other.received
        self.sent += other.sent
        self.collections += other.collections
        self.collected_bytes += other.collected_bytes
        self.collected_blobs += other.collected_blobs
        self.resident += other.resident


class Metrics(Collector):
    """The counters since the start of the server; with several workers, the sum over all workers.

    Args:
        board: where the workers publish their counters; None with one process.
    """

    def __init__(self, board: Board | None = None) -> None:
        self._started = time.time()
        self._requests: dict[str, int] = {}
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self.in_flight = 0
        self.received = 0
        self.sent = 0
        self.collections = 0
        self.collected_bytes = 0
        self.collected_blobs = 0
        self._board = board
        # continue the counters of a worker that died; its requests are no longer in flight
        self._before = _decode(board.own()) if board is not None else None
        if self._before is not None:
            self._before.in_flight = self._before.resident = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is one of a few fixed words."""
        key = f"{route} {method} {status}"
        self._requests[key] = self._requests.get(key, 0) + 1
        self._seconds += seconds
        place = 0
        while place < len(_BUCKETS) and seconds > _BUCKETS[place]:
            place += 1
        self._buckets[place] += 1

    def publish(self) -> None:
        """Write the counters of this worker to the board."""
        if self._board is not None:
            self._board.write(msgspec.json.encode(self._own()))

    def text(self) -> str:
        """Return the page in Prometheus' text format."""
        self.publish()  # a value that a page has shown must survive the death of this worker
        return generate_latest(self._registry).decode()

    def describe(self) -> list[Metric]:
        """Return nothing, so that the library does not collect when this object is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the sum over all workers, as the library's metric families."""
        values = self._own()
        for raw in self._board.others() if self._board is not None else ():
            other = _decode(raw)
            if other is not None:
                values.add(other)
        requests = CounterMetricFamily(
            f"{_PREFIX}_requests", "Answered requests.", labels=("route", "method", "status")
        )
        for key, count in sorted(values.requests.items()):
            requests.add_metric(key.rsplit(" ", 2), count)
        yield requests
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*_BUCKETS, "+Inf"), values.buckets, strict=True):
            total += count
            buckets.append((str(bound), total))
        help_ = "Duration of answered requests in seconds."
        yield HistogramMetricFamily(f"{_PREFIX}_request_seconds", help_, buckets=buckets, sum_value=values.seconds)
        yield GaugeMetricFamily(f"{_PREFIX}_requests_in_flight", "Unanswered requests.", values.in_flight)
        for name, text, value in (
            ("received_bytes", "Bytes of blobs and manifests received.", values.received),
            ("sent_bytes", "Bytes of blobs and manifests sent.", values.sent),
            ("collections", "Garbage collections.", values.collections),
            ("collected_bytes", "Bytes deleted by garbage collections.", values.collected_bytes),
            ("collected_blobs", "Blobs deleted by garbage collections.", values.collected_blobs),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value)
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory of all workers.", values.resident)
        yield GaugeMetricFamily("process_start_time_seconds", "Start time, seconds since the epoch.", self._started)

    def _own(self) -> Counts:
        values = Counts(
            requests=dict(self._requests),
            buckets=list(self._buckets),
            seconds=self._seconds,
            in_flight=self.in_flight,
            received=self.received,
            sent=self.sent,
            collections=self.collections,
            collected_bytes=self.collected_bytes,
            collected_blobs=self.collected_blobs,
            resident=_resident(),
        )
        if self._before is not None:
            values.add(self._before)
        return values


def _decode(raw: bytes | None) -> Counts | None:
    return msgspec.json.decode(raw, type=Counts) if raw is not None else None


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

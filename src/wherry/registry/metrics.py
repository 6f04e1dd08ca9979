"""Counters, written as Prometheus' text format 0.0.4."""

import os
import time
from collections import defaultdict
from typing import Final

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)


class Metrics:
    """What one process counted since it began."""

    def __init__(self) -> None:
        self._started = time.time()
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self.in_flight = 0
        self.received = 0
        self.sent = 0
        self.collections = 0
        self.collected_bytes = 0
        self.collected_blobs = 0

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered; `route` is one of a few fixed words."""
        self._requests[route, method, status] += 1
        self._seconds += seconds
        place = 0
        while place < len(_BUCKETS) and seconds > _BUCKETS[place]:
            place += 1
        self._buckets[place] += 1

    def text(self) -> str:
        """The page."""
        lines = ["# TYPE wherry_registry_requests_total counter"]
        for (route, method, status), count in sorted(self._requests.items()):
            labels = f'route="{route}",method="{method}",status="{status}"'
            lines.append(f"wherry_registry_requests_total{{{labels}}} {count}")
        lines.append("# TYPE wherry_registry_request_seconds histogram")
        total = 0
        for bound, count in zip((*_BUCKETS, "+Inf"), self._buckets, strict=True):
            total += count
            lines.append(f'wherry_registry_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"wherry_registry_request_seconds_sum {self._seconds:.6f}"]
        lines += [f"wherry_registry_request_seconds_count {total}"]
        for name, kind, value in (
            ("requests_in_flight", "gauge", self.in_flight),
            ("received_bytes_total", "counter", self.received),
            ("sent_bytes_total", "counter", self.sent),
            ("collections_total", "counter", self.collections),
            ("collected_bytes_total", "counter", self.collected_bytes),
            ("collected_blobs_total", "counter", self.collected_blobs),
        ):
            lines += [f"# TYPE wherry_registry_{name} {kind}", f"wherry_registry_{name} {value}"]
        lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {_resident()}"]
        lines += ["# TYPE process_start_time_seconds gauge", f"process_start_time_seconds {self._started:.3f}"]
        return "\n".join(lines) + "\n"


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""The page of counters has the same names, labels and values whichever worker renders it."""

import os

from prometheus_client.parser import text_string_to_metric_families

from wherry.registry import board as boards
from wherry.registry.board import Board
from wherry.registry.metrics import Metrics


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_page_of_one_process() -> None:
    """Every metric is there under its name and type."""
    metrics = Metrics()
    metrics.request("manifests", "PUT", 201, 0.02)
    metrics.request("blobs", "GET", 200, 100.0)
    metrics.received = 5_000_000_123
    text = metrics.text()
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert types == [
        "# TYPE wherry_registry_requests_total counter",
        "# TYPE wherry_registry_request_seconds histogram",
        "# TYPE wherry_registry_requests_in_flight gauge",
        "# TYPE wherry_registry_received_bytes_total counter",
        "# TYPE wherry_registry_sent_bytes_total counter",
        "# TYPE wherry_registry_collections_total counter",
        "# TYPE wherry_registry_collected_bytes_total counter",
        "# TYPE wherry_registry_collected_blobs_total counter",
        "# TYPE process_resident_memory_bytes gauge",
        "# TYPE process_start_time_seconds gauge",
    ]
    samples = _samples(text)
    labels = (("method", "PUT"), ("route", "manifests"), ("status", "201"))
    assert samples["wherry_registry_requests_total", labels] == 1
    assert samples["wherry_registry_received_bytes_total", ()] == 5_000_000_123
    bounds = ("0.005", "0.025", "0.1", "0.5", "2.5", "10.0", "60.0", "+Inf")
    cumulative = [samples["wherry_registry_request_seconds_bucket", (("le", bound),)] for bound in bounds]
    assert cumulative == [0, 1, 1, 1, 1, 1, 1, 2]
    assert samples["wherry_registry_request_seconds_count", ()] == 2
    assert abs(samples["wherry_registry_request_seconds_sum", ()] - 100.02) < 1e-9
    assert samples["process_resident_memory_bytes", ()] > 0


def test_workers_are_summed_also_over_a_death() -> None:
    """A successor continues the counters of a dead worker, but not its requests in flight."""
    fd = boards.create(2)
    first, second = Metrics(Board(fd, 0)), Metrics(Board(fd, 1))
    first.request("blobs", "GET", 200, 0.001)
    first.in_flight = 3
    first.publish()
    second.request("blobs", "GET", 200, 0.001)
    labels = (("method", "GET"), ("route", "blobs"), ("status", "200"))
    samples = _samples(second.text())
    assert samples["wherry_registry_requests_total", labels] == 2
    assert samples["wherry_registry_requests_in_flight", ()] == 3
    successor = Metrics(Board(fd, 0))
    successor.request("blobs", "GET", 200, 0.001)
    samples = _samples(successor.text())
    assert samples["wherry_registry_requests_total", labels] == 3
    assert samples["wherry_registry_requests_in_flight", ()] == 0
    os.close(fd)

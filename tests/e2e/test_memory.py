"""What an idle container, and the engine at rest, cost in memory (proportional set size)."""

import gc
import json
import re
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, children, cmdline, until

pytestmark = pytest.mark.root

MONITOR_LIMIT = 4.0
ENGINE_LIMIT = 70.0


def pss(pid: int) -> float:
    """Proportional set size of a process, in MB."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def below(pid: int) -> list[int]:
    """A process and everything below it that is not a container's."""
    return [pid] + [
        other for child in children(pid) for other in below(child) if cmdline(child).startswith(b"wherry-s")
    ]


def monitors(engine: EngineProcess) -> list[int]:
    """The monitors of all running containers."""
    ids = engine.docker("ps", "-q", "--no-trunc").out.split()
    return [json.loads(Path(f"{engine.roots.sandbox(id_)}/state.json").read_text())["monitor"]["pid"] for id_ in ids]


def test_memory(own_engine: EngineProcess) -> None:
    """A monitor costs at most 4 MB, with 1 and with 20 running; idle wherryd with its spawner at most 70 MB."""
    engine = own_engine
    gc.collect()
    figures: dict[str, float] = {}

    def rest() -> float:
        return sum(pss(pid) for pid in below(engine.pid))

    figures["engine, fresh"] = rest()
    engine.docker("run", "-d", "--name", "m0", "busybox", "sleep", "1000")
    until(lambda: max(map(pss, monitors(engine))) <= MONITOR_LIMIT, "the only monitor is small", 10)
    figures["monitor, 1"] = max(map(pss, monitors(engine)))
    for number in range(1, 20):
        engine.docker("run", "-d", "--name", f"m{number}", "busybox", "sleep", "1000")
    until(lambda: max(map(pss, monitors(engine))) <= MONITOR_LIMIT, "all 20 monitors are small", 10)
    figures["monitor, 20 (largest)"] = max(map(pss, monitors(engine)))
    figures["monitor, 20 (mean)"] = sum(map(pss, monitors(engine))) / 20
    figures["engine, 20 running"] = rest()
    engine.docker("rm", "-f", *[f"m{number}" for number in range(20)])
    for _ in range(20):
        engine.docker("run", "--rm", "busybox", "true")
    engine.assert_nothing_runs()
    figures["engine, after 20 runs"] = rest()
    print("\n" + "\n".join(f"{name}: {value:.2f} MB" for name, value in figures.items()))
    for name, value in figures.items():
        assert value <= (ENGINE_LIMIT if name.startswith("engine") else MONITOR_LIMIT), figures

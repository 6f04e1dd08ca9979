"""Many containers at once: started, listed in linear time, stopped; nothing is left. `WHERRY_MANY=200`: the full."""

import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.harness import EngineProcess, children, until

pytestmark = pytest.mark.root

MANY = int(os.environ.get("WHERRY_MANY", "60"))


def timed_ps(engine: EngineProcess) -> float:
    """Seconds that `ps -a` takes inside wherryd and over its socket, the median of several."""
    taken = []
    for _ in range(7):
        began = time.monotonic()
        subprocess.run(
            ["curl", "-sf", "--unix-socket", engine.roots.socket, "http://x/v1.43/containers/json?all=1"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def test_many_containers(own_engine: EngineProcess) -> None:
    """Started eight at a time, listed, stopped and removed: nothing is left."""
    engine = own_engine
    steps = [MANY // 4, MANY // 2, MANY]
    listing: dict[int, float] = {}
    began = time.monotonic()

    def run(number: int) -> None:
        engine.docker("run", "-d", "--name", f"many-{number}", "busybox", "sleep", "10000")

    with ThreadPoolExecutor(8) as pool:
        done = 0
        for step in steps:
            list(pool.map(run, range(done, step)))
            done = step
            listing[step] = timed_ps(engine)
    started = time.monotonic()
    assert len(engine.docker("ps", "-q").out.split()) == MANY
    addresses = engine.docker(
        "inspect", "-f", "{{.NetworkSettings.IPAddress}}", *[f"many-{number}" for number in range(MANY)]
    ).out.split()
    assert len(set(addresses)) == MANY
    assert len(engine.links()) == MANY
    listed = time.monotonic()
    engine.kill()
    engine.start()
    adopted = time.monotonic()
    assert len(engine.docker("ps", "-q").out.split()) == MANY
    names = [f"many-{number}" for number in range(MANY)]
    engine.run("docker", "stop", "-t", "0", *names, seconds=300)
    stopped = time.monotonic()
    engine.run("docker", "rm", *names, seconds=300)
    engine.assert_nothing_runs()
    removed = time.monotonic()
    print(
        f"\n{MANY} containers: started in {started - began:.1f} s, adopted in {adopted - listed:.1f} s, "
        f"stopped in {stopped - adopted:.1f} s, removed in {removed - stopped:.1f} s; ps takes "
        + ", ".join(f"{1000 * value:.1f} ms with {count}" for count, value in listing.items())
    )
    # linear, with room for what is constant and for a machine that does other things too
    assert listing[MANY] < 2.5 * 2 * listing[MANY // 2] + 0.01
    assert not os.listdir(engine.roots.containers)
    until(lambda: not os.listdir(engine.roots.trash), "the trash is emptied", 60)
    until(lambda: len(children(engine.pid)) == 1, "wherryd has one child")
    engine.assert_no_traceback()

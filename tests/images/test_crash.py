"""`kill -9` in the middle of a load, at any moment: the next start has a whole store."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.images import image_archives as make
from tests.images.conftest import Store

pytestmark = pytest.mark.root

REPOSITORY = str(Path(__file__).parents[2])


def archive(path: Path) -> str:
    """An archive with several layers of several files; returns the id of its image."""
    layers = [
        make.tar({f"layer{number}/{name}": os.urandom(20_000) for name in range(60)} | {"x": b"y"})
        for number in range(4)
    ]
    raw = make.config(layers)
    path.write_bytes(make.tar(make.docker20([(raw, layers, ["app:latest"])])))
    return make.sha(raw)


def run_and_kill(root: str, path: Path, delay: float) -> bool:
    """Start a load, kill it `delay` seconds after it began; returns whether it had reported success before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.images.loader", root, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + delay
        said = b""
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([process.stdout], [], [], left)
            if readable:
                said = process.stdout.readline()
                break
        if not said and select.select([process.stdout], [], [], 0)[0]:
            said = process.stdout.readline()
        return said == b"done\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdin.close()
        process.stdout.close()


@pytest.mark.slow
def test_kill(store: Store, tmp_path: Path) -> None:
    """Ten loads are killed at moments spread over their time; what was reported is there, and nothing half is."""
    path = tmp_path / "app.tar"
    id_ = archive(path)
    other = make.config([])
    store.load(make.tar(make.docker20([(other, [], ["kept:latest"])])))
    random.seed(7)
    reported = interrupted = 0
    for turn in range(10):
        store.close()
        done = run_and_kill(store.roots.data, path, 0.02 * turn + random.random() * 0.02)
        store.open()
        store.run(store.images.recover())
        assert os.listdir(store.roots.ingest) == []
        if done:
            reported += 1
            assert store.names() == ["app:latest", "kept:latest"]
        interrupted += not done
        store.run(store.images.collect())
        store.check()
        if "app:latest" in store.names():
            assert store.images.resolve("app").id == id_
            store.remove("app")
            store.check()
    assert interrupted
    store.load(path.read_bytes())
    assert store.names() == ["app:latest", "kept:latest"]
    store.check()

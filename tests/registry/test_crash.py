"""SIGKILL and a full device at every step of an upload, a mount, a manifest put, a deletion and a collection."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there is one: what is tested is the order of steps, and fsync(2) costs most of it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.mark.parametrize("how", ["kill", "full"])
@pytest.mark.parametrize("scenario", ["upload", "mount", "put", "delete", "collect"])
def test_line_g_cut_off_at_every_step(quick: Path, scenario: str, how: str) -> None:
    """Whatever step it is cut off at, nothing reachable is lost, nothing is half visible, and it can be done again."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.crash_run", scenario, how, str(quick)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    if how == "kill":
        assert steps >= {"upload": 15, "mount": 3, "put": 15, "delete": 6, "collect": 6}[scenario]

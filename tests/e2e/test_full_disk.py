"""A disk that is full while containers start, run and end: clear errors, nothing left over, no exit code lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running, until
from wherry.paths import Roots

pytestmark = pytest.mark.root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[EngineProcess]:
    """Give an engine whose data root is a file system of 64 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    engine = EngineProcess()
    engine.roots = Roots(str(disk / "data"), engine.roots.run)
    try:
        with running(engine):
            try:
                yield engine
            finally:
                (disk / "filler").unlink(missing_ok=True)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(engine: EngineProcess) -> Path:
    """Take all room of the disk; returns the file that has it."""
    filler = Path(engine.roots.data).parent / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)
    return filler


def test_a_full_disk(small: EngineProcess) -> None:
    """What cannot be made is refused and leaves nothing; what runs goes on, ends, and its code is known, also later."""
    engine = small
    engine.docker(
        "run",
        "-d",
        "--name",
        "up1",
        "busybox",
        "sh",
        "-c",
        "while [ ! -e /dev/shm/go ]; do echo line; sleep 0.1; done; exit 7",
    )
    engine.docker("create", "--name", "cr1", "-v", "/etc/hostname:/x", "busybox", "true")
    filler = fill(engine)
    refused = engine.docker("run", "--name", "no1", "busybox", "true", check=False)
    assert refused.code == 125
    assert "no space left on device" in refused.err.lower()
    assert engine.docker("ps", "-aq", "--filter", "name=no1").out == ""
    started = engine.docker("start", "cr1", check=False)
    assert started.code == 0 or "no space left" in started.err.lower()
    engine.docker("exec", "up1", "touch", "/dev/shm/go")
    assert engine.docker("wait", "up1").out == "7\n"
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "up1").out == "7\n"
    filler.unlink()
    engine.docker("run", "--rm", "--name", "no1", "busybox", "true")
    engine.docker("start", "-a", "cr1")
    engine.docker("rm", "up1", "cr1")
    until(lambda: not engine.cgroups(), "nothing runs")
    engine.assert_no_traceback()

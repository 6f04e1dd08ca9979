"""`system check` of an engine: layers that were changed on the disk, under containers and in the build cache."""

import os
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def layers(engine: EngineProcess) -> set[Path]:
    """The trees of all layers."""
    return {path / "fs" for path in Path(engine.roots.snapshots).iterdir() if path.name != "empty"}


def flip(path: Path) -> None:
    """Change a byte of a file, and neither its length nor its time."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_changed_layers(own_engine: EngineProcess, tmp_path: Path) -> None:
    """Each is named with what differs and mended, but under a container that runs; confined workers look at it."""
    engine = own_engine
    (base,) = layers(engine)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo step > /step && ln -s step /link && mkfifo /pipe\n")
    engine.run("docker", "build", "-q", str(tmp_path), env={"DOCKER_BUILDKIT": "0"})
    (step,) = layers(engine) - {base}
    engine.docker("image", "prune", "-f")
    assert "1 images, 4 blobs, 2 layers: all whole" in engine.wherry("system", "check").out
    assert engine.wherry("system", "check", "-q").out == ""

    flip(base / "bin/busybox")
    os.chmod(step / "step", 0o666)
    (step / "added").touch()
    found = engine.wherry("system", "check", code=1).out
    assert f"snapshot sha256:{base.parent.name} (of busybox:latest): corrupt: the content of '" in found
    assert f"snapshot sha256:{step.parent.name} (of the build cache): corrupt: the permissions of 'step'" in found
    mended = engine.wherry("system", "check", "--repair").out
    assert mended.count("unpacked again from its blob") == 2
    assert "all whole" in engine.wherry("system", "check").out
    assert sorted(os.listdir(step)) == ["link", "pipe", "step"]
    until(lambda: not os.listdir(engine.roots.ingest), "nothing of it is left")

    engine.docker("run", "-d", "--name", "cc", "busybox", "sleep", "1000")
    os.chmod(base / "bin", 0o700)
    busy = engine.wherry("system", "check", "--repair", code=1).out
    assert "not mended: something runs on it" in busy
    engine.docker("stop", "-t", "0", "cc")
    assert "1 mended" in engine.wherry("system", "check", "--repair").out
    engine.docker("start", "cc")
    assert engine.docker("exec", "cc", "stat", "-c", "%a", "/bin").out == "755\n"
    engine.docker("stop", "-t", "0", "cc")

    engine.docker("builder", "prune", "-af")
    engine.docker("rmi", "-f", "busybox")
    assert "0 images, 0 blobs, 1 layers: all whole" in engine.wherry("system", "check").out
    os.chown(base / "bin/busybox", 1, 1)
    lost = engine.wherry("system", "check", "--repair", code=1).out
    assert "(of no image): corrupt: its files are not those that it had" in lost
    engine.docker("rm", "cc")
    assert "0 layers: all whole" in engine.wherry("system", "check").out
    engine.assert_no_traceback()

"""Images that are large in one way or another: many layers, and one layer of any size (WHERRY_BIG_LAYER, in bytes)."""

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.harness import BIN, EngineProcess, children
from tests.images import image_archives as make
from tests.images.test_pull_peer import Peer

pytestmark = pytest.mark.root

SIZE = int(os.environ.get("WHERRY_BIG_LAYER", str(96 << 20)))
LAYERS = 127
MEMORY = 150.0
_BLOCK = random.Random(7).randbytes(1 << 20)  # does not compress, and costs nothing to make again


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Peer]:
    """Debian's registry."""
    made = Peer(tmp_path)
    made.start()
    yield made
    made.kill()


def busybox_layer(engine: EngineProcess) -> bytes:
    """The plain archive of busybox's only layer."""
    saved = subprocess.run(["docker", "save", "busybox"], env=engine.env, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        (path,) = entry["Layers"]
        layer = archive.extractfile(path)
        assert layer is not None
        return layer.read()


def test_127_layers(engine: EngineProcess, registry: Peer) -> None:
    """As many layers as Docker allows load, run, are pushed and pulled, and are all seen."""
    layers = [busybox_layer(engine)]
    layers += [make.tar({f"layers/{number}": b"%d" % number}) for number in range(1, LAYERS)]
    name = f"{registry.name}/many:1"
    config = make.config(layers, config={"Cmd": ["sh"]})
    engine.wherry("load", stdin=make.tar(make.docker20([(config, layers, [name])])))
    words = ["run", "--rm", "--network", "none", name, "sh", "-c", "ls /layers | wc -l; cat /layers/1 /layers/126"]
    assert engine.wherry(*words).out == "126\n1126"
    engine.wherry("push", "-q", name)
    engine.wherry("rmi", name)
    engine.wherry("pull", "-q", name)
    assert engine.docker(*words).out == "126\n1126"
    engine.wherry("rmi", name)


class Memory:
    """The summed PSS of wherryd, the spawner and its children, sampled all the time; `peak` in MB."""

    def __init__(self, engine: EngineProcess) -> None:
        self.peak = 0.0
        self._engine = engine
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(0.05):
            try:
                spawner = self._engine.spawner
                pids = (self._engine.pid, spawner, *children(spawner))
                self.peak = max(self.peak, sum(_pss(pid) for pid in pids))
            except (OSError, IndexError):
                continue  # one of them has just ended

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _pieces(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _layer(first: bytes, size: int) -> Iterator[bytes]:
    """A layer of busybox's files and one large one, piece by piece."""
    yield first
    yield _header("big", size)
    yield from _pieces(size)
    yield bytes(-size % 512 + 1024)


def _load(engine: EngineProcess, name: str, base: bytes, size: int) -> None:
    """Stream the archive of an image of that one layer into `wherry load`."""
    with tarfile.open(fileobj=io.BytesIO(base)) as archive:
        members = archive.getmembers()
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in members)
    length = end + 512 + size + (-size % 512) + 1024
    hashed = hashlib.sha256()
    process = subprocess.Popen([str(BIN / "wherry"), "load", "-q"], env=engine.env, stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as out:
        out.write(_header("layer.tar", length))
        for piece in _layer(base[:end], size):
            hashed.update(piece)
            out.write(piece)
        out.write(bytes(-length % 512))
        diff_id = f"sha256:{hashed.hexdigest()}"
        config = make.config([], config={"Cmd": ["sh"]}, rootfs={"type": "layers", "diff_ids": [diff_id]})
        manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
        out.write(make.tar({"config.json": config, "manifest.json": manifest}))
    assert process.wait(1200) == 0


def test_one_large_layer(engine: EngineProcess, registry: Peer, tmp_path: Path) -> None:
    """A layer of any size loads, runs, is pushed and pulled; memory does not grow with it."""
    name = f"{registry.name}/big:1"
    base = busybox_layer(engine)
    figures = []

    def measured(what: str, *words: str) -> None:
        began = time.monotonic()
        with Memory(engine) as memory:
            if words:
                engine.run(str(BIN / "wherry"), *words, seconds=1200)
            else:
                _load(engine, name, base, SIZE)
        figures.append(f"{what} {time.monotonic() - began:.1f} s, peak {memory.peak:.0f} MB")
        assert memory.peak < MEMORY, figures

    measured("load")
    words = ["run", "--rm", "--network", "none", name, "stat", "-c", "%s", "/big"]
    assert engine.wherry(*words).out == f"{SIZE}\n"
    measured("push", "push", "-q", name)
    engine.wherry("rmi", name)
    measured("pull", "pull", "-q", name)
    assert engine.wherry(*words).out == f"{SIZE}\n"
    last = hashlib.sha256(_BLOCK[: SIZE % len(_BLOCK) or len(_BLOCK)]).hexdigest()
    done = engine.wherry(
        *("run", "--rm", "--network", "none", name, "sh", "-c"),
        f"tail -c {SIZE % len(_BLOCK) or len(_BLOCK)} /big | sha256sum",
    )
    assert done.out.split()[0] == last
    engine.wherry("rmi", name)
    print(f"{SIZE} bytes: {'; '.join(figures)}")

"""`make bench`: load, pull, push and save of a five-layer image, against the newest dockerd in the same run.

`reload` and `repull` are load and pull of an image that has been removed just before: ext4 takes no inode that was
freed within the last seconds, and looks for others meanwhile.

The image is Debian's (about 8,700 files, 170 MB), the registry Debian's docker-registry on loopback. Each figure is the
wall time of a whole docker command, the same binary for both engines, in interleaved pairs. Memory is the summed PSS of
wherryd, the spawner and its workers, sampled while they work.

Each command begins on a disk without anything to be written (`sync`): wherryd has all on disk when it reports success,
dockerd has not, and must not leave its part to the other's figure.
"""

import hashlib
import io
import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Self

import peer as peers
from run import Ours, children, docker, in_turn, pss, timed, wherry

PAIRS = int(os.environ.get("WHERRY_BENCH_IMAGE_PAIRS", "5"))
LAYERS = 5
NAME = "bench/five:1"


class DockerRegistry:
    """Debian's docker-registry on a loopback port."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.name = f"127.0.0.1:{probe.getsockname()[1]}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, empty: bool = False) -> None:
        """Execute it and wait until it listens; `empty` forgets what it has."""
        self.stop()
        if empty:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "data")}},
            "http": {"addr": self.name, "secret": "bench"},
        }
        path = self._directory / "config.yml"
        path.write_text(json.dumps(config))
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        host, _, port = self.name.partition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                select.select([], [], [], 0.02)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


class Memory:
    """Samples the summed PSS of an engine's processes. A context manager; `peak` is in MB."""

    def __init__(self, ours: Ours) -> None:
        self.peak = 0.0
        self._pid = ours.pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._end.wait(0.03):
            total = 0.0
            try:
                spawner = children(self._pid)[0]
                for pid in (self._pid, spawner, *children(spawner)):
                    total += pss(pid)
            except (OSError, IndexError):
                continue  # one of them has just ended
            self.peak = max(self.peak, total)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def make_image(ours: Ours, path: Path) -> tuple[int, int]:
    """Write the archive of an image whose layers are a fifth of Debian's files each; returns files and bytes."""
    wherry(ours, "image", "bootstrap", "debian:bookworm")
    plain = ours.directory / "debian.tar"
    docker(ours.host, "save", "-o", str(plain), "debian:bookworm")
    docker(ours.host, "rmi", "debian:bookworm")
    with tarfile.open(plain) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json") or io.BytesIO(b"[]"))
        source = archive.extractfile(entry["Layers"][0])
        assert source is not None
        files, size, layers = _split(source)
    plain.unlink()
    diff_ids = ["sha256:" + hashlib.sha256(layer.getbuffer()).hexdigest() for layer in layers]
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    paths = [f"{digest[7:]}/layer.tar" for digest in diff_ids]
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": paths}]).encode()
    with tarfile.open(path, "w") as out:
        for member, data in ((name, config), ("manifest.json", manifest)):
            _add(out, member, io.BytesIO(data), len(data))
        for member, layer in zip(paths, layers, strict=True):
            _add(out, member, layer, layer.getbuffer().nbytes)
    return files, size


def _split(source: IO[bytes]) -> tuple[int, int, list[io.BytesIO]]:
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(fileobj=source, mode="r|*") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isfile() else None
            entries.append((info, file.read() if file else b""))
    size = sum(len(data) for _, data in entries)
    contents = {info.name: data for info, data in entries}
    layers: list[io.BytesIO] = []
    done, place = 0, 0
    for number in range(LAYERS):
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            # a fifth of the bytes each, in the archive's order
            while place < len(entries) and (done < size * (number + 1) / LAYERS or number == LAYERS - 1):
                info, data = entries[place]
                if info.islnk():  # its target may be in another layer
                    info.type, data = tarfile.REGTYPE, contents[info.linkname]
                    info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                done += len(data)
                place += 1
        layer.seek(0)
        layers.append(layer)
    return len(entries), size, layers


def _add(out: tarfile.TarFile, name: str, data: io.BytesIO, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    out.addfile(info, data)


class Bench:
    """What is measured, one method each; every one leaves things as it found them."""

    def __init__(self, ours: Ours, theirs: "peers.Peer | None", archive: Path, registry: DockerRegistry) -> None:
        self.ours = ours
        self.hosts = [ours.host, *([theirs.host] if theirs else [])]
        self.archive = archive
        self.registry = registry
        self.remote = f"{registry.name}/{NAME}"

    def load(self, host: str) -> float:
        """`docker load`."""
        os.sync()
        took = timed(host, ["load", "-q", "-i", str(self.archive)])
        docker(host, "rmi", NAME)
        return took

    def load_again(self, host: str) -> float:
        """`docker load` of an image that has just been removed: the disk still has its files to delete."""
        docker(host, "load", "-q", "-i", str(self.archive))
        os.sync()
        docker(host, "rmi", NAME)
        took = timed(host, ["load", "-q", "-i", str(self.archive)])
        docker(host, "rmi", NAME)
        return took

    def pull_again(self, host: str) -> float:
        """`docker pull` of an image that has just been removed."""
        docker(host, "pull", "-q", self.remote)
        os.sync()
        docker(host, "rmi", self.remote)
        took = timed(host, ["pull", "-q", self.remote])
        docker(host, "rmi", self.remote)
        return took

    def save(self, host: str) -> float:
        """`docker save`, to a file."""
        out = self.archive.with_suffix(".saved")
        os.sync()
        took = timed(host, ["save", "-o", str(out), NAME])
        out.unlink()
        return took

    def push(self, host: str) -> float:
        """`docker push`, to a registry that has nothing."""
        self.registry.start(empty=True)
        os.sync()
        return timed(host, ["push", "-q", self.remote])

    def pull(self, host: str) -> float:
        """`docker pull`, of an image whose layers are not here."""
        os.sync()
        took = timed(host, ["pull", "-q", self.remote])
        docker(host, "rmi", self.remote)
        return took

    def compare(self, name: str, one: Callable[[str], float], goal: float) -> None:
        """Measure on both in turn, and print a row."""
        measures = [partial(one, host) for host in self.hosts]
        for measure in measures:
            measure()
        with Memory(self.ours) as memory:
            figures = [[took / 1000 for took in values] for values in in_turn(measures, PAIRS)]
        row = f"{name:8}" + "".join(f"{statistics.median(v):7.2f} s ({min(v):.2f}-{max(v):.2f})" for v in figures)
        if len(figures) == 2:
            ratio = statistics.median(a / b for a, b in zip(*figures, strict=True))
            row += f"   ratio {ratio:5.2f} (goal {goal})"
        print(f"{row}   peak PSS {memory.peak:5.1f} MB (goal 150)", flush=True)

    def run(self, only: list[str]) -> None:
        """Measure what is named, or everything."""
        wanted = only or ["load", "reload", "save", "push", "pull", "repull"]
        if "load" in wanted:
            self.compare("load", self.load, 0.3)
        if "reload" in wanted:
            self.compare("reload", self.load_again, 0.3)
        for host in self.hosts:
            docker(host, "load", "-q", "-i", str(self.archive))
            docker(host, "tag", NAME, self.remote)
        if "save" in wanted:
            self.compare("save", self.save, 0.8)
        if "push" in wanted:
            self.compare("push", self.push, 0.8)
        self.registry.start(empty=True)
        docker(self.hosts[-1], "push", "-q", self.remote)
        for host in self.hosts:
            docker(host, "rmi", "-f", NAME, self.remote)
        if "pull" in wanted:
            self.compare("pull", self.pull, 0.4)
        if "repull" in wanted:
            self.compare("repull", self.pull_again, 0.3)


def main(only: list[str]) -> int:
    """Run the benchmark; the exit code says whether it could be run, not whether goals were met."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends in any case
    ours = Ours()
    theirs: peers.Peer | None = None
    registry = DockerRegistry(ours.directory / "registry")
    try:
        ours.start()
        archive = ours.directory / "five.tar"
        began = time.perf_counter()
        files, size = make_image(ours, archive)
        print(f"{files} files, {size / 1e6:.0f} MB in {LAYERS} layers, made in {time.perf_counter() - began:.0f} s")
        theirs = None if os.environ.get("WHERRY_BENCH_ALONE") else peers.newest(ours.directory / "peer")
        if theirs is not None:
            theirs.start()
            print(f"{PAIRS} pairs, median (min-max): wherryd, then dockerd {theirs.version()}", flush=True)
        registry.start(empty=True)
        Bench(ours, theirs, archive, registry).run(only)
    finally:
        registry.stop()
        for one in (*([theirs.stop] if theirs is not None else []), ours.stop):
            one()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

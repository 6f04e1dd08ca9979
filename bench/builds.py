"""`make bench`: builds, against the newest dockerd in the same run.

Six steps without and with cache in interleaved pairs: the docker command's classic builder on both engines, and here
against BuildKit there, which is what a user of dockerd gets. Then a context of 10,000 files and 500 MB, of which one
file changes between two builds: `wherry build` against `docker build` with BuildKit; both send that file alone.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peer as peers
from peer import plugins
from run import HERE, Ours, docker, in_turn, spread, timed, wherry

PAIRS = int(os.environ.get("WHERRY_BENCH_BUILD_PAIRS", "10"))
FILES = int(os.environ.get("WHERRY_BENCH_BUILD_FILES", "10000"))
SIZE = 50_000
SIX = """FROM busybox
WORKDIR /app
COPY hello .
RUN cat hello > /first
RUN echo second > /second
CMD ["cat", "/first"]
"""
CLASSIC = {"DOCKER_BUILDKIT": "0"}


def row(name: str, ours: list[float], theirs: list[float], goal: float) -> None:
    """Print medians, ranges and the median of the pairs' ratios."""
    if not theirs:
        print(f"{name:34} {spread(ours):>26}", flush=True)
        return
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{name:34} {spread(ours):>26} {spread(theirs):>28}   {ratio:5.2f} (goal {goal})", flush=True)


def pairs(name: str, ours: Callable[[], float], theirs: Callable[[], float] | None, goal: float, count: int) -> None:
    """Measure in turn, after one of each that does not count."""
    measures = [ours, *([theirs] if theirs is not None else [])]
    for measure in measures:
        measure()
    mine, *other = in_turn(measures, count)
    row(name, mine, other[0] if other else [], goal)


def buildkit(directory: Path) -> dict[str, str]:
    """The environment of a docker command that has its buildx plugin, as Debian's packages give it."""
    config = directory / "buildx-config"
    config.mkdir()
    plugins(config, "buildx")
    return {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(config)}


def six(directory: Path, ours: Ours, theirs: "peers.Peer | None", modern: dict[str, str]) -> None:
    """The six steps."""
    directory.mkdir()
    (directory / "Dockerfile").write_text(SIX)
    (directory / "hello").write_text("hello")

    def build(host: str, env: dict[str, str], flags: tuple[str, ...]) -> Callable[[], float]:
        return lambda: timed(host, ["build", "-q", *flags, str(directory)], env)

    for against, env in (("classic", CLASSIC), ("BuildKit", modern)):
        for name, flags, goal in (
            (f"6 steps, --no-cache ({against})", ("--no-cache",), 0.5),
            ("same, cached", (), 1.0),
        ):
            other = build(theirs.host, env, flags) if theirs is not None else None
            pairs(name, build(ours.host, CLASSIC, flags), other, goal, PAIRS)


def large(directory: Path, ours: Ours, theirs: "peers.Peer | None", modern: dict[str, str]) -> None:
    """One changed file of many."""
    print(f"writing a context of {FILES} files, {FILES * SIZE / 1e6:.0f} MB", flush=True)
    for number in range(FILES):
        path = directory / f"d{number % 100:02}" / f"f{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(SIZE))
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY . /context\n")
    changed = directory / "d00" / "f00000"

    def change() -> None:
        changed.write_bytes(os.urandom(SIZE))
        os.sync()

    def mine() -> float:
        change()
        env = {**os.environ, "WHERRY_HOST": ours.host}
        began = time.perf_counter()
        done = subprocess.run(
            [str(HERE / ".venv/bin/wherry"), "build", "--progress=plain", str(directory)],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        took = (time.perf_counter() - began) * 1000
        sent.append(next(line for line in done.stderr.splitlines() if "transferring context" in line).split()[-1])
        return took

    def others() -> float:
        change()
        assert theirs is not None
        return timed(theirs.host, ["build", "-q", str(directory)], modern)

    sent: list[str] = []
    pairs(f"{FILES} files, one changed", mine, others if theirs is not None else None, 0.5, 3)
    print(f"sent by wherry build: first {sent[0]}, then {', '.join(sent[1:])}")


def main(only: list[str]) -> int:
    """Run the benchmark; the exit code says whether it could be run, not whether goals were met."""
    ours = Ours()
    theirs: peers.Peer | None = None
    try:
        ours.start()
        wherry(ours, "image", "bootstrap", "busybox")
        theirs = None if os.environ.get("WHERRY_BENCH_ALONE") else peers.newest(ours.directory / "peer")
        if theirs is not None:
            theirs.start()
            archive = ours.directory / "busybox.tar"
            docker(ours.host, "save", "-o", str(archive), "busybox")
            docker(theirs.host, "load", "-i", str(archive))
        modern = buildkit(ours.directory)
        head = f"dockerd {theirs.version()}" if theirs else ""
        print(f"\nmilliseconds: median (min-max)\n{'':34} {'wherryd':>26} {head:>28}   ratio of pairs", flush=True)
        if not only or "six" in only:
            six(ours.directory / "six", ours, theirs, modern)
        if not only or "large" in only:
            large(ours.directory / "large", ours, theirs, modern)
    finally:
        for one in (*([theirs.stop] if theirs is not None else []), ours.stop):
            one()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

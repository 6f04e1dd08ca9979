"""The suite's dockerd (`tests.peers`) as a subprocess, to compare with: everything of it lies in one directory."""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import peers
from tests.e2e.harness import until

ALONE = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")


class Dockerd:
    """A dockerd that answers.

    Args:
        base: where all of it lies.
        flags: further flags; `ALONE` is one without network.
        enter: the words that execute it, where it is to run in another namespace.
        shared: directories of this machine that it sees beside its own and the one for temporary files.

    Attributes:
        socket: the path of its socket; `host` the same for `DOCKER_HOST`.
    """

    def __init__(self, base: Path, *flags: str, enter: tuple[str, ...] = (), shared: Iterable[Path] = ()) -> None:
        self.base = base
        self.socket = f"{base}/docker.sock"
        self.host = f"unix://{self.socket}"
        self.log = base / "dockerd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                peers.inside(
                    *("dockerd", f"--data-root={base}/data", f"--exec-root={base}/x", f"--host={self.host}"),
                    *(f"--pidfile={base}/d.pid", *flags),
                    shared=(base, *shared),
                    enter=enter,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(self._answers, "dockerd answers", 60)
        except BaseException:
            self.end()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        asked = [peers.docker(), "-H", self.host, "version"]
        return subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0

    def docker(self, *words: str, stdin: bytes | None = None) -> bytes:
        """What the docker command prints; it must succeed."""
        asked = [peers.docker(), "-H", self.host, *words]
        done = subprocess.run(asked, input=stdin, check=False, capture_output=True, timeout=120)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def end(self) -> None:
        """End it; its mounts go with its namespace."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def dockerd(base: Path, *flags: str, enter: tuple[str, ...] = (), shared: Iterable[Path] = ()) -> Iterator[Dockerd]:
    """Run a dockerd for as long as the block lasts."""
    process = Dockerd(base, *flags, enter=enter, shared=shared)
    try:
        yield process
    finally:
        process.end()

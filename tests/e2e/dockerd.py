"""The machine's own dockerd as a subprocess, to compare with: everything of it lies in one directory."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ALONE = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")


def available() -> bool:
    """Whether this machine has a dockerd and the docker command, and the rights to run one."""
    return os.geteuid() == 0 and bool(shutil.which("dockerd", path=_PATH) and shutil.which("docker"))


class Dockerd:
    """A dockerd that answers.

    Args:
        base: where all of it lies.
        flags: further flags; `ALONE` is one without network.
        enter: the words that execute it, where it is to run in another namespace.

    Attributes:
        socket: the path of its socket; `host` the same for `DOCKER_HOST`.
    """

    def __init__(self, base: Path, *flags: str, enter: tuple[str, ...] = ()) -> None:
        self.base = base
        self.socket = f"{base}/docker.sock"
        self.host = f"unix://{self.socket}"
        self.log = base / "dockerd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*enter, "dockerd", f"--data-root={base}/data", f"--exec-root={base}/x", f"--host={self.host}"),
                    *(f"--pidfile={base}/d.pid", *flags),
                ],
                env={**os.environ, "PATH": _PATH},
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
        asked = ["docker", "-H", self.host, "version"]
        return subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0

    def docker(self, *words: str, stdin: bytes | None = None) -> bytes:
        """What the docker command prints; it must succeed."""
        asked = ["docker", "-H", self.host, *words]
        return subprocess.run(asked, input=stdin, check=True, capture_output=True, timeout=120).stdout

    def end(self) -> None:
        """End it, and take away the mounts that it leaves behind."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            point = line.split()[4]
            if point.startswith(f"{self.base}/"):
                subprocess.run(["umount", "-l", point], check=False)


@contextmanager
def dockerd(base: Path, *flags: str, enter: tuple[str, ...] = ()) -> Iterator[Dockerd]:
    """Run the machine's dockerd for as long as the block lasts."""
    process = Dockerd(base, *flags, enter=enter)
    try:
        yield process
    finally:
        process.end()

"""A Docker engine to compare with: the suite's dockerd, in a directory of its own, with one small image."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dockerd import ALONE, Dockerd

ROOT = Path(__file__).resolve().parents[2]


# dockerd warns at each `run` of a host that does not forward, which a machine does not before an engine told it to
_FORWARDING = ("unshare", "-n", "sh", "-c", 'echo 1 >/proc/sys/net/ipv4/ip_forward; exec "$@"', "sh")


class Docker(Dockerd):
    """A running dockerd without network, in a network namespace of its own that forwards.

    Attributes:
        directory: where it lies, with the files that command lines name.
        env: the environment in which `docker` and `wherry` talk to it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, *ALONE, enter=_FORWARDING)
        self.directory = directory
        self.env = {
            **os.environ,
            "PATH": f"{ROOT}/scripts:{os.environ['PATH']}",
            "DOCKER_HOST": self.host,
            "WHERRY_HOST": self.host,
            "DOCKER_CONFIG": str(directory / "config"),
            "TZ": "UTC",
        }
        self.env.pop("DOCKER_CONTEXT", None)

    def run(self, *command: str, stdin: bytes = b"", timeout: float = 60) -> "subprocess.CompletedProcess[bytes]":
        """Run a command against it."""
        return subprocess.run(command, env=self.env, input=stdin, capture_output=True, timeout=timeout, check=False)

    def stop(self) -> None:
        """Remove its containers, end it, and wait until it is gone."""
        ids = self.run("docker", "ps", "-aq").stdout.decode().split()
        if ids:
            self.run("docker", "rm", "-f", *ids)
        self.end()


def busybox_archive() -> bytes:
    """A root file system of busybox and its links, as a tar archive."""
    found = shutil.which("busybox")
    assert found, "busybox is missing: make install"
    applets = subprocess.run([found, "--list"], capture_output=True, check=True).stdout.decode().split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory in ("bin", "tmp", "etc", "root"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        program = Path(found).read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(passwd)
        tar.addfile(entry, io.BytesIO(passwd))
        for applet in applets:
            if applet == "busybox":
                continue
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A dockerd with the image `busybox`."""
    directory = Path(tempfile.mkdtemp(prefix="wherry-docker-"))
    engine = None
    try:
        engine = Docker(directory)
        archive = busybox_archive()
        (directory / "busybox.tar").write_bytes(archive)
        done = engine.run("docker", "import", "-c", 'CMD ["sh"]', "-", "busybox", stdin=archive)
        assert done.returncode == 0, done.stderr
        yield engine
    finally:
        if engine is not None:
            engine.stop()
        shutil.rmtree(directory, ignore_errors=True)

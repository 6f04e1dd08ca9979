"""Engines for the builder's tests, and contexts to build."""

import io
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import engine, own_engine, shared_engine
from tests.e2e.harness import Done, EngineProcess
from tests.e2e.shared import lent

__all__ = ["engine", "own_engine", "shared_engine"]

CLASSIC = {"DOCKER_BUILDKIT": "0"}


class Context:
    """A build context on disk.

    Args:
        directory: an empty directory.
        engine: who builds it.
    """

    def __init__(self, directory: Path, engine: EngineProcess) -> None:
        self.directory = directory
        self.engine = engine

    def write(self, path: str, content: str | bytes = "", mode: int | None = None) -> Path:
        """Write a file of the context, unless it is so already."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        if not target.exists() or target.read_bytes() != data:
            target.write_bytes(data)
        if mode is not None:
            target.chmod(mode)
        return target

    def docker(self, dockerfile: str, *flags: str, code: int | None = 0) -> Done:
        """Build with the docker command's classic builder."""
        self.write("Dockerfile", dockerfile)
        argv = ("docker", "build", *flags, str(self.directory))
        return self.engine.run(*argv, code=code, env=CLASSIC)

    def run(self, image: str, *argv: str) -> str:
        """What a program of the image prints."""
        return self.engine.docker("run", "--rm", "--network", "none", image, *argv).out


@pytest.fixture
def context(tmp_path: Path, engine: EngineProcess) -> Iterator[Context]:
    """Give an empty context for the shared engine; the images it made are removed."""
    before = set(engine.docker("images", "-aq", "--no-trunc").out.split())
    (tmp_path / "context").mkdir()
    yield Context(tmp_path / "context", engine)
    made = set(engine.docker("images", "-aq", "--no-trunc").out.split()) - before
    if made:
        engine.docker("rmi", "-f", *made, check=False)


class Second(EngineProcess):
    """An engine that is reached by TCP too, as from another machine."""

    def __init__(self) -> None:
        super().__init__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.tcp = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.flags = ("-H", self.host, "-H", self.tcp, "--insecure-plain-tcp")


@pytest.fixture(scope="session")
def second_engine() -> Iterator[Second]:
    """Another engine, on a TCP port too (`second.tcp`)."""
    engine = Second()
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        yield engine
    finally:
        engine.destroy()
    engine.assert_clean()


@pytest.fixture
def second(second_engine: Second) -> Iterator[Second]:
    """That engine; what the test made is removed after it."""
    with lent(second_engine):
        yield second_engine


@pytest.fixture
def other(second: Second, context: Context) -> Context:
    """The same context for an engine that has nothing but busybox."""
    second.docker("builder", "prune", "-af")
    return Context(context.directory, second)


def tar_of(files: dict[str, bytes]) -> bytes:
    """An archive of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()

"""A real engine for the tests of data: shared where a test leaves it as it found it, its own where it is killed."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent

APPLETS = "cat chown find id ln ls mkdir mount mv rm sh sleep stat test touch true".split()

Shape = dict[str, "bytes | tuple[str, str] | None"]


@pytest.fixture(scope="session")
def volumes_engine() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(volumes_engine: EngineProcess) -> Iterator[EngineProcess]:
    """Give the shared engine; what the test made is removed after it."""
    with lent(volumes_engine) as engine:
        yield engine


@pytest.fixture
def own_engine() -> Iterator[EngineProcess]:
    """Give an engine of the test's own, with busybox in it, that may be killed and restarted."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def image(engine: EngineProcess) -> "Iterator[Callable[..., str]]":
    """Give a function that makes an image: busybox, and files that a test names."""
    made: list[str] = []

    def make(entries: Shape, *changes: str, owner: int = 0) -> str:
        name = f"made{len(made)}"
        archive = layer(entries, owner)
        words = [word for change in changes for word in ("-c", change)]
        engine.run("docker", "import", *words, "-", name, stdin=archive)
        made.append(name)
        return name

    yield make
    for name in made:
        engine.docker("rmi", "-f", name, check=False)


def layer(entries: Shape, owner: int = 0) -> bytes:
    """A tar archive: bytes are a file, None a directory, (kind, target) a link; with busybox's program in it."""
    program = shutil.which("busybox")
    assert program, "busybox-static is not installed"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(program, "bin/busybox")
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.uid = entry.gid = owner
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o750
                archive.addfile(entry)
            elif isinstance(content, tuple):
                entry.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[content[0]]
                entry.linkname = content[1]
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o640
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def sentinel() -> Iterator[Path]:
    """Give a file of the host that has a name no container knows; it must not change."""
    path = Path("/tmp/wherry-cp-sentinel")
    path.mkdir(exist_ok=True)
    (path / "secret").write_text("untouched")
    before = sorted(os.listdir("/"))
    try:
        yield path
        assert (path / "secret").read_text() == "untouched"
        assert os.listdir(path) == ["secret"]
        assert sorted(os.listdir("/")) == before
    finally:
        shutil.rmtree(path)

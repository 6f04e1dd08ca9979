"""A tree as an archive while somebody changes it."""

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.snapshots.copyout import write_copy
from wherry.snapshots.located import locate


@pytest.fixture
def here() -> Iterator[None]:
    """Give back the working directory, which `write_copy` changes."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    yield
    os.fchdir(before)
    os.close(before)


def _gone(file: Path) -> None:
    file.unlink()


def _a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/passwd")


def _a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("change", [_gone, _a_link, _a_pipe])
def test_what_was_found_is_what_is_written(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A file that was found, and is away or something else before it is read: it is held, and comes whole."""
    (tmp_path / "file").write_bytes(b"content")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = locate(root, "/file")
    change(tmp_path / "file")
    with open(tmp_path / "out", "wb") as out:
        write_copy(found, out.fileno())
    with tarfile.open(tmp_path / "out") as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.isreg()) == ("file", True)
        content = archive.extractfile(member)
        assert content is not None and content.read() == b"content"
    os.close(root)
    os.close(found.held)

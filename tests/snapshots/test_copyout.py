"""A tree as an archive while somebody changes it: what is gone by then is said to be, in plain words."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.errors import Conflict
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
def test_what_became_another_is_a_conflict(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A file that was found, and is away or something else when it is opened."""
    (tmp_path / "file").write_bytes(b"content")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = locate(root, "/file")
    change(tmp_path / "file")
    with open(os.devnull, "wb") as out, pytest.raises(Conflict, match=r"^'?file'? changed while it was read$"):
        write_copy(found, out.fileno())
    os.close(root)
    if found.parent >= 0:
        os.close(found.parent)

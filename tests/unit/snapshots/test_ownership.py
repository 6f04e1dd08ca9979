"""Who `user[:group]` is, by the files of a root."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import InvalidArgument
from wherry.snapshots.ownership import look_up


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A root with a user and a group."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nme:x:5:6::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nus:x:9:\n")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "uid", "gid"),
    [
        ("7:8", 7, 8),
        ("7", 7, 7),
        ("7:", 7, 0),
        (":8", 0, 8),
        (":", 0, 0),
        ("me", 5, 6),
        ("me:", 5, 0),
        ("me:us", 5, 9),
        ("7:us", 7, 9),
        (":us", 0, 9),
        ("me:8", 5, 8),
    ],
)
def test_who_it_is(root: int, text: str, uid: int, gid: int) -> None:
    """Numbers are themselves, names are looked up; what is empty beside a colon is 0."""
    found = look_up(root, text)
    assert found is not None
    assert (found.uid, found.gid) == (uid, gid)


@pytest.mark.parametrize("text", ["you", "me:them", f"{2**31}", f"7:{2**32}"])
def test_nobody(root: int, text: str) -> None:
    """Unknown names and impossible numbers are refused; nothing asked for is nobody."""
    assert look_up(root, "") is None
    with pytest.raises(InvalidArgument):
        look_up(root, text)

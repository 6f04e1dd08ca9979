"""Paths that stay inside, and files that are whole or absent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import HostileInput, KernelError
from wherry.linux.files import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    make_directories,
    make_file,
    open_in_root,
    read_regular,
    write_atomic,
)
from wherry.linux.process import is_alive, start_time


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "root"
    path.mkdir()
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    yield path, fd
    os.close(fd)


def test_write_atomic(tmp_path: Path) -> None:
    """The mode is exact, the old content goes, nothing temporary stays."""
    target = tmp_path / "file"
    target.write_text("old")
    old = os.umask(0o77)
    try:
        write_atomic(str(target), b"new", 0o644)
    finally:
        os.umask(old)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["file"]


def test_write_atomic_failure_leaves_the_old(tmp_path: Path) -> None:
    """A target that cannot be replaced keeps what it is, and no temporary file stays."""
    (tmp_path / "file").mkdir()
    (tmp_path / "file/x").touch()
    with pytest.raises(KernelError):
        write_atomic(str(tmp_path / "file"), b"new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("path", ["/a/b", "a/b", "/../../a/b", "a/./b/", "link/b", "/up/a/b"])
def test_directories_are_made_inside(root: tuple[Path, int], path: str) -> None:
    """Absolute, dotted and linked paths end below the root."""
    top, fd = root
    (top / "link").symlink_to("/a")
    (top / "up").symlink_to("../../../..")
    os.close(make_directories(fd, path))
    assert (top / "a/b").is_dir()
    assert sorted(os.listdir(top.parent)) == ["root"]


def test_a_link_that_is_exchanged_meanwhile_is_looked_at_again(
    root: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A racer puts a directory in the place of a link to nothing, between finding and reading it."""
    top, fd = root
    (top / "place").symlink_to("/gone")
    readlink = os.readlink

    def exchanged(path: str, *, dir_fd: int) -> str:
        monkeypatch.setattr(os, "readlink", readlink)
        (top / "place").unlink()
        (top / "place").mkdir()
        return readlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", exchanged)
    before = len(os.listdir("/proc/self/fd"))
    os.close(make_directories(fd, "/place/deep"))
    assert (top / "place/deep").is_dir()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_are_made_inside_and_kept(root: tuple[Path, int], tmp_path: Path) -> None:
    """A file that is there is opened as it is; a link to nothing outside is made inside or refused."""
    top, fd = root
    os.close(make_file(fd, "/etc/hosts"))
    assert (top / "etc/hosts").read_bytes() == b""
    (top / "etc/hosts").write_text("kept")
    os.close(make_file(fd, "etc/hosts"))
    assert (top / "etc/hosts").read_text() == "kept"
    (top / "evil").symlink_to(tmp_path / "outside")
    with pytest.raises(KernelError):
        make_file(fd, "evil")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("path", ["loop", "file/x", "a\0b"])
def test_paths_that_lead_nowhere(root: tuple[Path, int], path: str) -> None:
    """Loops, files in the way and NUL bytes are errors, not hangs."""
    top, fd = root
    (top / "loop").symlink_to("loop")
    (top / "file").touch()
    with pytest.raises(KernelError):
        make_directories(fd, path)


def test_links_can_be_refused(root: tuple[Path, int]) -> None:
    """RESOLVE_NO_SYMLINKS and magic links."""
    top, fd = root
    (top / "link").symlink_to("/")
    with pytest.raises(KernelError):
        open_in_root(fd, "link", os.O_PATH, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    slash = os.open("/", os.O_PATH)
    try:
        with pytest.raises(KernelError):
            open_in_root(slash, f"/proc/self/fd/{fd}/x", os.O_PATH)
    finally:
        os.close(slash)


def test_strangers_files(tmp_path: Path) -> None:
    """Only regular files of a bearable size are read."""
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert read_regular(str(tmp_path / "file"), 10) == b"x" * 10
    with pytest.raises(HostileInput, match="larger than 9"):
        read_regular(str(tmp_path / "file"), 9)
    with pytest.raises(HostileInput, match="not a regular file"):
        read_regular("/dev/zero", 9)


def test_a_pid_with_its_start_time_is_one_process() -> None:
    """A recycled pid is told from the process that had it."""
    now = start_time("self")
    assert is_alive(os.getpid(), now)
    assert not is_alive(os.getpid(), now + 1)
    assert not is_alive(2**22 + 5, None)

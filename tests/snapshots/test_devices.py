"""A regular file that becomes a device between the look at it and its opening, under everything that reads a tree.

A container may make device nodes, and its own device rules keep it from opening them; a reader of ours is not bound by
them. The device here has a number that no driver has: the kernel answers open(2) with ENXIO, so whoever opens it fails.
"""

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.races import race, swapping
from wherry.builder.contexts.context import Tree
from wherry.errors import HostileInput, WherryError
from wherry.linux.files import read_regular
from wherry.snapshots.archive import write_archive
from wherry.snapshots.copying import _Copy
from wherry.snapshots.copyout import write_copy
from wherry.snapshots.copytree import copy_tree
from wherry.snapshots.digesting import DiskContents
from wherry.snapshots.located import Located
from wherry.snapshots.plaintar import write_index
from wherry.snapshots.treeview import IndexView, entry_at

pytestmark = pytest.mark.root

NO_DRIVER = os.makedev(240, 7)  # the first number for local and experimental use (devices.txt)
CONTENT = b"inside"
FILE, DEVICE = "the file", "the device"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    """Give a directory in which `a` and `b` are a file and a device, in turns; the working directory is given back."""
    here = os.open(".", _DIRECTORY)
    top = tmp_path / "tree"
    top.mkdir()
    (top / "a").write_bytes(CONTENT)
    os.mknod(top / "b", stat.S_IFCHR | 0o666, NO_DRIVER)
    with pytest.raises(OSError, match="No such device"):
        (top / "b").open()
    fd = os.open(top, _DIRECTORY)
    try:
        with swapping(top / "a", top / "b"):
            yield fd
    finally:
        os.close(fd)
        os.fchdir(here)
        os.close(here)


def _told(archive: Path) -> Iterator[str]:
    """What an archive has under the name `a`."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.name.removeprefix("./") == "a":
                if member.isreg():
                    content = opened.extractfile(member)
                    assert content is not None
                    assert content.read() == CONTENT
                yield FILE if member.isreg() else DEVICE


def _found(path: Path) -> str:
    if stat.S_ISCHR(path.lstat().st_mode):
        return DEVICE
    assert path.read_bytes() == CONTENT
    return FILE


def _archived(tree: int, out: Path) -> Iterator[str]:
    with out.open("wb") as file:
        write_archive(tree, file.fileno(), whiteouts=False)
    yield from _told(out)


def _copied_out(tree: int, out: Path) -> Iterator[str]:
    with out.open("wb") as file:
        write_copy(Located("/", ".", os.fstat(tree), directory=tree), file.fileno())
    yield from _told(out)


def _copied_over(tree: int, out: Path) -> Iterator[str]:
    out.mkdir()
    target = os.open(out, _DIRECTORY)
    try:
        copy_tree(tree, target)
    finally:
        os.close(target)
    yield _found(out / "a")


def _copied_by_a_build(tree: int, out: Path) -> Iterator[str]:
    out.mkdir()
    target = os.open(out, _DIRECTORY)
    try:
        _Copy(target, tree, {"copy": ["/"], "dest": "/"}, None).run()
    finally:
        os.close(target)
    yield _found(out / "a")


def _digested(tree: int, _out: Path) -> Iterator[str]:
    view = DiskContents(tree)
    entry = view.get("a")
    assert entry is not None
    if entry.kind != "f":
        yield DEVICE
        return
    try:
        assert view.content("a", entry) == sha256(CONTENT).hexdigest()
    except HostileInput:
        return  # a device by then, which was seen without opening it
    yield FILE


def _indexed(tree: int, out: Path) -> Iterator[str]:
    with out.open("w+b") as file:
        try:
            write_index(tree, file.fileno(), {})
        except HostileInput:
            return  # as above
    yield FILE if f'"a","f",{0o644}' in out.read_text() else DEVICE


def _read(tree: int, _out: Path) -> Iterator[str]:
    try:
        assert read_regular("/a", 100, root=tree) == CONTENT
    except HostileInput:
        yield DEVICE
    else:
        yield FILE


def _read_of_a_context(tree: int, _out: Path) -> Iterator[str]:
    entry = entry_at(tree, "a", mine=True)
    assert entry is not None
    entry.kind, entry.size = "f", len(CONTENT)  # as the index said when it was written
    path = os.readlink(f"/proc/self/fd/{tree}")
    try:
        assert Tree(path, IndexView({"a": entry})).read("a", 100) == CONTENT
    except HostileInput:
        yield DEVICE
    else:
        yield FILE


@pytest.mark.parametrize(
    "read",
    [
        _archived,
        _copied_out,
        _copied_over,
        _copied_by_a_build,
        _digested,
        _indexed,
        _read,
        _read_of_a_context,
    ],
)
def test_attack_a_file_becomes_a_device(tree: int, tmp_path: Path, read: Callable[[int, Path], Iterator[str]]) -> None:
    """Both are met, and the device is never opened: commit, export, cp, COPY, its cache key, a context's files."""
    number = 0

    def attempt() -> list[str]:
        nonlocal number
        number += 1
        out = tmp_path / f"out{number}"
        try:
            return list(read(tree, out))
        except (WherryError, OSError) as error:
            raise AssertionError(f"the device was opened: {error}") from error
        finally:
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)

    race(attempt, (FILE, DEVICE), rounds=1000)

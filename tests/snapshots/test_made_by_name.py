"""Links, devices and FIFOs that are made in a directory where somebody exchanges names before they are finished."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.races import race, swapping
from wherry.errors import Conflict
from wherry.snapshots.copytree import copy_tree
from wherry.snapshots.tar import FIFO, SYMLINK, Entry
from wherry.snapshots.tree import Tree

pytestmark = pytest.mark.root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_OWNER = 4242


def _entry(kind: bytes) -> Entry:
    entry = Entry()
    entry.name, entry.type, entry.linkname = b"n", kind, b"target"
    entry.mode, entry.uid, entry.gid, entry.mtime_ns = 0o4777, _OWNER, _OWNER, 1_000_000_000
    entry.xattrs = {b"trusted.note": b"1"}
    return entry


def _fifo(top: int) -> None:
    tree = Tree(top)
    tree.special(b"", b"n", _entry(FIFO))
    tree.finish()


def _link(top: int) -> None:
    tree = Tree(top)
    tree.symlink(b"", b"n", _entry(SYMLINK))
    tree.finish()


def _copied(top: int) -> None:
    source = os.open("../source", _DIRECTORY, dir_fd=top)
    try:
        copy_tree(source, top)
    finally:
        os.close(source)


@pytest.mark.parametrize(
    ("make", "trap"),
    [
        (_fifo, "a link"),
        (_fifo, "another name"),
        (_link, "another name"),
        (_copied, "a link"),
        (_copied, "another name"),
    ],
)
def test_attack_a_name_is_exchanged_before_it_is_finished(
    tmp_path: Path, make: Callable[[int], None], trap: str
) -> None:
    """Owner, mode, time and attributes go to what was made, or the copy is refused; never to another file."""
    victim, shared, source = tmp_path / "victim", tmp_path / "shared", tmp_path / "source"
    victim.write_text("untouched")
    victim.chmod(0o600)
    shared.mkdir()
    source.mkdir()
    os.mkfifo(source / "n")
    os.chown(source / "n", _OWNER, _OWNER)
    os.chmod(source / "n", 0o4777)
    before = os.stat(victim)
    top = os.open(shared, _DIRECTORY)

    def attempt() -> Iterator[str]:
        for name in ("n", "evil"):
            (shared / name).unlink(missing_ok=True)
        if trap == "a link":
            (shared / "evil").symlink_to(victim)
        else:
            os.link(victim, shared / "evil")
        try:
            make(top)
            yield "made"
        except (Conflict, FileNotFoundError, FileExistsError):
            yield "refused"
        now = os.stat(victim)
        fields = ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
        assert [getattr(now, field) for field in fields] == [getattr(before, field) for field in fields]
        assert os.listxattr(victim) == []

    try:
        assert list(attempt()) == ["made"]  # without a racer
        made = os.stat(shared / "n", follow_symlinks=False)
        assert (made.st_uid, made.st_gid) == (_OWNER, _OWNER)
        if stat.S_ISFIFO(made.st_mode):
            assert stat.S_IMODE(made.st_mode) == 0o4777
        with swapping(shared / "n", shared / "evil", gaps=True):
            race(attempt, ("made", "refused"), rounds=300)
    finally:
        os.close(top)

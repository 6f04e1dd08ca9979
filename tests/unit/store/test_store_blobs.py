"""Blobs appear whole and verified, or not at all."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from wherry.errors import DigestMismatch, KernelError, NotFound, StoreCorrupt, Unavailable
from wherry.oci import digest as digests
from wherry.store.atomic import discard, write_atomic
from wherry.store.blobs import Blobs

DATA = b"some content"
DIGEST = digests.of(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty blob store."""
    return Blobs(f"{tmp_path}/blobs", f"{tmp_path}/ingest", f"{tmp_path}/trash")


def test_commit(blobs: Blobs) -> None:
    """A committed blob is visible, read-only, and its ingest is gone."""
    with blobs.ingest() as ingest:
        ingest.write(DATA[:4])
        assert not blobs.exists(DIGEST)
        ingest.write(DATA[4:])
        assert ingest.commit(DIGEST, len(DATA)) == DIGEST
    assert blobs.read(DIGEST, 100) == DATA
    assert blobs.size(DIGEST) == len(DATA)
    assert stat.S_IMODE(os.stat(blobs.path(DIGEST)).st_mode) == 0o444
    assert list(blobs.walk()) == [(DIGEST, len(DATA))]
    assert os.listdir(blobs.ingests) == []


def test_commit_twice(blobs: Blobs) -> None:
    """The same content again is the same blob."""
    blobs.write(DATA)
    inode = os.stat(blobs.path(DIGEST)).st_ino
    with blobs.ingest() as ingest:
        ingest.write(DATA)
        ingest.seal()
        ingest.commit()
    assert os.stat(blobs.path(DIGEST)).st_ino == inode
    assert os.listdir(blobs.ingests) == []


def test_sha512(blobs: Blobs) -> None:
    """A blob may be promised under sha512, also when its ingest was sealed."""
    digest = digests.parse("sha512:" + hashlib.sha512(DATA).hexdigest())
    with blobs.ingest() as ingest:
        ingest.write(DATA)
        ingest.seal()
        ingest.commit(digest)
    assert blobs.read(digest, 100) == DATA


@pytest.mark.parametrize(("expected", "size"), [(digests.of(b"x"), None), (DIGEST, 3), (DIGEST, 10**9)])
def test_mismatch(blobs: Blobs, expected: digests.Digest, size: int | None) -> None:
    """What is not as promised never becomes visible, and leaves nothing."""
    with blobs.ingest() as ingest:
        ingest.write(DATA)
        with pytest.raises(DigestMismatch):
            ingest.commit(expected, size)
    assert list(blobs.walk()) == []
    assert os.listdir(blobs.ingests) == []


def test_abandoned(blobs: Blobs) -> None:
    """A nameless ingest that is not committed leaves nothing; one with a name goes on where it was."""
    with blobs.ingest() as ingest:
        ingest.write(DATA)
    assert os.listdir(blobs.ingests) == []
    with blobs.ingest("layer") as ingest:
        ingest.write(DATA[:5])
    with blobs.ingest("layer") as ingest:
        assert ingest.offset == 5
        ingest.write(DATA[5:])
        ingest.commit(DIGEST, len(DATA))
    assert blobs.exists(DIGEST)
    with blobs.ingest("layer") as ingest:
        assert ingest.offset == 0


def test_restart_of_an_ingest(blobs: Blobs) -> None:
    """An ingest can begin anew when its source turned out to be another."""
    with blobs.ingest("layer") as ingest:
        ingest.write(b"wrong and longer than it should be")
        ingest.restart()
        ingest.write(DATA)
        assert ingest.commit(DIGEST, len(DATA)) == DIGEST


def test_two_writers(blobs: Blobs) -> None:
    """One ingest has one writer."""
    with blobs.ingest("layer"), pytest.raises(Unavailable):
        blobs.ingest("layer")
    blobs.ingest("layer").close()


def test_full_disk(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told as such, and leaves nothing."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with blobs.ingest() as ingest:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(KernelError, match="no space left on device"):
            ingest.write(DATA)
        monkeypatch.undo()
    assert os.listdir(blobs.ingests) == []


def test_sweep(blobs: Blobs) -> None:
    """A sweep takes what a crash left, and leaves resumable ingests, live ones, and what is not its own."""
    os.makedirs(f"{blobs.ingests}/_{'0' * 32}")
    with open(f"{blobs.ingests}/_{'0' * 32}/data", "wb") as file:
        file.write(DATA)
    os.makedirs(f"{blobs.ingests}/layer-0123")
    with blobs.ingest("kept") as kept:
        kept.write(DATA)
    live = blobs.ingest()
    live.write(DATA)
    assert blobs.sweep() == 1
    assert os.path.isdir(f"{blobs.ingests}/layer-0123")
    live.commit(DIGEST)
    with blobs.ingest("kept") as kept:
        assert kept.offset == len(DATA)
    assert blobs.sweep(keep_seconds=-1) == 1


def test_remove(blobs: Blobs) -> None:
    """A removed blob is gone at once; who holds it open still reads it."""
    blobs.write(DATA)
    fd = blobs.open(DIGEST)
    try:
        assert blobs.remove(DIGEST)
        assert not blobs.remove(DIGEST)
        assert os.read(fd, 100) == DATA
    finally:
        os.close(fd)
    for call in (blobs.open, blobs.size):
        with pytest.raises(NotFound):
            call(DIGEST)


def test_damaged(blobs: Blobs) -> None:
    """A document that no longer is what its name says is not given out."""
    blobs.write(DATA)
    os.chmod(blobs.path(DIGEST), 0o644)
    with open(blobs.path(DIGEST), "wb") as file:
        file.write(b"other content")
    with pytest.raises(StoreCorrupt, match="does not match"):
        blobs.read(DIGEST, 100)
    with pytest.raises(StoreCorrupt, match="larger"):
        blobs.read(DIGEST, 3)


def test_write_atomic(tmp_path: Path) -> None:
    """A file is replaced as one step, and a failed write leaves the old one and nothing else."""
    path = f"{tmp_path}/file"
    write_atomic(path, b"one", 0o640)
    write_atomic(path, b"two", durable=False)
    assert Path(path).read_bytes() == b"two"
    os.mkdir(f"{tmp_path}/directory")
    with pytest.raises(OSError, match="directory"):
        write_atomic(f"{tmp_path}/directory", b"x")
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_discard(tmp_path: Path) -> None:
    """What is discarded lies in the trash, which is made when it is missing."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    moved = discard(f"{tmp_path}/tree", f"{tmp_path}/trash")
    assert moved is not None
    assert os.path.isdir(f"{moved}/sub")
    assert discard(f"{tmp_path}/tree", f"{tmp_path}/trash") is None

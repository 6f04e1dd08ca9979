"""Blobs by digest: written once, verified, then read-only under the name of their content.

    blobs/<algorithm>/<hex>      0444, complete and verified by construction
    ingest/<key>/data            what is being written
    ingest/<key>/ref             who wrote it and may go on (resumable ones only)

A key is 64 hex digits for a resumable ingest, `_` and 32 for another; what else lies there is not this module's.

A blob is visible only after its ingest was committed: length and digest checked, fsync, rename, fsync of the
directory. What a crash leaves is an ingest: one with a `ref` is taken up again, the others go with `sweep`.
All methods are plain file operations and may block; callers on an event loop use a thread.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from typing import Self

from wherry.errors import DigestMismatch, KernelError, NotFound, StoreCorrupt, Unavailable
from wherry.oci import digest as digests
from wherry.oci.digest import Digest, Verifier
from wherry.store.atomic import discard, fsync_dir

_CHUNK = 1 << 20


class Blobs:
    """The blob store of one data root.

    Args:
        root: directory of the blobs.
        ingest: directory of the ingests, on the same file system.
        trash: where removed blobs go.
    """

    def __init__(self, root: str, ingest: str, trash: str) -> None:
        self.root = root
        self.ingests = ingest
        self.trash = trash
        for directory in (ingest, trash, *(f"{root}/{name}" for name in digests.ALGORITHMS)):
            os.makedirs(directory, 0o700, exist_ok=True)

    def path(self, digest: Digest) -> str:
        """Where the blob lies, if it is there."""
        return f"{self.root}/{digest.algorithm}/{digest.hex}"

    def exists(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        return os.path.exists(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Length in bytes. Raises `NotFound`."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFound(f"blob {digest}: not found", digest=digest) from None

    def open(self, digest: Digest) -> int:
        """Return a read-only descriptor of the blob; the caller closes it. Raises `NotFound`."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"blob {digest}: not found", digest=digest) from None

    def read(self, digest: Digest, limit: int) -> bytes:
        """Return a small blob (a document) after hashing it again.

        Raises:
            NotFound: it is not there.
            StoreCorrupt: it is larger than `limit`, or no longer what its name says.
        """
        fd = self.open(digest)
        with os.fdopen(fd, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StoreCorrupt(f"blob {digest}: larger than {limit} bytes", digest=digest)
        if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
            raise StoreCorrupt(f"blob {digest}: content does not match its digest", digest=digest)
        return data

    def write(self, data: bytes, expected: Digest | None = None) -> Digest:
        """Store `data` and return its digest; a blob that is already there is left alone."""
        digest = expected or digests.of(data)
        if self.exists(digest):
            return digest
        with self.ingest() as ingest:
            ingest.write(data)
            return ingest.commit(digest, len(data))

    def sync_names(self) -> None:
        """Make the names of blobs durable that were committed as `synced`."""
        for algorithm in digests.ALGORITHMS:
            fsync_dir(f"{self.root}/{algorithm}")

    def ingest(self, ref: str | None = None) -> "Ingest":
        """Begin to write a blob.

        Args:
            ref: a name under which an interrupted ingest is found again (`offset` says how much is there already);
                None for one that ends with this process.

        Raises:
            Unavailable: somebody else writes the ingest of that name.
            KernelError: it cannot be made (the disk is full); nothing holds it.
        """
        return Ingest(self, ref)

    def pending(self, ref: str) -> int:
        """Bytes that the ingest of that name has so far; 0 where there is none."""
        directory = f"{self.ingests}/{_key(ref)}"
        try:
            return os.stat(f"{directory}/data").st_size if os.path.exists(f"{directory}/ref") else 0
        except FileNotFoundError:
            return 0

    def walk(self) -> Iterator[tuple[Digest, int]]:
        """Yield digest and size of every blob."""
        for algorithm, length in digests.ALGORITHMS.items():
            with os.scandir(f"{self.root}/{algorithm}") as entries:
                for entry in entries:
                    if len(entry.name) == length and digests.is_hex(entry.name):
                        yield Digest(f"{algorithm}:{entry.name}"), entry.stat(follow_symlinks=False).st_size

    def remove(self, digest: Digest) -> bool:
        """Take the blob away; who holds it open keeps it. Returns whether it was there.

        Raises:
            KernelError: it could not be moved.
        """
        try:
            return discard(self.path(digest), self.trash) is not None
        except OSError as error:
            raise KernelError("remove blob", error.errno or 0, self.path(digest)) from error

    def sweep(self, keep_seconds: float = 7 * 86400) -> int:
        """Remove what interrupted writers left: all nameless ingests, and named ones older than `keep_seconds`.

        Only for the start of an engine, or for ingests that nobody holds: a locked one is left alone.

        Returns:
            how many were removed.
        """
        count = 0
        for key in os.listdir(self.ingests):
            if not (digests.is_hex(key) or (key.startswith("_") and digests.is_hex(key[1:]))):
                continue
            directory = f"{self.ingests}/{key}"
            try:
                # one without data was killed when its blob had just become visible
                resumable = os.path.exists(f"{directory}/ref") and os.path.exists(f"{directory}/data")
                fresh = resumable and time.time() - os.stat(directory).st_mtime < keep_seconds
                if fresh or not _unlocked(f"{directory}/data"):
                    continue
            except FileNotFoundError:
                continue  # it was committed or aborted meanwhile
            count += discard(directory, self.trash) is not None
        return count


class Ingest:
    """A blob that is being written. A context manager: what was not committed is aborted, or kept if it has a ref."""

    def __init__(self, blobs: Blobs, ref: str | None) -> None:
        self._blobs = blobs
        self.ref = ref
        key = _key(ref) if ref is not None else "_" + secrets.token_hex(16)
        self._directory = f"{blobs.ingests}/{key}"
        self.path = f"{self._directory}/data"
        self._fd = -1
        self._verifier = Verifier()
        self._done = False
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if ref is not None:
                self._resume(ref)
        except BlockingIOError:
            self.seal()
            raise Unavailable(f"ingest {ref}: is being written by somebody else", ref=ref) from None
        except OSError as error:
            # the lock goes with the descriptor: the next attempt finds what came so far
            self.close()
            raise KernelError("begin blob", error.errno or 0, self.path) from error

    def _resume(self, ref: str) -> None:
        if not os.path.exists(f"{self._directory}/ref"):
            os.ftruncate(self._fd, 0)
            fd = os.open(f"{self._directory}/ref", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(ref)
        # what is there was written by us and perhaps not synced: hashed again, it is trusted only through the digest
        while chunk := os.read(self._fd, _CHUNK):
            self._verifier.update(chunk)

    @property
    def offset(self) -> int:
        """Bytes written so far, those of an earlier attempt included."""
        return self._verifier.size

    @property
    def digest(self) -> Digest:
        """The sha256 digest of what was written so far."""
        return self._verifier.digest

    def write(self, data: "bytes | memoryview") -> None:
        """Append `data`. Raises `KernelError` (the disk is full)."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise KernelError("write blob", error.errno or 0, self.path) from error
        self._verifier.update(data)

    def read_fd(self) -> int:
        """Return a new read-only descriptor of what is written; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def seal(self) -> None:
        """Nothing more is written, and no descriptor is held: an archive has more members than a process has those."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def restart(self) -> None:
        """Throw away what was written and begin at 0 (the source turned out to be another)."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._verifier = Verifier()

    def commit(self, expected: Digest | None = None, size: int | None = None, *, synced: bool = False) -> Digest:
        """Verify what was written and make it visible. Idempotent for a blob that is already there.

        A resumable ingest stays for the next attempt where the disk is full.

        Args:
            expected: the digest it must have; None takes sha256 of what came.
            size: the length it must have.
            synced: what was written is durable already, and the caller makes the blob's name so (`Blobs.sync_names`).

        Raises:
            DigestMismatch: it is something else; nothing becomes visible, and the ingest is gone.
            KernelError: a system call failed.
        """
        try:
            digest = self._verify(expected, size)
        except DigestMismatch:
            self.abort()
            raise
        return self._make_visible(digest, synced=synced)

    def write_fd(self) -> int:
        """Return a new descriptor for a worker that writes the whole content, and hashes it while it does.

        The caller closes it. What was written so is committed by `commit_written`.
        """
        return os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def commit_written(self, digest: Digest, size: int) -> Digest:
        """Make visible what a worker of ours wrote through `write_fd`, under the digest that it made on the way.

        Raises:
            DigestMismatch: the file has another length; nothing becomes visible, and the ingest is gone.
        """
        found = os.stat(self.path).st_size
        if found != size:
            self.abort()
            raise DigestMismatch(f"unexpected size {found}, expected {size}: {digest}", expected=size, found=found)
        return self._make_visible(digest)

    def _make_visible(self, digest: Digest, *, synced: bool = False) -> Digest:
        target = self._blobs.path(digest)
        try:
            if not os.path.exists(target):
                self._reopen()
                os.fchmod(self._fd, 0o444)
                if not synced:
                    os.fsync(self._fd)
                os.rename(self.path, target)
                if not synced:
                    fsync_dir(os.path.dirname(target))
        except OSError as error:
            if os.path.exists(target):
                self._finish()
            self.close()
            raise KernelError("store blob", error.errno or 0, target) from error
        self._finish()
        return digest

    def _verify(self, expected: Digest | None, size: int | None) -> Digest:
        if expected is None or expected.algorithm == "sha256":
            self._verifier.expected = expected
            return self._verifier.verify(size)
        again = Verifier(expected)
        self._reopen()
        os.lseek(self._fd, 0, os.SEEK_SET)
        while chunk := os.read(self._fd, _CHUNK):
            again.update(chunk)
        return again.verify(size)

    def _reopen(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def abort(self) -> None:
        """Throw the ingest away."""
        if not self._done:
            self._finish()

    def close(self) -> None:
        """Stop writing; a resumable ingest stays for the next attempt."""
        if self._done:
            return
        if self.ref is None:
            self._finish()
        else:
            self._done = True
            self.seal()

    def _finish(self) -> None:
        self._done = True
        self.seal()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(ref: str) -> str:
    return hashlib.sha256(ref.encode()).hexdigest()


def _unlocked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # killed between mkdir and open
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True

"""An image archive as a table of its members. Nothing is ever extracted by name.

Each file of the archive goes, as it is read, into an ingest of the blob store (a small one stays in memory), hashed on
the way; links become entries of the table, and names are looked up there and nowhere else.
"""

import posixpath
from typing import Self

from wherry.errors import HostileInput, InvalidArgument
from wherry.oci.digest import Digest, Verifier
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, TarReader
from wherry.store.blobs import Blobs, Ingest

# an archive of images has a few members for each layer; a layer has millions
LIMITS = Limits(max_entries=65536, max_path=1024)
_IN_MEMORY = 256 << 10
_MEMORY_TOTAL = 32 << 20
_LINKS = 16
_CHUNK = 1 << 20


class Member:
    """One file of an archive: its length, its sha256 digest and, in `data` or in `ingest`, its content."""

    __slots__ = ("data", "digest", "ingest", "name", "size")

    def __init__(self, name: str, size: int, digest: Digest, data: bytes | None, ingest: Ingest | None) -> None:
        self.name = name
        self.size = size
        self.digest = digest
        self.data = data
        self.ingest = ingest

    def read(self, limit: int) -> bytes:
        """Return the content of a document. Raises `HostileInput` where it is larger than `limit`."""
        if self.size > limit:
            raise HostileInput(f"archive member {self.name!r} is larger than {limit} bytes")
        if self.data is not None:
            return self.data
        assert self.ingest is not None
        with open(self.ingest.path, "rb") as file:
            return file.read()

    def verify(self, expected: Digest) -> None:
        """Hash the content with another algorithm than sha256. Raises `DigestMismatch`."""
        verifier = Verifier(expected)
        if self.data is not None:
            verifier.update(self.data)
        elif self.ingest is not None:
            with open(self.ingest.path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    verifier.update(chunk)
        verifier.verify()

    def store(self, blobs: Blobs, expected: Digest) -> None:
        """Make the content a blob under `expected` (another algorithm's digest is computed again).

        A large one was synced before, and `Blobs.sync_names` comes after it.

        Raises:
            DigestMismatch: it is something else.
        """
        if self.data is not None:
            blobs.write(self.data, expected)
        elif self.ingest is not None:
            self.ingest.commit(expected, self.size, synced=True)
            self.ingest = None


class Members:
    """All members of an archive by name. A context manager: what was not stored goes when it ends."""

    def __init__(self) -> None:
        self.files: dict[str, Member] = {}
        self.by_digest: dict[str, Member] = {}
        self._links: dict[str, str] = {}

    def find(self, name: str) -> Member | None:
        """Return the member of that name, links followed inside the table; None if there is none.

        Raises:
            HostileInput: links in a circle.
        """
        path = normalized(name)
        for _ in range(_LINKS):
            member = self.files.get(path)
            if member is not None or path not in self._links:
                return member
            path = self._links[path]
        raise HostileInput(f"archive member {name!r} is a link that leads nowhere")

    def get(self, name: str) -> Member:
        """Return the member of that name. Raises `InvalidArgument` if there is none."""
        member = self.find(name)
        if member is None:
            raise InvalidArgument(f"invalid archive: {name!r} is missing")
        return member

    def add(self, member: Member) -> None:
        """Put a file into the table."""
        self._new(member.name)
        self.files[member.name] = member
        self.by_digest.setdefault(member.digest, member)

    def link(self, name: str, target: str) -> None:
        """Put a link into the table."""
        self._new(name)
        self._links[name] = target

    def close(self) -> None:
        """Throw away what was not stored."""
        for member in self.files.values():
            if member.ingest is not None:
                member.ingest.abort()
                member.ingest = None

    def _new(self, name: str) -> None:
        if name in self.files or name in self._links:
            raise HostileInput(f"archive member {name!r} is there twice")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def normalized(name: str) -> str:
    """Return a member's name without `./` and doubled slashes. Raises `HostileInput` where it leaves the archive."""
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path in ("..", ".") or "\0" in path:
        raise HostileInput(f"archive member {name!r} is outside of the archive")
    return path


def read_archive(fd: int, blobs: Blobs, members: Members) -> None:
    """Read an archive from `fd` to its end, and fill `members`. Blocks: for a thread.

    Args:
        fd: the archive: tar, or one compressed by gzip, zstd, xz or bzip2.
        blobs: where large members are written.
        members: an empty table; the caller closes it also when this fails.

    Raises:
        HostileInput, StoreCorrupt, NotSupported: as the readers of `snapshots`; or a member that no image has.
    """
    stream = Stream(fd, LIMITS)
    reader = TarReader(stream, LIMITS)
    in_memory = 0
    while (entry := reader.next()) is not None:
        raw = entry.name.decode("utf-8", "surrogateescape")
        if entry.type == DIRECTORY:
            continue
        name = normalized(raw)
        if entry.type == FILE:
            member = _spool(reader, name, entry.size, blobs, in_memory)
            if member.data is not None:
                in_memory += member.size
            members.add(member)
        elif entry.type in (SYMLINK, HARDLINK):
            target = entry.linkname.decode("utf-8", "surrogateescape")
            if entry.type == SYMLINK:
                target = posixpath.join(posixpath.dirname(name), target)
            members.link(name, normalized(target))
        else:
            raise HostileInput(f"archive member {name!r} is neither a file nor a link")
    stream.drain()


def _spool(reader: TarReader, name: str, size: int, blobs: Blobs, in_memory: int) -> Member:
    if size <= _IN_MEMORY and in_memory + size <= _MEMORY_TOTAL:
        parts: list[bytes] = []
        verifier = Verifier()
        while data := reader.read(_CHUNK):
            parts.append(data)
            verifier.update(data)
        return Member(name, verifier.size, verifier.digest, b"".join(parts), None)
    ingest = blobs.ingest()
    try:
        while data := reader.read(_CHUNK):
            ingest.write(data)
        ingest.seal()
    except BaseException:
        ingest.abort()
        raise
    return Member(name, ingest.offset, ingest.digest, None, ingest)

"""What a storage driver is.

A key is a path of plain parts (`a/b/c`). Values appear and change whole: a reader sees the old bytes or the new ones,
and when a method that writes returns, a crash of the machine no longer undoes it. Methods block and may be called from
any thread. Every failure is a class of `wherry.errors`; a full device is `OutOfSpace`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol, Self

from wherry.errors import InvalidArgument, NotFound


class Missing(NotFound):
    """No value has that key."""


class Stat:
    """What is known of a value.

    Attributes:
        size: bytes.
        modified: when it was written or touched, nanoseconds since the epoch.
        version: changes whenever the key's value is replaced.
        identity: equal for keys that share one value (links).
        links: how many keys share it, as far as the driver knows.
    """

    __slots__ = ("identity", "links", "modified", "size", "version")

    def __init__(self, size: int, modified: int, version: str, identity: str, links: int) -> None:
        self.size = size
        self.modified = modified
        self.version = version
        self.identity = identity
        self.links = links


class Reader(Protocol):
    """One value, open; it stays readable when its key is deleted or replaced."""

    size: int
    stat: Stat

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end."""

    def fileno(self) -> int:
        """A descriptor for sendfile(2), or -1 where there is none."""

    def close(self) -> None:
        """Give up the value."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class Writer(Protocol):
    """A value that grows. It is no value yet: only `commit` gives it a key that readers see whole.

    Nobody else can open it for writing meanwhile. What was written stays when the writer is closed, or its process
    ends, and can be continued.
    """

    size: int

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        """Append all of `data`; on failure `size` is what is surely there."""

    def truncate(self, size: int) -> None:
        """Drop everything behind `size`."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Read back what was written."""

    def sync(self) -> None:
        """Make what was written durable."""

    def commit(self, target: str) -> None:
        """Sync, move the value to the key `target` (replacing what is there), and close."""

    def cancel(self) -> None:
        """Delete what was written, and close."""

    def close(self) -> None:
        """Keep what was written, to be continued."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class Driver(Protocol):
    """A place for values."""

    def stat(self, key: str) -> Stat | None:
        """What is known of a value; None if there is none."""

    def read(self, key: str, limit: int) -> tuple[bytes, Stat]:
        """The whole value.

        Raises:
            Missing: there is none.
            StoreCorrupt: it has more than `limit` bytes.
        """

    def open(self, key: str) -> Reader:
        """Open a value. Raises `Missing`."""

    def put(self, key: str, data: bytes) -> Stat:
        """Create or replace a value."""

    def create(self, key: str) -> Writer:
        """Start a value that grows."""

    def append(self, key: str) -> Writer:
        """Continue one.

        Raises:
            Missing: nothing of that key was started.
            Conflict: somebody else has it open for writing.
        """

    def link(self, source: str, target: str) -> None:
        """Make `target` the same value as `source` (shared, or a copy). Raises `Missing`."""

    def touch(self, key: str) -> None:
        """Set a value's `modified` to now. Raises `Missing`."""

    def delete(self, key: str) -> bool:
        """Delete a value, or what a writer left there; False if there was none. Need not be durable."""

    def list(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted; empty where there is nothing."""

    def prune(self, prefix: str) -> None:
        """Forget an empty prefix, and those below it that are empty."""

    def exclusive(self, key: str) -> AbstractContextManager[None]:
        """Hold a lock that excludes all threads and processes which use this place."""

    def sweep(self, before: int) -> int:
        """Delete what crashed writes left behind, if last changed before `before` (nanoseconds); return bytes."""


def walk(driver: Driver, prefix: str) -> Iterator[str]:
    """Every key below `prefix`, depth first."""
    for name in driver.list(prefix):
        key = f"{prefix}/{name}" if prefix else name
        if driver.stat(key) is not None:
            yield key
        else:
            yield from walk(driver, key)


def check_key(key: str) -> str:
    """Return `key` if it is one.

    Raises:
        InvalidArgument: an empty part, `.` or `..`, a NUL, or an absolute path.
    """
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidArgument(f"invalid storage key: {key[:200]!r}")
    return key

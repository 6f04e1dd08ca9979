"""A layer's bytes as a stream: read, hashed as they come, inflated, hashed again. Runs in forked workers.

Formats: plain tar, gzip (RFC 1952, several members), zstd (RFC 8878, several frames, skippable ones), xz, bzip2.
The decompressor's module is imported when the first bytes name it, that is before a worker confines itself. Output
comes in pieces of at most about 256 KiB whatever the input asks for, so a bomb meets its ceiling and not our memory.
"""

import os
from contextlib import suppress
from hashlib import sha256

from wherry.errors import HostileInput, NotSupported, StoreCorrupt, WherryError
from wherry.snapshots.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Decompressor(Protocol):
        """One member or frame: the interface of the standard library's bz2 and lzma."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


PIECE = 256 * 1024  # inflated bytes at a time: larger ones fall out of the processor's cache
_READ = 64 * 1024  # compressed bytes at a time: what is left over at the end of a member is copied

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\x00"
_BZIP2 = b"BZh"
_SKIPPABLE = b"\x2a\x4d\x18"
_LONGEST_MAGIC = 6


def load_all() -> None:
    """Import what inflates any format: for a worker that meets its archives only after it has confined itself."""
    for name in ("gzip", "zstd", "xz", "bzip2"):
        with suppress(NotSupported):  # told when an archive asks for it
            _factory(name, Limits())


class Stream:
    """The inflated bytes of a descriptor, piece by piece, with the digests of both sides.

    Args:
        fd: a file, pipe or socket to read to its end; stays open.
        limits: ceilings on size, ratio and members.

    Raises:
        HostileInput: a ceiling was passed.
        NotSupported: a format that this Python cannot inflate.
        StoreCorrupt: the compressed data is damaged, truncated or followed by something else.
    """

    __slots__ = (
        "_compressed_hash",
        "_decompressor",
        "_fd",
        "_first",
        "_hash",
        "_limits",
        "_members",
        "_new",
        "compressed_size",
        "format",
        "size",
    )

    def __init__(self, fd: int, limits: Limits) -> None:
        self._fd = fd
        self._limits = limits
        self._hash = sha256()
        self.size = 0
        self.compressed_size = 0
        self._members = 0
        self._decompressor: Decompressor | None = None
        first = b""
        while len(first) < _LONGEST_MAGIC and (data := os.read(fd, _READ)):
            first += data
        self._first = first
        self.format = _format(first)
        self._new = _factory(self.format, limits)
        self._compressed_hash = sha256() if self._new else self._hash

    @property
    def digest(self) -> str:
        """sha256 of the inflated bytes so far: the diff id, once the stream is at its end."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def compressed_digest(self) -> str:
        """sha256 of the bytes read so far."""
        return f"sha256:{self._compressed_hash.hexdigest()}"

    def piece(self) -> bytes:
        """Return the next inflated bytes, or `b""` at the end of the stream."""
        data = self._inflate() if self._new else self._read(PIECE)
        if not data:
            return b""
        self.size += len(data)
        if self._new:
            self._hash.update(data)
            limits = self._limits
            if self.size > limits.ratio_floor and self.size > limits.ratio * self.compressed_size:
                raise HostileInput(
                    f"decompression bomb: more than {limits.ratio} bytes out of each byte in", ratio=limits.ratio
                )
        if self.size > self._limits.max_bytes:
            raise HostileInput(f"archive is larger than {self._limits.max_bytes} bytes", limit=self._limits.max_bytes)
        return data

    def drain(self) -> None:
        """Read to the end, so that the digests are those of the whole."""
        while self.piece():
            continue

    def _read(self, size: int) -> bytes:
        data, self._first = self._first, b""
        if not data:
            data = os.read(self._fd, size)
        self._compressed_hash.update(data)
        self.compressed_size += len(data)
        return data

    def _inflate(self) -> bytes:
        """Return inflated bytes, starting the next member where one ends; `b""` where the input ends with a member."""
        data = b""
        while True:
            decompressor = self._decompressor
            if decompressor is None or decompressor.eof:
                data = self._next_member(decompressor.unused_data if decompressor else b"")
                if not data:
                    return b""
            elif decompressor.needs_input:
                data = self._read(_READ)
                if not data:
                    raise StoreCorrupt(f"{self.format} data is truncated", size=self.compressed_size)
            out = self._decompress(data)
            data = b""
            if out:
                return out

    def _decompress(self, data: bytes) -> bytes:
        assert self._decompressor
        try:
            return self._decompressor.decompress(data, PIECE)
        except (MemoryError, WherryError):
            raise
        except Exception as error:  # noqa: BLE001
            # Each module has an error class of its own, and what they raise is about the data.
            if "memory usage limit" in str(error).lower():
                raise HostileInput(f"{self.format} data asks for too much memory") from None
            raise StoreCorrupt(f"{self.format} data is damaged: {error}") from None

    def _next_member(self, rest: bytes) -> bytes:
        """Start a decompressor if another member begins with `rest` or behind it; return its first bytes."""
        assert self._new
        # xz pads its streams with zeros (.xz format, 2.2).
        padding = b"\0" if self._members and self.format == "xz" else b""
        while len(rest := rest.lstrip(padding)) < _LONGEST_MAGIC and (more := self._read(_READ)):
            rest += more
        if not rest:
            return b""
        self._members += 1
        if self._members > self._limits.max_entries:
            raise HostileInput(f"{self.format} data has more than {self._limits.max_entries} members")
        if self._members > 1 and _format(rest) != self.format:
            raise StoreCorrupt(f"{self.format} data is followed by something else", size=self.compressed_size)
        self._decompressor = self._new()
        return rest


def _format(first: bytes) -> str:
    if first.startswith(_GZIP):
        return "gzip"
    if first.startswith(_ZSTD) or (first[1:4] == _SKIPPABLE and first[0] & 0xF0 == 0x50):
        return "zstd"
    if first.startswith(_XZ):
        return "xz"
    if first.startswith(_BZIP2):
        return "bzip2"
    return "tar"


def _factory(name: str, limits: Limits) -> "Callable[[], Decompressor] | None":
    """Import what inflates `name`, and return what makes a decompressor of one member; None for plain data."""
    if name == "gzip":
        from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor

        return lambda: IgzipDecompressor(flag=DECOMP_GZIP)
    if name == "zstd":
        from wherry.snapshots.zstd import Frame

        return lambda: Frame(limits.zstd_window)
    try:
        if name == "xz":
            from _lzma import FORMAT_XZ, LZMADecompressor

            return lambda: LZMADecompressor(format=FORMAT_XZ, memlimit=limits.lzma_memory)
        if name == "bzip2":
            from _bz2 import BZ2Decompressor

            return BZ2Decompressor
    except ImportError:
        raise NotSupported(f"this Python was built without {name}") from None
    return None

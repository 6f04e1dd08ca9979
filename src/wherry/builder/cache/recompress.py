"""How an exported cache's layers are compressed: as they are stored, or as the caller asks. Everything here blocks."""

import hashlib
import os
from typing import Protocol

from msgspec import Struct

from wherry.errors import InvalidArgument, StoreCorrupt
from wherry.images.archives import layer_media_type
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.store.blobs import Blobs, Ingest
from wherry.store.images import LayerRecord

_CHUNK = 1 << 20
_LEVELS = {"gzip": (0, 9), "zstd": (0, 22), "uncompressed": (0, 0)}
_TYPES = {
    "gzip": documents.OCI_LAYER + "+gzip",
    "zstd": documents.OCI_LAYER + "+zstd",
    "uncompressed": documents.OCI_LAYER,
}


class Packing(Struct, frozen=True):
    """How to compress.

    Args:
        kind: `gzip`, `zstd`, `uncompressed`, or "" for what is there.
        level: the form's; -1 for its usual one.
    """

    kind: str = ""
    level: int = -1


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def packing(compression: str, level: str) -> Packing:
    """Read BuildKit's `compression=` and `compression-level=`.

    Raises:
        InvalidArgument: a form that there is not, or is not supported; a level that is none.
    """
    if compression == "estargz":
        raise InvalidArgument("compression=estargz is not supported: gzip, zstd and uncompressed are")
    if compression not in ("", *_TYPES):
        raise InvalidArgument(f'unsupported compression type "{compression}"')
    if not level:
        return Packing(compression)
    low, high = _LEVELS[compression or "gzip"]
    if not level.isascii() or not level.isdigit() or not low <= int(level) <= high:
        raise InvalidArgument(f"invalid compression-level {level!r} for {compression or 'gzip'}: {low} to {high}")
    return Packing(compression or "gzip", int(level))


def _compressor(how: Packing) -> _Compressor:
    if how.kind == "uncompressed":
        return _Plain()
    if how.kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(how.level if how.level >= 0 else 3).compressobj()
    if how.level >= 0:
        import zlib

        return zlib.compressobj(how.level, wbits=31)
    from isal import isal_zlib

    return isal_zlib.compressobj(level=2, wbits=31)


def fill(ingest: Ingest, fd: int, how: Packing) -> str:
    """Write a pipe's plain bytes to its end into an ingest, compressed; returns the digest of the plain ones.

    Closes the pipe, so that who writes into it does not wait for a reader that failed.
    """
    try:
        state, out = hashlib.sha256(), _compressor(how)
        while data := os.read(fd, _CHUNK):
            state.update(data)
            ingest.write(out.compress(data))
        ingest.write(out.flush())
        return f"sha256:{state.hexdigest()}"
    finally:
        os.close(fd)


def media_type(blobs: Blobs, layer: LayerRecord) -> str:
    """The media type of a stored layer."""
    fd = blobs.open(digests.parse(layer.blob))
    try:
        return layer_media_type(os.read(fd, 8))
    finally:
        os.close(fd)


def is_packed(blobs: Blobs, layer: LayerRecord, how: Packing) -> bool:
    """Whether a stored layer has the form that is asked for."""
    return not how.kind or (how.level < 0 and media_type(blobs, layer) == _TYPES[how.kind])


def repack(ingest: Ingest, blobs: Blobs, layer: LayerRecord, how: Packing) -> None:
    """Write a stored layer into an ingest in another form.

    Raises:
        StoreCorrupt, HostileInput: its content is not what it should be.
    """
    fd = blobs.open(digests.parse(layer.blob))
    try:
        stream, out = Stream(fd, Limits()), _compressor(how)
        while data := stream.piece():
            ingest.write(out.compress(data))
        ingest.write(out.flush())
        if stream.digest != layer.diff_id:
            raise StoreCorrupt(f"layer {layer.blob}: its content is {stream.digest}, expected {layer.diff_id}")
    finally:
        os.close(fd)

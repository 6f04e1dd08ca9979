"""Shared memory in which the workers of one server publish their counters, so that each can show the sum."""

import mmap
import os
import struct
import zlib
from typing import Final

_SLOT: Final = 128 << 10  # of one worker: two halves, written in turn, so that one of them is always whole
_HALF: Final = _SLOT // 2
_HEAD: Final = struct.Struct("<III")  # sequence number, length and checksum of the record that follows


def create(count: int) -> int:
    """Make a board for `count` workers; returns its descriptor (memfd_create(2))."""
    fd = os.memfd_create("wherry-registry-counts")
    os.ftruncate(fd, count * _SLOT)
    return fd


class Board:
    """One worker's view of the board.

    Args:
        fd: a descriptor from `create`; it may be closed afterwards.
        number: index of this worker, from 0.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._memory = mmap.mmap(fd, 0)
        self._count = len(self._memory) // _SLOT
        self._number = number
        self._written = max(self._halves(number), default=(0, b""))[0]

    def own(self) -> bytes | None:
        """Return the last record of this worker, or of the worker that it replaces."""
        return self._read(self._number)

    def others(self) -> list[bytes]:
        """Return the last record of each other worker."""
        found = [self._read(number) for number in range(self._count) if number != self._number]
        return [record for record in found if record is not None]

    def write(self, record: bytes) -> None:
        """Replace this worker's record; a record that does not fit is ignored."""
        if len(record) > _HALF - _HEAD.size:
            return
        self._written += 1
        start = self._number * _SLOT + self._written % 2 * _HALF
        self._memory[start + _HEAD.size : start + _HEAD.size + len(record)] = record
        self._memory[start : start + _HEAD.size] = _HEAD.pack(self._written, len(record), zlib.crc32(record))

    def _read(self, number: int) -> bytes | None:
        return max(self._halves(number), default=(0, None), key=lambda half: half[0])[1]

    def _halves(self, number: int) -> list[tuple[int, bytes]]:
        """Return the sequence numbers and records of a worker's slot, without a half that is empty or incomplete."""
        found = []
        for start in (number * _SLOT, number * _SLOT + _HALF):
            written, length, checksum = _HEAD.unpack_from(self._memory, start)
            record = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, _HALF - _HEAD.size)]
            if length and zlib.crc32(record) == checksum:
                found.append((written, record))
        return found

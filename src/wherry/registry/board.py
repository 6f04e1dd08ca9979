"""What the workers of one server count, side by side in memory that they share, so that each can tell of all."""

import json
import mmap
import os
import struct
import zlib
from typing import Any, Final

_SLOT: Final = 128 << 10  # of one worker: two halves, written in turn, so that one of them is always whole
_HALF: Final = _SLOT // 2
_HEAD: Final = struct.Struct("<III")  # number of the writing, length and checksum of the JSON text behind it


def create(count: int) -> int:
    """Make a board for `count` workers; returns its descriptor (memfd_create(2))."""
    fd = os.memfd_create("wherry-registry-counts")
    os.ftruncate(fd, count * _SLOT)
    return fd


class Board:
    """One worker's view of the board.

    Args:
        fd: as `create` made it; it may be closed after.
        number: which worker this is, from 0.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._memory = mmap.mmap(fd, 0)
        self._count = len(self._memory) // _SLOT
        self._number = number
        self._written = max(self._halves(number), default=(0, {}), key=lambda half: half[0])[0]

    def own(self) -> dict[str, Any] | None:
        """What this worker, or the one that it replaces, wrote last."""
        return self._read(self._number)

    def others(self) -> list[dict[str, Any]]:
        """What the other workers wrote last."""
        found = [self._read(number) for number in range(self._count) if number != self._number]
        return [values for values in found if values is not None]

    def write(self, values: dict[str, Any]) -> None:
        """Show these values instead of the last; what does not fit leaves those."""
        text = json.dumps(values, separators=(",", ":")).encode()
        if len(text) > _HALF - _HEAD.size:
            return
        self._written += 1
        start = self._number * _SLOT + self._written % 2 * _HALF
        self._memory[start + _HEAD.size : start + _HEAD.size + len(text)] = text
        self._memory[start : start + _HEAD.size] = _HEAD.pack(self._written, len(text), zlib.crc32(text))

    def _read(self, number: int) -> dict[str, Any] | None:
        found = self._halves(number)
        return max(found, key=lambda half: half[0])[1] if found else None

    def _halves(self, number: int) -> list[tuple[int, dict[str, Any]]]:
        """What stands in the halves of a worker's slot; one that is being written, or never was, is left out."""
        found = []
        for start in (number * _SLOT, number * _SLOT + _HALF):
            written, length, checksum = _HEAD.unpack_from(self._memory, start)
            text = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, _HALF - _HEAD.size)]
            if length and zlib.crc32(text) == checksum:
                found.append((written, json.loads(text)))
        return found

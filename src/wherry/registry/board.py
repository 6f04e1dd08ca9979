"""What the workers of one server count, side by side in memory that they share, so that each can tell of all."""

import json
import mmap
import os
import struct
import zlib
from typing import Any, Final

_SLOT: Final = 64 << 10
_HEAD: Final = struct.Struct("<II")  # length and checksum of the JSON text behind it


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
        if len(text) > _SLOT - _HEAD.size:
            return
        start = self._number * _SLOT
        self._memory[start + _HEAD.size : start + _HEAD.size + len(text)] = text
        self._memory[start : start + _HEAD.size] = _HEAD.pack(len(text), zlib.crc32(text))

    def _read(self, number: int) -> dict[str, Any] | None:
        start = number * _SLOT
        for _ in range(3):  # it may be written at this moment
            length, checksum = _HEAD.unpack_from(self._memory, start)
            text = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, _SLOT)]
            if length and zlib.crc32(text) == checksum:
                values: dict[str, Any] = json.loads(text)
                return values
        return None
